"""Language models by role: which endpoint a role has, and the scripted stand-in where a profile asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from infra.chat import Answered, ChatRequest
from infra.config import ConfigError
from infra.llm import LlmClient
from infra.output import Output
from infra.progress import tell
from infra.runtime import Runtime

STAND_IN = "stand-in"
STAND_IN_MODELS = "scripted-stand-in/"


def open_role(out: Output, runtime: Runtime, role: str, model: str) -> LlmClient:
    """The client of a role (`teacher`, `arbiter`, `judge`, `reward-model`, …); starts the stand-in, once a run.

    Raises:
        ConfigError: the profile names no endpoint for the role, its key is missing, or the recipe names a real model
            where the profile has the stand-in: a script's answers must never carry a model's name.
    """
    endpoint = runtime.endpoint(role)
    if endpoint.base_url == STAND_IN:
        if not model.startswith(STAND_IN_MODELS):
            raise ConfigError(
                f"the recipe's {role} is {model}, but the profile gives this role the scripted stand-in; name a "
                f"`base_url` that serves {model} in [endpoints.{role}], or {STAND_IN_MODELS}{role} in the recipe"
            )
        endpoint = endpoint.model_copy(update={"base_url": _stand_in_url(out)})
    return LlmClient(role, model, endpoint, out.cache("llm"))


def ask_all(out: Output, client: LlmClient, requests: Sequence[ChatRequest]) -> Iterator[Answered]:
    """Samples as they arrive, with progress shown and the cost counted; what costs money is estimated before.

    Raises:
        EndpointError: see `LlmClient.complete_all`; what arrived before is kept and counted.
    """
    if client.endpoint.costs_money and (estimate := client.estimate(requests)).to_ask:
        tell(str(estimate))
    with out.progress(sum(request.num_samples for request in requests), client.role) as bar:
        try:
            for answered in client.complete_all(requests):
                bar.advance()
                yield answered
        finally:
            out.spend(**client.usage.take())


def ask_in_order(out: Output, client: LlmClient, requests: Sequence[ChatRequest]) -> Iterator[list[Answered]]:
    """All samples of each request, by sample index, in the order of the requests, whatever the order on the wire.

    Raises:
        EndpointError: see `LlmClient.complete_all`.
        ValueError: two requests have one key.
    """
    if len({request.key for request in requests}) != len(requests):
        raise ValueError("two requests have the same key; give every request its own")
    waiting: dict[str, list[Answered]] = {request.key: [] for request in requests}
    turn = 0
    for answered in ask_all(out, client, requests):
        waiting[answered.request.key].append(answered)
        while turn < len(requests) and len(waiting[requests[turn].key]) == requests[turn].num_samples:
            yield sorted(waiting.pop(requests[turn].key), key=lambda done: done.reply.sample_index)
            turn += 1


def _stand_in_url(out: Output) -> str:
    from tasks.procedural.stand_in import StandInServer

    return out.resource(STAND_IN, StandInServer).url
