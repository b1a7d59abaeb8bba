"""The scripted stand-in over real HTTP, in each of its roles."""

import json
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from tasks.filter.judge_votes import read_rating
from tasks.filter.rewrite_checks import Fault, RewriteReason, Rewriting, read_rewriting
from tasks.procedural.families.problem import Style
from tasks.procedural.roles import Role, StandInConfig
from tasks.procedural.solver import solve
from tasks.procedural.stand_in import StandInServer

CHAIN = "Start with 7, add 5, multiply by 2, subtract 3. What is the result?"


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with StandInServer() as server, httpx.Client(base_url=server.url) as client:
        yield client


def ask(client: httpx.Client, role: str, prompt: str, **options: object) -> dict[str, object]:
    messages = [{"role": "system", "content": "Think first, then answer."}, {"role": "user", "content": prompt}]
    body = {"model": f"scripted-stand-in/{role}", "messages": messages, **options}
    reply = client.post("/chat/completions", json=body)
    assert reply.status_code == 200, reply.text
    content: dict[str, object] = reply.json()
    return content


def texts(reply: dict[str, object]) -> list[str]:
    choices = reply["choices"]
    assert isinstance(choices, list)
    return [choice["message"]["content"] for choice in choices]


def verdict(client: httpx.Client, role: str, prompt: str) -> dict[str, object]:
    content: dict[str, object] = json.loads(texts(ask(client, role, prompt))[0])
    return content


def test_every_reply_says_what_it_is(client: httpx.Client) -> None:
    for role in Role:
        reply = ask(client, role, CHAIN)
        assert reply["system_fingerprint"] == "scripted stand-in"
        assert str(reply["model"]).startswith("scripted stand-in")


def test_health_and_models(client: httpx.Client) -> None:
    assert client.get(str(client.base_url).removesuffix("v1/") + "health").json()["status"] == "ok"
    models = [model["id"] for model in client.get("/models").json()["data"]]
    assert models == [f"scripted-stand-in/{role}" for role in Role]


def test_the_teacher_is_mostly_right_and_a_majority_always(client: httpx.Client) -> None:
    answers = Counter(
        text.partition("\\boxed{")[2].partition("}")[0] for text in texts(ask(client, "teacher", CHAIN, n=1000))
    )
    assert answers.most_common(1)[0][0] == "21"
    assert 0.05 < 1 - answers["21"] / 1000 < 0.11
    assert len(answers) > 5  # mistakes differ, so that none of them makes a majority


def test_the_teacher_mixes_styles(client: httpx.Client) -> None:
    direct = [text.startswith("<think>\n</think>") for text in texts(ask(client, "teacher", CHAIN, n=400))]
    assert 0.14 < sum(direct) / 400 < 0.26  # a fifth of them
    with StandInServer(StandInConfig(direct_share=0, error_rate=0)) as server, httpx.Client(base_url=server.url) as own:
        solution = solve(CHAIN)
        assert solution is not None
        assert set(texts(ask(own, "teacher", CHAIN, n=50))) == {solution.render(Style.STEPS)}


def test_the_same_request_gets_the_same_reply_and_another_seed_another(client: httpx.Client) -> None:
    first = ask(client, "teacher", CHAIN, n=32, seed=1)
    assert ask(client, "teacher", CHAIN, n=32, seed=1) == first
    assert texts(ask(client, "teacher", CHAIN, n=32, seed=2)) != texts(first)
    assert texts(ask(client, "teacher", CHAIN, n=4, seed=1)) == texts(first)[:4]


def test_temperature_zero_repeats_one_sample(client: httpx.Client) -> None:
    assert len(set(texts(ask(client, "teacher", CHAIN, n=32, temperature=0)))) == 1


def test_usage_counts_and_the_length_limit(client: httpx.Client) -> None:
    usage = ask(client, "arbiter", CHAIN, n=2)["usage"]
    assert isinstance(usage, dict)
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0
    cut = ask(client, "arbiter", CHAIN, max_tokens=5)
    assert texts(cut) == ["<think>\n7"]
    assert cut["choices"][0]["finish_reason"] == "length"  # type: ignore[index]
    assert cut["usage"]["completion_tokens"] == 5  # type: ignore[index]


def test_what_cannot_be_solved_is_said_so(client: httpx.Client) -> None:
    for role in ("teacher", "arbiter"):
        (text,) = texts(ask(client, role, "Why is the sky blue?"))
        assert "I cannot solve this" in text
        assert "boxed" not in text


def test_questions_are_found_in_their_wrapping(client: httpx.Client) -> None:
    for prompt in (
        CHAIN,
        f"{CHAIN}\n\nPut the final answer in a box.",
        f"Solve the question below.\n<query>\n{CHAIN}\n</query>\nThink first.",
        f"<query>user: Who are you?\nassistant: A model.\nuser: {CHAIN}</query>",
    ):
        assert "\\boxed{21}" in texts(ask(client, "arbiter", prompt))[0]


def test_the_arbiter_is_always_right(client: httpx.Client) -> None:
    assert all("\\boxed{21}" in text for text in texts(ask(client, "arbiter", CHAIN, n=200)))


@pytest.mark.parametrize("role", ["judge", "second-judge"])
@pytest.mark.parametrize(
    ("query", "is_valid"),
    [
        (CHAIN, True),
        ("Start with 7, add 5, multiply by", False),
        ("Write about cats. Do not use any commas.", True),
        ("Solve for x: 3x +", False),
    ],
)
def test_judges_mostly_rate_validity_and_now_and_then_say_nothing(
    client: httpx.Client, role: str, query: str, is_valid: bool
) -> None:
    replies = texts(ask(client, role, f"Is it valid?\n<query>\n{query}\n</query>", n=400))
    ratings = [rating for reply in replies if (rating := read_rating(reply)) is not None]
    assert 380 <= len(ratings) <= 400
    assert 0.9 <= sum(rating.is_valid is is_valid for rating in ratings) / len(ratings) < 1
    assert all(rating.reasons for rating in ratings)


def test_a_judges_further_votes_are_those_that_one_request_would_have_given(client: httpx.Client) -> None:
    prompt = f"<query>{CHAIN}</query>"
    together = texts(ask(client, "judge", prompt, n=64, seed=3))
    assert together[24:] == texts(ask(client, "judge", prompt, n=40, seed=27))
    assert together != texts(ask(client, "second-judge", prompt, n=64, seed=3))


def test_the_rewriter_leaves_the_stem(client: httpx.Client) -> None:
    (text,) = texts(ask(client, "rewriter", "<query>\nWhat is 6 times 7?\nA. 13\nB. 42\nC. 41\nD. 67\n</query>"))
    found = read_rewriting(text)
    assert isinstance(found, Rewriting)
    assert (found.question, found.answer) == ("What is 6 times 7?", "42")
    bound = "Which of the following numbers is the largest?\nA. 13\nB. 42\nC. 41\nD. 67"
    assert "\\boxed{D}" in texts(ask(client, "arbiter", bound))[0]
    for query in (CHAIN, bound):
        declined = read_rewriting(texts(ask(client, "rewriter", f"<query>{query}</query>"))[0])
        assert isinstance(declined, Fault)
        assert declined.reason is RewriteReason.OPTIONS_NEEDED


def test_the_reward_model_prefers_right_and_whole_responses(client: httpx.Client) -> None:
    def mean(query: str, response: str) -> float:
        prompt = f"Rate the response.\n<query>\n{query}\n</query>\n<response>\n{response}\n</response>"
        scores = verdict(client, "reward-model", prompt)
        assert list(scores) == ["helpfulness", "correctness", "coherence"]
        assert all(isinstance(score, float) and 0 <= score <= 1 for score in scores.values())
        return sum(score for score in scores.values() if isinstance(score, float)) / 3

    hello = solve("Hello, my name is Ada.")
    assert hello is not None
    assert mean("Hello, my name is Ada.", hello.render(Style.STEPS)) == 1.0
    assert mean("Hello, my name is Ada.", "<think>\n</think>\n<answer>\nyou you you you\n</answer>") < 0.6
    assert mean("Hello, my name is Ada.", "") == 0.0
    assert mean(CHAIN, "<think>\n</think>\n<answer>\n\\boxed{21}\n</answer>") == 1.0
    assert mean(CHAIN, "<think>\n</think>\n<answer>\n\\boxed{22}\n</answer>") < 0.7


def test_refusals_carry_the_remedy(client: httpx.Client) -> None:
    def post(**body: object) -> httpx.Response:
        return client.post("/chat/completions", json=body)

    messages = [{"role": "user", "content": CHAIN}]
    unknown = post(model="gpt", messages=messages)
    assert unknown.status_code == 404
    assert "use one of scripted-stand-in/teacher" in unknown.json()["error"]["message"]
    streamed = post(model="scripted-stand-in/teacher", messages=messages, stream=True)
    assert streamed.status_code == 400
    assert "stream" in streamed.json()["error"]["message"]
    assert post(model="scripted-stand-in/teacher", messages=[]).status_code == 400
    assert client.get("/nowhere").status_code == 404
