"""What is asked of a language model and what comes back: plain values, keyed for the row cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from pydantic import Field

from infra.config import Config
from infra.fingerprint import fingerprint


class GarbledReplyError(ValueError):
    """An endpoint's answer that is not a chat completion."""


class Sampling(Config):
    """How a model samples. None leaves a value to the endpoint: reasoning models refuse a temperature."""

    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int = Field(default=4096, ge=1, description="longest reply, thinking included")


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One dialog to be answered `num_samples` times.

    Attributes:
        key: the caller's name for it, such as a query id; no part of its identity.
        messages: `{"role": …, "content": …}` in order.
        prompt_version: of the caller's prompt; raise it to ask again though the text is the same.
        seed: sample i is drawn with `seed + i`, which is also how vLLM numbers the choices of one request.
    """

    key: str
    messages: Sequence[Mapping[str, str]]
    sampling: Sampling
    num_samples: int = 1
    prompt_version: int = 1
    seed: int | None = None

    def cache_keys(self, model: str) -> list[str]:
        """Row-cache key of every sample. The number of samples is absent: k = 16 finds the 8 samples of k = 8."""
        one = fingerprint([model, self.messages, self.sampling, self.prompt_version, self.seed])
        return [f"{one}:{index}" for index in range(self.num_samples)]


@dataclass(frozen=True, slots=True)
class ChatReply:
    """One sample.

    Attributes:
        text: content; reasoning that the endpoint returns apart from it stands before, in `<think>` tags.
        finish_reason: `stop`, `length`, or what the endpoint says; empty for a refused request.
        usage: prompt_tokens, and completion_tokens as this sample's share (by length of text) of its HTTP request.
        raw: the endpoint's choice, as it came.
        refusal: why the endpoint refuses this request for good (too long, filtered); no text then, and not cached.
    """

    sample_index: int
    text: str = ""
    finish_reason: str = ""
    usage: Mapping[str, int] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict)
    is_cached: bool = False
    refusal: str | None = None


class Answered(NamedTuple):
    """A request with one of its samples."""

    request: ChatRequest
    reply: ChatReply


def split_completion(body: Any) -> list[dict[str, Any]]:
    """The cache's value of every sample in a chat completion: `{"choice": …, "usage": …, "model": …}`.

    Raises:
        GarbledReplyError: the body is not a chat completion, or holds a choice without a text.
    """
    try:
        choices = [dict(choice) for choice in body["choices"]]
        texts = [text_of(choice) for choice in choices]
        counts = usage_of(body)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise GarbledReplyError(f"not a chat completion ({type(error).__name__}: {error}): {str(body)[:200]}") from None
    if not choices:
        raise GarbledReplyError(f"a chat completion without choices: {str(body)[:200]}")
    shares = _shares(counts["completion_tokens"], [len(text) for text in texts])
    return [
        {"choice": choice, "usage": counts | {"completion_tokens": share}, "model": str(body.get("model", ""))}
        for choice, share in zip(choices, shares, strict=True)
    ]


def usage_of(body: Any) -> dict[str, int]:
    """Tokens of one HTTP request; zeros where the endpoint does not count."""
    usage = body.get("usage") or {}
    return {name: int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")}


def reply_of(value: Mapping[str, Any], sample_index: int, is_cached: bool) -> ChatReply:
    """Read a sample from its cached value."""
    choice = value["choice"]
    return ChatReply(
        sample_index=sample_index,
        text=text_of(choice),
        finish_reason=str(choice.get("finish_reason") or "stop"),
        usage=value["usage"],
        raw=choice,
        is_cached=is_cached,
    )


def text_of(choice: Mapping[str, Any]) -> str:
    """Text of a choice. DeepSeek's API and vLLM's reasoning parsers return the thinking apart from the content."""
    message = choice["message"]
    content = message.get("content")
    thinking = message.get("reasoning_content") or message.get("reasoning")
    if thinking:
        # Cut off while thinking: no content came, and the part must stay open.
        return f"<think>\n{thinking}" + (f"\n</think>\n{content}" if content else "")
    if not isinstance(content, str):
        raise ValueError(f"content is {type(content).__name__}, not text")
    return content


def _shares(total: int, weights: Sequence[int]) -> list[int]:
    """`total` split by weight into integers that sum up to it."""
    whole = sum(weights) or 1
    ends, passed = [0], 0
    for weight in weights:
        passed += weight
        ends.append(round(total * passed / whole))
    return [after - before for before, after in pairwise(ends)]
