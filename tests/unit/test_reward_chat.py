"""Scores of a reward model: what a judge writes and a classifier's logits; what cannot be read is no zero."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.llm_http import Address, EndpointError
from infra.row_cache import RowCache
from infra.runtime import Endpoint
from infra.store import Store
from tasks.records import Domain, Message, Outcome, Query
from tasks.rewards.chat import ChatConfig, ClassifierConfig, LlmJudge, read_scores, reward_messages
from tasks.rewards.classifier import Classifier, classify_url, read_logits

CHAT = Query(id="q", domain=Domain.CHAT, source="s", messages=(Message(role="user", content="Why?"),))
GOOD = '{"helpfulness": 1, "correctness": 1, "coherence": 1}'
POOR = '{"helpfulness": 0, "correctness": 0.5, "coherence": 0.1}'


def test_prompt_shows_all_turns_of_a_dialog() -> None:
    dialog = CHAT.model_copy(update={"messages": (Message(role="system", content="Be brief."), *CHAT.messages)})
    prompt = reward_messages(dialog, "Because.")[0]["content"]
    assert "<query>\nSystem: Be brief.\n\nUser: Why?\n</query>" in prompt
    assert "<response>\nBecause.\n</response>" in prompt


@pytest.mark.parametrize(
    ("reply", "mean"),
    [('{"helpfulness": 1, "correctness": 1, "coherence": 0.4}', 0.8),
     ('```json\n{"helpfulness": 0, "correctness": 0, "coherence": 0}\n```', 0.0),
     ('{"helpfulness": 0.9} {"helpfulness": 1, "correctness": 1, "coherence": 1}', 1.0),
     ('{"helpfulness": 2, "correctness": 1, "coherence": 1}', None),
     ('{"helpfulness": true, "correctness": 1, "coherence": 1}', None),
     ("0.5", None), ("", None), ('{"helpfulness": 1, "correctness": 1}', None),
     ('{"helpfulness": NaN, "correctness": 1, "coherence": 1}', None)],
)  # fmt: skip
def test_read_scores(reply: str, mean: float | None) -> None:
    scores = read_scores(reply)
    assert (None if scores is None else math.fsum(scores.values()) / 3) == pytest.approx(mean)


class Replies:
    """Answers with the first of its texts, as many as are asked for, as the row cache does."""

    def __init__(self, *texts: str) -> None:
        self.texts, self.asked = texts, list[int]()

    def __call__(self, messages: Sequence[Mapping[str, str]], num_samples: int) -> list[str]:
        self.asked.append(num_samples)
        return list(self.texts[:num_samples])


def test_votes_are_averaged() -> None:
    ask = Replies(GOOD, POOR)
    verdict = LlmJudge(ask, votes=2)(CHAT, "Because.")
    assert (verdict.outcome, ask.asked) == (Outcome.SCORED, [2])
    assert verdict.score == pytest.approx((1 + 0.2) / 2)
    assert verdict.detail == "helpfulness=0.5 correctness=0.75 coherence=0.55 votes=2"


def test_an_unreadable_vote_is_asked_again_and_is_no_zero() -> None:
    ask = Replies(GOOD, "sorry", GOOD, POOR)
    assert LlmJudge(ask, votes=2)(CHAT, "Because.").score == 1.0
    assert ask.asked == [2, 4]
    assert LlmJudge(Replies("sorry", GOOD, "no", "no"), votes=2)(CHAT, "Because.").score == 1.0


def test_votes_that_are_all_unreadable_are_a_fault() -> None:
    verdict = LlmJudge(Replies("sorry", ""), votes=1)(CHAT, "Because.")
    assert (verdict.outcome, verdict.score) == (Outcome.CRASH, None)
    assert "unreadable" in verdict.detail


def test_configs_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="raise temperature"):
        ChatConfig(votes=3)
    with pytest.raises(ValueError, match="range of the ratings"):
        ClassifierConfig(scale="linear", low=4, high=0)


def test_logits_become_scores() -> None:
    assert read_logits([0.0], ClassifierConfig()) == {"score": 0.5}
    assert read_logits([1.0], ClassifierConfig())["score"] == pytest.approx(1 / (1 + math.exp(-1)))
    assert read_logits([-5_000.0], ClassifierConfig())["score"] == 0.0
    ratings = ClassifierConfig(labels=("helpfulness", "correctness", "verbosity"), scale="linear")
    assert read_logits([3.0, 5.0, 0.0], ratings) == {"helpfulness": 0.75, "correctness": 1.0}


def answering(reply: Callable[[dict[str, Any]], httpx.Response]) -> Callable[..., Classifier]:
    """A classifier whose wire is a function."""

    def build(labels: int = 1, cache: RowCache | None = None) -> Classifier:
        endpoint = Endpoint(base_url="http://model/v1", max_attempts=2)
        config = ClassifierConfig(labels=tuple(f"label{n}" for n in range(labels)))
        classifier = Classifier(Address("reward-model", "rm", endpoint), config, cache)
        classifier._http = httpx.Client(
            transport=httpx.MockTransport(
                lambda request: reply(json.loads(request.content) | {"url": str(request.url)})
            )
        )
        return classifier

    return build


def logits(*values: float) -> httpx.Response:
    return httpx.Response(200, json={"data": [{"index": 0, "probs": list(values)}]})


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[RowCache]:
    cache = RowCache(Store(str(tmp_path), tmp_path), "llm", tmp_path)
    yield cache
    cache.close()


def test_a_classifier_gets_the_dialog_with_the_answer_once(cache: RowCache) -> None:
    bodies: list[dict[str, Any]] = []

    def reply(body: dict[str, Any]) -> httpx.Response:
        bodies.append(body)
        return logits(0.0)

    with answering(reply)(cache=cache) as classifier:
        assert [classifier(CHAT, "Because.").score for _ in range(2)] == [0.5, 0.5]
    (body,) = bodies
    assert body["url"] == "http://model/classify"
    assert body["messages"] == [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]
    assert body["use_activation"] is False


@pytest.mark.parametrize(
    ("response", "told"),
    [(httpx.Response(401), "refuses the key"), (httpx.Response(404), "--runner pooling"),
     (httpx.Response(503), "2 attempts.*503"), (httpx.Response(200, text="<html>"), "not a reply"),
     (logits(0.0, 1.0), "gives 2 outputs"), (httpx.Response(200, json={"data": []}), "not a reply")],
)  # fmt: skip
def test_what_no_row_is_to_blame_for_ends_the_run(response: httpx.Response, told: str) -> None:
    with answering(lambda _: response)() as classifier, pytest.raises(EndpointError, match=told):
        classifier(CHAT, "Because.")


def test_a_dialog_that_is_too_long_is_the_rows_own_fault(cache: RowCache) -> None:
    with answering(lambda _: httpx.Response(400, text="too long"))(cache=cache) as classifier:
        verdict = classifier(CHAT, "Because.")
    assert (verdict.outcome, verdict.score) == (Outcome.CRASH, None)
    assert "too long" in verdict.detail


def test_a_busy_endpoint_is_asked_again() -> None:
    replies = iter([httpx.Response(429), logits(0.0)])
    with answering(lambda _: next(replies))() as classifier:
        assert classifier(CHAT, "Because.").score == 0.5


def test_classify_is_beside_v1() -> None:
    assert classify_url("http://h/v1") == classify_url("http://h/") == "http://h/classify"
