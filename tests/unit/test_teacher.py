"""Roles, teacher responses, and the pairing of queries with them; the endpoint is the scripted stand-in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import tasks.generation.roles
from infra.config import ConfigError
from infra.output import Output, Resources
from infra.runtime import Endpoint, Runtime
from infra.store import Store
from tasks.generation.chat import SYSTEM_PROMPT, ask_messages, lay_out
from tasks.generation.pairing import pair_up
from tasks.generation.roles import open_role
from tasks.generation.teacher import SOURCE_SOLUTIONS, Ask, TeacherConfig, source_responses, teacher_responses
from tasks.records import Domain, Message, Query, Response

TEACHER = TeacherConfig(model="scripted-stand-in/teacher", temperature=1.0, max_tokens=512)


def query(number: int, domain: Domain = Domain.MATH, **fields: object) -> Query:
    text = f"Start with {number}, add 5, multiply by 2. What is the result?"
    known = {"messages": (Message(role="user", content=text),), "answer": str(2 * (number + 5))}
    return Query.model_validate({"id": f"q{number:03}", "domain": domain, "source": "s", **known, **fields})


def response(query_id: str, index: int = 0) -> Response:
    return Response(query_id=query_id, model="m", sample_index=index, text=f"{query_id}/{index}", finish_reason="stop")


@pytest.fixture
def runtime() -> Runtime:
    return Runtime(endpoints={"teacher": Endpoint(base_url="stand-in", max_concurrency=8)})


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Output]:
    resources = Resources()
    (tmp_path / "scratch").mkdir()
    output = Output("ask", tmp_path / "scratch", Store(str(tmp_path / "store"), tmp_path / "local"), resources)
    yield output
    output.close()
    resources.close()


def test_responses_come_in_the_order_of_the_queries(out: Output, runtime: Runtime) -> None:
    asks = [Ask(query(number), 1 + number % 3) for number in range(40)]
    groups = list(teacher_responses(asks, TEACHER, out, runtime))
    for ask, group in zip(asks, groups, strict=True):
        assert {r.query_id for r in group} == {ask.query.id}
        assert [r.sample_index for r in group] == list(range(ask.num_samples))
    right = sum(
        f"\\boxed{{{ask.query.answer}}}" in r.text for ask, group in zip(asks, groups, strict=True) for r in group
    )
    assert right > 0.7 * sum(map(len, groups))
    assert out.cost.completion_tokens > 0
    assert out.cost.cache_hits == 0


def test_more_samples_keep_the_first_ones_at_no_cost(out: Output, runtime: Runtime) -> None:
    four = next(teacher_responses([Ask(query(8), 4)], TEACHER, out, runtime))
    eight = next(teacher_responses([Ask(query(8), 8)], TEACHER, out, runtime))
    assert eight[:4] == four
    assert out.cost.cache_hits == 4
    assert len({r.text for r in eight}) > 1


def test_what_costs_money_is_estimated_before_it_is_asked(out: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    prices = {"usd_per_million_prompt_tokens": 1.0, "usd_per_million_completion_tokens": 10.0}
    paid = Runtime(endpoints={"teacher": Endpoint(base_url="stand-in", **prices)})
    told: list[str] = []
    monkeypatch.setattr(tasks.generation.roles, "tell", told.append)
    for num_samples in (2, 2, 3):
        list(teacher_responses([Ask(query(1), num_samples)], TEACHER, out, paid))
    first, second = told  # nothing is told where the cache has all
    assert "0 samples are there, 2 to ask, at most " in first
    assert "2 samples are there, 1 to ask, at most " in second
    assert "$" in first or "USD" in first


def test_a_real_model_is_never_played_by_the_script(out: Output, runtime: Runtime) -> None:
    with pytest.raises(ConfigError, match="deepseek-r1, but the profile gives this role the scripted stand-in"):
        open_role(out, runtime, "teacher", "deepseek-r1")
    with pytest.raises(ConfigError, match="no endpoint for `arbiter`"):
        open_role(out, runtime, "arbiter", "o4-mini")


def test_source_solutions_are_laid_out_and_ask_no_model(out: Output) -> None:
    config = TeacherConfig(model=SOURCE_SOLUTIONS)
    asks = [Ask(query(1, solution="1 + 5 = 6; 6 * 2 = 12"), 4), Ask(query(2), 4)]
    first, second = teacher_responses(asks, config, out, Runtime())
    assert [r.text for r in first] == ["<think>\n1 + 5 = 6; 6 * 2 = 12\n</think>\n<answer>\n\\boxed{12}\n</answer>"]
    assert second == []


@pytest.mark.parametrize(
    ("domain", "fields", "text"),
    [
        (Domain.CODE, {"solution": "print(1)"}, "<think>\n</think>\n<answer>\n```python\nprint(1)\n```\n</answer>"),
        (Domain.CHAT, {"solution": "Hello."}, "<think>\n</think>\n<answer>\nHello.\n</answer>"),
        (Domain.MATH, {"solution": "See above.", "answer": None}, None),
        (Domain.CHAT, {"solution": ""}, None),
    ],
)
def test_the_form_of_a_source_solution_is_its_domains(domain: Domain, fields: dict[str, object], text: str) -> None:
    assert [r.text for r in source_responses(query(1, domain, **fields))] == ([text] if text else [])


@pytest.mark.parametrize(
    ("made", "wish"),
    [
        (query(1), "\\boxed{} within"),
        (query(1, Domain.SCIENCE, choices=("1", "2"), answer="B"), "\\boxed{B}"),
        (query(1, Domain.CODE), "```python"),
        (query(1, Domain.CHAT), SYSTEM_PROMPT),
    ],
)
def test_the_form_of_the_answer_is_asked_in_the_system_turn_alone(made: Query, wish: str) -> None:
    system, user = ask_messages(made)
    assert system["content"].startswith(SYSTEM_PROMPT)
    assert wish in system["content"]
    assert user == {"role": "user", "content": made.prompt}


def test_a_dialogs_own_system_turn_follows_ours() -> None:
    turns = tuple(
        Message(role=r, content=t)
        for r, t in [("system", "Be terse."), ("user", "Hi"), ("assistant", "Yo"), ("user", "Bye")]
    )
    asked = ask_messages(query(1, Domain.CHAT, messages=turns))
    assert [turn["role"] for turn in asked] == ["system", "user", "assistant", "user"]
    assert asked[0]["content"] == f"{SYSTEM_PROMPT}\nBe terse."


def test_empty_thinking_leaves_an_empty_part() -> None:
    assert lay_out(" ", " 4\n") == "<think>\n</think>\n<answer>\n4\n</answer>"


def test_pairing_leaves_gaps_where_nobody_answered() -> None:
    queries = [query(1), query(2), query(3)]
    pairs = list(pair_up(queries, [response("q001", 1), response("q001", 0), response("q003")]))
    assert [[r.sample_index for r in pair.responses] for pair in pairs] == [[0, 1], [], [0]]
    assert [pair.query for pair in pairs] == queries
    assert [pair.responses for pair in pair_up(queries, [])] == [[], [], []]


@pytest.mark.parametrize("ids", [["q003", "q001"], ["q009"], ["q001", "q002", "q001"]])
def test_responses_of_others_are_an_error(ids: list[str]) -> None:
    with pytest.raises(ValueError, match="not among the queries"):
        list(pair_up([query(1), query(2), query(3)], [response(query_id) for query_id in ids]))
