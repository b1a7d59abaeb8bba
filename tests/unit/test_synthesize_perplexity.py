"""Perplexity: what is scored, what a cache saves, and vLLM's own form; the model is a script of a few lines."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.llm_http import Address, EndpointError
from infra.runtime import Endpoint, Runtime
from infra.store import Store
from tasks.generation.chat import lay_out
from tasks.records import Domain, Message, Query, Response
from tasks.synthesize import perplexity
from tasks.synthesize.config import PerplexityConfig
from tasks.synthesize.perplexity import Perplexity, jobs_of, scorable, score_perplexity, with_scores
from tasks.training.token_models import RefusedTextError, Scorable, Surprise, TokenScoring, Unscored
from tasks.training.vllm_scoring import VllmTokenModel
from tests.unit.memory_tables import MemoryTables

CONFIG = PerplexityConfig(backend="endpoint", model="earlier")


class Letters:
    """A token is a letter; each costs ln 2, a `z` ten times as much. A text with a `!` is refused."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode_dialog(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        return self.encode("".join(message["content"] for message in messages) + ">")

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def logprobs(self, context_ids: Sequence[int], text_ids: Sequence[int]) -> list[float]:
        text = "".join(map(chr, text_ids))
        self.asked.append("".join(map(chr, context_ids)) + "|" + text)
        if "!" in text:
            raise RefusedTextError("too long")
        return [-math.log(2) * (10 if letter == "z" else 1) for letter in text]


def query(name: str = "q", text: str = "ask") -> Query:
    return Query(id=name, domain=Domain.MATH, source="s", messages=(Message(role="user", content=text),))


def response(answer: str, name: str = "q", index: int = 0, finish: str = "stop") -> Response:
    text = lay_out("hm", answer) if answer else "no parts"
    return Response(query_id=name, model="m", sample_index=index, text=text, finish_reason=finish)


@pytest.mark.parametrize(
    ("part", "opening", "text"),
    [
        ("response", "", "<think>\nhm\n</think>\n<answer>\nab\n</answer>"),
        ("thinking", "<think>\n", "hm"),
        ("answer", "<think>\nhm\n</think>\n<answer>\n", "ab"),
    ],
)
def test_the_part_that_is_scored_and_what_stands_before_it(part: str, opening: str, text: str) -> None:
    config = CONFIG.model_copy(update={"part": part})
    found = scorable(query(), response("ab"), config)
    assert found == Scorable([{"role": "user", "content": "ask"}], opening, text)


def test_what_lacks_a_part_or_was_cut_is_not_scored() -> None:
    assert scorable(query(), response(""), CONFIG) is None
    assert scorable(query(), response("ab", finish="length"), CONFIG) is None


def test_surprise_by_hand() -> None:
    text = Scorable([{"role": "user", "content": "ask"}], "op", "abz")
    model = Letters()
    assert TokenScoring(model, "chat", 10).score(text) == Surprise(pytest.approx(12 * math.log(2)), 3)
    assert TokenScoring(model, "plain", 2).score(text) == Surprise(pytest.approx(2 * math.log(2)), 2)
    assert model.asked == ["ask>op|abz", "ask\n\nop|ab"]
    assert TokenScoring(model, "chat", 10).score(text._replace(text="")) == Unscored("no token to score")
    assert TokenScoring(model, "chat", 10).score(text._replace(text="a!")) == Unscored("too long")


def test_threads_change_neither_order_nor_scores() -> None:
    texts = [Scorable([{"role": "user", "content": "ask"}], "", "a" * n) for n in range(200)]
    alone = list(TokenScoring(Letters(), "chat", 99).score_all(texts))
    assert list(TokenScoring(Letters(), "chat", 99, num_threads=4).score_all(texts)) == alone


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> Letters:
    model = Letters()

    @contextmanager
    def opened(config: PerplexityConfig, runtime: Runtime) -> Iterator[TokenScoring]:
        yield TokenScoring(model, config.prompt_form, config.max_tokens)

    monkeypatch.setattr(perplexity, "open_scorer", opened)
    return model


def scores(folder: Path, responses: list[Response], shared: Path) -> MemoryTables:
    names = list(dict.fromkeys(each.query_id for each in responses))
    tables = MemoryTables(folder, queries=[query(name, f"ask {name}") for name in names], responses=responses)
    tables.out.store = Store(str(shared), local=shared / "local")
    score_perplexity.inner(tables.sets["queries"], tables.sets["responses"], CONFIG, tables.out, Runtime())
    tables.close()
    return tables


def test_every_whole_response_has_a_row_and_is_paid_for_once(tmp_path: Path, letters: Letters) -> None:
    said = [response("ab", "a"), response("zz", "a", 1), response("", "a", 2), response("a!", "b"), response("ab", "c")]
    first = scores(tmp_path / "1", said, tmp_path / "shared")
    rows = first.read("kept", Perplexity)
    assert [(row.query_id, row.sample_index) for row in rows] == [("a", 0), ("a", 1), ("b", 0), ("c", 0)]
    frame = len(lay_out("hm", ""))
    assert rows[0].perplexity == pytest.approx(2.0, abs=1e-3)
    assert rows[1].mean_nll == pytest.approx(math.log(2) * (frame + 20) / (frame + 2), abs=1e-4)
    assert (rows[2].mean_nll, rows[2].fault) == (None, "too long")
    assert len(letters.asked) == 4
    second = scores(tmp_path / "2", [*said, response("new", "d")], tmp_path / "shared")
    assert second.read("kept", Perplexity)[:4] == rows
    assert len(letters.asked) == 6  # the new one, and the one that failed: a failure is never kept
    assert second.out.cost.cache_hits == 3


def test_the_row_key_names_all_that_a_score_rests_on() -> None:
    from tasks.generation.pairing import Answered

    def key(**changed: Any) -> str:
        (job,) = jobs_of(Answered(query(), [response("ab")]), CONFIG.model_copy(update=changed))
        return job.key

    keys = {
        key(), key(model="other"), key(digest="x"), key(part="answer"), key(max_tokens=5), key(prompt_form="plain"),
        key(version=2),
    }  # fmt: skip
    assert len(keys) == 7
    assert key(role="elsewhere") == key()  # a place, not an identity


def test_scores_of_other_queries_are_refused() -> None:
    from tasks.generation.pairing import Answered

    pairs = [Answered(query("a"), []), Answered(query("b"), [])]
    found = Perplexity(query_id="b", sample_index=1, mean_nll=1.0, num_tokens=3)
    assert [pair.perplexities for pair in with_scores(pairs, [found])] == [{}, {1: found}]
    with pytest.raises(ValueError, match="score of query x"):
        list(with_scores(pairs, [found.model_copy(update={"query_id": "x"})]))


class Served:
    """vLLM's two routes over letters; the first requests fail as told."""

    def __init__(self, *failures: int) -> None:
        self.failures = list(failures)
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        self.bodies.append({"path": request.url.path, **body})
        if self.failures:
            return httpx.Response(self.failures.pop(0), text="told", headers={"retry-after": "0"})
        if request.url.path == "/tokenize":
            text = body["prompt"] if "prompt" in body else body["messages"][0]["content"] + ">"
            return httpx.Response(200, json={"tokens": [ord(letter) for letter in text]})
        logprobs = [None] + [{str(token): {"logprob": -token / 100}} for token in body["prompt"][1:]]
        return httpx.Response(200, json={"choices": [{"prompt_logprobs": logprobs}]})


def vllm(served: Served, monkeypatch: pytest.MonkeyPatch) -> VllmTokenModel:
    monkeypatch.setattr("tasks.training.vllm_scoring.backoff_s", lambda *_: 0.0)
    endpoint = Endpoint(base_url="http://host:8000/v1", max_attempts=3)
    return VllmTokenModel(Address("scorer", "earlier", endpoint), httpx.MockTransport(served))


def test_vllm_is_asked_for_token_ids_and_prompt_logprobs(monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served(503, 429)
    with vllm(served, monkeypatch) as model:
        found = TokenScoring(model, "chat", 10).score(Scorable([{"role": "user", "content": "ask"}], "o", "ab"))
    assert found == Surprise(pytest.approx((97 + 98) / 100), 2)
    assert [body["path"] for body in served.bodies[2:]] == ["/tokenize"] * 3 + ["/v1/completions"]
    assert served.bodies[-1]["prompt"] == [ord(letter) for letter in "ask>oab"]
    assert (served.bodies[-1]["prompt_logprobs"], served.bodies[-1]["max_tokens"]) == (0, 1)
    assert (served.bodies[-3]["add_generation_prompt"], served.bodies[-2]["add_special_tokens"]) == (True, False)


@pytest.mark.parametrize(
    ("status", "told"),
    [(401, "refuses the key"), (404, "serve it with vLLM"), (500, "gives no reply")],
)
def test_an_endpoint_that_cannot_be_used_says_what_to_do(
    status: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with vllm(Served(*[status] * 3), monkeypatch) as model, pytest.raises(EndpointError, match=told):
        model.encode("ab")


def test_a_text_that_vllm_refuses_is_unscored(monkeypatch: pytest.MonkeyPatch) -> None:
    with vllm(Served(400), monkeypatch) as model:
        found = TokenScoring(model, "plain", 10).score(Scorable([{"role": "user", "content": "ask"}], "", "ab"))
    assert found == Unscored("refused: HTTP 400: told")
