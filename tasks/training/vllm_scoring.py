"""A causal language model behind vLLM, for the surprise of texts: `/tokenize`, and prompt log-probs."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import httpx

from infra.llm_http import Address, EndpointError, backoff_s
from infra.runtime import secret
from tasks.training.token_models import RefusedTextError

_NOT_ALLOWED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_LASTING = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY})


class VllmTokenModel:
    """Safe from threads; use as a context manager.

    Args:
        address: the model, and the endpoint that serves it.
        transport: of the HTTP client; tests give their own.

    Raises:
        EndpointError: the endpoint does not answer, refuses the key, or serves no such model.
    """

    def __init__(self, address: Address, transport: httpx.BaseTransport | None = None) -> None:
        self._address = address
        endpoint = address.endpoint
        self._http = httpx.Client(
            timeout=endpoint.timeout_s,
            limits=httpx.Limits(max_connections=endpoint.max_concurrency),
            headers={"Authorization": f"Bearer {secret(endpoint.api_key_env)}"},
            transport=transport,
        )
        self._base = endpoint.base_url.rstrip("/")
        self._root = self._base.removesuffix("/v1")
        self._jitter = random.Random()

    def __enter__(self) -> VllmTokenModel:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def encode_dialog(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """By the served model's chat template."""
        dialog = {"messages": [dict(message) for message in messages], "add_generation_prompt": True}
        return self._tokenize(dialog)

    def encode(self, text: str) -> list[int]:
        """Without special tokens."""
        return self._tokenize({"prompt": text, "add_special_tokens": False})

    def logprobs(self, context_ids: Sequence[int], text_ids: Sequence[int]) -> list[float]:
        """One request that samples one token, for none cannot be asked for."""
        body = {"prompt": [*context_ids, *text_ids], "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        reply = self._post(f"{self._base}/completions", body)
        try:
            positions = reply["choices"][0]["prompt_logprobs"][len(context_ids) :]
            return [float(found[str(token)]["logprob"]) for token, found in zip(text_ids, positions, strict=True)]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise EndpointError(
                f"{self._address}: no prompt log-probs in its reply ({error!r}); serve the model with vLLM"
            ) from None

    def _tokenize(self, body: Mapping[str, Any]) -> list[int]:
        try:
            return [int(token) for token in self._post(f"{self._root}/tokenize", body)["tokens"]]
        except (KeyError, TypeError, ValueError) as error:
            raise EndpointError(
                f"{self._address}: no tokens in its reply ({error!r}); serve the model with vLLM"
            ) from None

    def _post(self, url: str, body: Mapping[str, Any]) -> Any:
        told, wait_s = "", 0.0
        attempts = self._address.endpoint.max_attempts
        for attempt in range(attempts):
            if attempt:
                time.sleep(backoff_s(attempt - 1, wait_s, self._jitter))
            try:
                reply = self._http.post(url, json={"model": self._address.model, **body})
            except httpx.TransportError as error:
                told = f"{type(error).__name__}: {error}"
                continue
            if reply.status_code == HTTPStatus.OK:
                return reply.json()
            told = f"HTTP {reply.status_code}: {reply.text[:300]}"
            self._check_status(reply.status_code, told)
            wait_s = _seconds(reply.headers.get("retry-after"))
        raise EndpointError(
            f"{self._address} gives no reply ({attempts} attempts): {told}; start it, or correct "
            f"[endpoints.{self._address.role}] in the profile, then run again: finished scores are kept"
        )

    def _check_status(self, status: int, told: str) -> None:
        if status in _LASTING:
            raise RefusedTextError(f"refused: {told}")
        if status in _NOT_ALLOWED:
            variable = self._address.endpoint.api_key_env
            remedy = f"export a valid key in {variable}" if variable else "name the key's variable as `api_key_env`"
            raise EndpointError(f"{self._address} refuses the key (HTTP {status}); {remedy}, then run again")
        if status == HTTPStatus.NOT_FOUND:
            raise EndpointError(
                f"{self._address}: {told}; correct base_url in the profile or the model's name in the recipe, and "
                "serve it with vLLM"
            )


def _seconds(header: str | None) -> float:
    try:
        return float(header or 0)
    except ValueError:
        return 0.0  # a date: our own waiting serves as well
