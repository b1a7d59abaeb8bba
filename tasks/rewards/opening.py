"""The run's rewarder: opened at first use, its processes and its reward model's connections shared by all phases."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from infra.chat import ChatRequest, Sampling
from infra.config import ConfigError
from infra.fingerprint import fingerprint
from infra.llm import LlmClient, LlmSession
from infra.llm_http import Address
from infra.output import Output
from infra.row_cache import RowCache
from infra.runtime import Runtime
from tasks.generation.roles import STAND_IN, STAND_IN_MODELS, open_role
from tasks.records import Query, Verdict
from tasks.rewards.chat import Ask, ChatConfig, LlmJudge, RewardModel
from tasks.rewards.classifier import Classifier
from tasks.rewards.code_place import open_code_judge
from tasks.rewards.rewarder import RewardConfig, Rewarder

ROLE = "reward-model"


def open_rewarder(out: Output, runtime: Runtime, rewards: RewardConfig) -> Rewarder:
    """The rewarder of a config, as long as the run lives; what it asks from now on is counted as the step's cost."""
    name = f"rewarder-{fingerprint(rewards)[:16]}"
    opened: _Opened = out.resource(name, lambda: _open(out, runtime, rewards))
    opened.model.count_for(out)
    return opened.rewarder


class _Opened(NamedTuple):
    rewarder: Rewarder
    model: _RewardModel


@contextmanager
def _open(out: Output, runtime: Runtime, rewards: RewardConfig) -> Iterator[_Opened]:
    with ExitStack() as stack:
        model = _RewardModel(out, runtime, rewards.chat, stack)
        verdicts = out.cache("verdicts")
        rewarder = Rewarder(
            rewards,
            num_processes=runtime.verifier_processes,
            num_programs=runtime.sandbox.slots,
            model=model,
            code=stack.enter_context(open_code_judge(rewards.code, runtime.sandbox)),
            cache=verdicts,
        )
        yield _Opened(stack.enter_context(rewarder), model)


class _RewardModel:
    """The model at the role's endpoint; connected at the first question, since most recipes' batches hold none."""

    def __init__(self, out: Output, runtime: Runtime, config: ChatConfig, stack: ExitStack) -> None:
        self._out, self._runtime, self._config, self._stack = out, runtime, config, stack
        self._lock = threading.Lock()
        self._model: RewardModel | None = None
        self._client: LlmClient | None = None

    def count_for(self, out: Output) -> None:
        self._out = out

    def __call__(self, query: Query, answer: str) -> Verdict:
        found = self._connected()(query, answer)
        with self._lock:
            if self._client is not None:
                self._out.spend(**self._client.usage.take())
        return found

    def _connected(self) -> RewardModel:
        with self._lock:
            if self._model is None:
                self._model = self._connect()
            return self._model

    def _connect(self) -> RewardModel:
        if self._config.model is None:
            raise ConfigError("a chat query is to be judged, but rewards.chat.model names no reward model")
        self._client = open_role(self._out, self._runtime, ROLE, self._config.model)
        return self._stack.enter_context(reward_model(self._client, self._config, self._out.cache("llm")))


@contextmanager
def open_client(runtime: Runtime, config: ChatConfig, cache: RowCache) -> Iterator[LlmClient]:
    """The client of the role outside of a run; starts the scripted stand-in where the profile asks for it.

    Raises:
        ConfigError: no model is named, or the profile has no endpoint for the role, or the stand-in for a real one.
    """
    from tasks.procedural.stand_in import StandInServer

    if config.model is None:
        raise ConfigError("no reward model; name one with --model, or --set 'chat.model=\"name\"'")
    endpoint = runtime.endpoint(ROLE)
    if endpoint.base_url != STAND_IN:
        yield LlmClient(ROLE, config.model, endpoint, cache)
        return
    if not config.model.startswith(STAND_IN_MODELS):
        raise ConfigError(
            f"the profile gives {ROLE} the scripted stand-in, and {config.model} is a real model: give --endpoint URL"
        )
    with StandInServer() as server:
        yield LlmClient(ROLE, config.model, endpoint.model_copy(update={"base_url": server.url}), cache)


@contextmanager
def reward_model(client: LlmClient, config: ChatConfig, cache: RowCache) -> Iterator[RewardModel]:
    """The reward model at a client's endpoint, by the backend of the config."""
    if config.backend == "classifier":
        with Classifier(Address(client.role, client.model, client.endpoint), config.classifier, cache) as classifier:
            yield classifier
    else:
        with LlmSession(client) as session:
            yield LlmJudge(asking(session, config), config.votes)


def asking(session: LlmSession, config: ChatConfig) -> Ask:
    """Asks the reward model's samples through the row cache: more samples of a dialog pay only for those that are new.

    A request that the endpoint refuses has empty texts, which no score can be read from.
    """

    def ask(messages: Sequence[Mapping[str, str]], num_samples: int) -> list[str]:
        request = ChatRequest(
            key=ROLE,
            messages=messages,
            sampling=Sampling(temperature=config.temperature, max_tokens=config.max_tokens),
            num_samples=num_samples,
            prompt_version=config.version,
        )
        return [reply.text for reply in session.ask(request)]

    return ask
