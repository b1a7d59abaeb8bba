"""A sequence-classification reward model behind vLLM's pooling server: `vllm … --runner pooling`, asked at `/classify`.

Dialogs go as messages, so that the server lays out the answer by the model's own chat template; logits come back raw,
since the activation that a server applies is one of its settings, and the scale is ours to say.
"""

from __future__ import annotations

import math
import random
import time
from http import HTTPStatus
from typing import Any

import httpx

from infra.fingerprint import fingerprint
from infra.llm_http import Address, EndpointError, backoff_s
from infra.row_cache import RowCache
from infra.runtime import secret
from tasks.records import Outcome, Query, Verdict
from tasks.rewards.chat import ASPECTS, METHOD, ClassifierConfig, scored
from tasks.rewards.verdicts import verdict

_NOT_ALLOWED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_LASTING = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY})


class Classifier:
    """Scores answers by a model's logits. Safe from threads; use as a context manager.

    Args:
        address: the model, and the endpoint that serves it.
        config: what its outputs mean.
        cache: keeps the logits of every dialog; failures are never kept.
    """

    def __init__(self, address: Address, config: ClassifierConfig, cache: RowCache | None = None) -> None:
        self._address, self._config, self._cache = address, config, cache
        endpoint = address.endpoint
        limits = httpx.Limits(max_connections=endpoint.max_concurrency)
        headers = {"Authorization": f"Bearer {secret(endpoint.api_key_env)}"}
        self._http = httpx.Client(timeout=endpoint.timeout_s, limits=limits, headers=headers)
        self._jitter = random.Random()

    def __enter__(self) -> Classifier:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def __call__(self, query: Query, answer: str) -> Verdict:
        """The verdict on an answer.

        Raises:
            EndpointError: the endpoint does not answer, refuses the key, or serves no such model.
        """
        started = time.perf_counter()
        messages = [{"role": turn.role, "content": turn.content} for turn in query.messages]
        messages.append({"role": "assistant", "content": answer})
        key = fingerprint([self._address.model, "classify", messages])
        logits = self._cache.get(key) if self._cache else None
        if logits is None:
            logits = self._ask(messages)
            if isinstance(logits, Verdict):
                return logits
            if self._cache:
                self._cache.put(key, logits)
        return scored(read_logits(logits, self._config), (time.perf_counter() - started) * 1000)

    def _ask(self, messages: list[dict[str, str]]) -> list[float] | Verdict:
        body = {"model": self._address.model, "messages": messages, "use_activation": False}
        told, wait_s = "", 0.0
        for attempt in range(self._address.endpoint.max_attempts):
            if attempt:
                time.sleep(backoff_s(attempt - 1, wait_s, self._jitter))
            try:
                reply = self._http.post(classify_url(self._address.endpoint.base_url), json=body)
            except httpx.TransportError as error:
                told = f"{type(error).__name__}: {error}"
                continue
            if reply.status_code in _LASTING:
                return verdict(Outcome.CRASH, METHOD, detail=f"refused: HTTP {reply.status_code}: {reply.text[:300]}")
            if reply.status_code == HTTPStatus.OK:
                return self._logits(reply)
            told = self._trouble(reply)
            wait_s = _seconds(reply.headers.get("retry-after"))
        raise EndpointError(
            f"{self._address} gives no reply ({self._address.endpoint.max_attempts} attempts): {told}; start it with "
            f"`--runner pooling`, or correct [endpoints.{self._address.role}] in the profile, then run again"
        )

    def _trouble(self, reply: httpx.Response) -> str:
        status = reply.status_code
        if status in _NOT_ALLOWED:
            variable = self._address.endpoint.api_key_env
            remedy = f"export a valid key in {variable}" if variable else "name the key's variable as `api_key_env`"
            raise EndpointError(f"{self._address} refuses the key (HTTP {status}); {remedy}, then run again")
        if status == HTTPStatus.NOT_FOUND:
            raise EndpointError(
                f"{self._address}: no /classify or no such model: {reply.text[:200]}; serve a sequence-classification "
                "model with vLLM's `--runner pooling` under this name"
            )
        return f"HTTP {status}: {reply.text[:300]}"

    def _logits(self, reply: httpx.Response) -> list[float]:
        try:
            logits = [float(value) for value in reply.json()["data"][0]["probs"]]
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise EndpointError(f"{self._address}: not a reply of /classify ({error!r}): {reply.text[:200]}") from None
        if len(logits) != len(self._config.labels):
            raise EndpointError(
                f"{self._address} gives {len(logits)} outputs, rewards.chat.classifier.labels names "
                f"{len(self._config.labels)}; name each output, in the model's order"
            )
        if not all(math.isfinite(value) for value in logits):
            raise EndpointError(f"{self._address} gives {logits}; serve the model in another dtype")
        return logits


def classify_url(base_url: str) -> str:
    """vLLM serves `/classify` beside `/v1`.

    >>> classify_url("http://host:8000/v1/")
    'http://host:8000/classify'
    """
    return f"{base_url.rstrip('/').removesuffix('/v1')}/classify"


def read_logits(logits: list[float], config: ClassifierConfig) -> dict[str, float]:
    """Scores in [0, 1] by label: the aspects where the model has them, otherwise all of its outputs."""
    scores = {label: _normal(logit, config) for label, logit in zip(config.labels, logits, strict=True)}
    aspects = {label: score for label, score in scores.items() if label in ASPECTS}
    return aspects or scores


def _normal(logit: float, config: ClassifierConfig) -> float:
    if config.scale == "linear":
        return min(1.0, max(0.0, (logit - config.low) / (config.high - config.low)))
    return 0.5 * (1.0 + math.tanh(0.5 * logit))  # the sigmoid, which overflows nowhere


def _seconds(header: Any) -> float:
    try:
        return float(header or 0)
    except ValueError:
        return 0.0  # a date: our own waiting serves as well
