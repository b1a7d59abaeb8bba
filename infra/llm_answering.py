"""Between the row cache and the wire: which samples of a request are there, which are asked for, what they cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from infra.chat import ChatReply, ChatRequest, reply_of, usage_of
from infra.llm_http import Address, EndpointError, HttpChat, Trouble
from infra.row_cache import RowCache
from infra.runtime import Endpoint

# So many refusals without one reply are a wrong model or parameter, not so many bad prompts.
MAX_REFUSALS = 16


@dataclass
class LlmUsage:
    """What a client used: tokens and money of its HTTP requests, and samples that the row cache gave for nothing."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0
    cache_hits: int = 0

    def add(self, body: dict[str, Any], endpoint: Endpoint) -> None:
        """Count one chat completion at the endpoint's prices."""
        used = usage_of(body)
        self.prompt_tokens += used["prompt_tokens"]
        self.completion_tokens += used["completion_tokens"]
        self.usd += used["prompt_tokens"] * endpoint.usd_per_million_prompt_tokens / 1e6
        self.usd += used["completion_tokens"] * endpoint.usd_per_million_completion_tokens / 1e6

    def take(self) -> dict[str, float]:
        """All counts by name, for `Output.spend`; counting starts again at zero."""
        counts = asdict(self)
        for name in counts:
            setattr(self, name, type(counts[name])())
        return counts


@dataclass
class Answering:
    """Answers requests within one event loop, and remembers what went wrong."""

    address: Address
    cache: RowCache
    usage: LlmUsage
    delivered: int = 0
    refusals: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._http = HttpChat(self.address)

    async def answer(self, request: ChatRequest) -> list[ChatReply]:
        """All samples, by index; those that the request's failures kept from coming are missing.

        Raises:
            EndpointError: no request can succeed.
        """
        keys = request.cache_keys(self.address.model)
        found = {index: value for index, key in enumerate(keys) if (value := self.cache.get(key)) is not None}
        self.usage.cache_hits += len(found)
        replies = [reply_of(value, index, is_cached=True) for index, value in found.items()]
        self.delivered += len(replies)
        missing = [index for index in range(request.num_samples) if index not in found]
        while missing:
            run = _first_run(missing)
            result = await self._http.ask(request, run[0], len(run))
            if isinstance(result, Trouble):
                replies += self._give_up(missing, result)
                break
            self.usage.add(result.body, self.address.endpoint)
            for index, value in zip(run, result.samples, strict=False):
                self.cache.put(keys[index], value)
                replies.append(reply_of(value, index, is_cached=False))
            self.delivered += len(result.samples)
            # An endpoint may give fewer samples than it was asked for; the rest is asked again.
            missing = missing[len(result.samples) :]
        return sorted(replies, key=lambda reply: reply.sample_index)

    def _give_up(self, missing: list[int], trouble: Trouble) -> list[ChatReply]:
        if not trouble.is_final:
            self.failures.append(trouble.text)
            return []
        self.refusals.append(trouble.text)
        if len(self.refusals) >= MAX_REFUSALS:
            self._check_refusals()
        return [ChatReply(sample_index=index, refusal=trouble.text) for index in missing]

    def check(self) -> None:
        """Look back when all is asked.

        Raises:
            EndpointError: requests stayed without a reply, or nothing but refusals came.
        """
        self._check_refusals()
        if self.failures:
            raise EndpointError(
                f"{self.address}: {len(self.failures)} requests failed after {self.address.endpoint.max_attempts} "
                f"attempts each, such as: {self.failures[0]}; {self.delivered} samples are kept: run again for the rest"
            )

    def _check_refusals(self) -> None:
        if self.refusals and not self.delivered:
            raise EndpointError(
                f"{self.address} refuses whatever it is asked ({len(self.refusals)} requests so far): "
                f"{self.refusals[0]}; correct the model or the sampling values in the recipe, then run again"
            )

    async def close(self) -> None:
        """Close the HTTP client."""
        await self._http.close()


def _first_run(indices: list[int]) -> list[int]:
    """The first consecutive indices: one HTTP request can draw them with one seed."""
    return [index for offset, index in enumerate(indices) if index == indices[0] + offset]
