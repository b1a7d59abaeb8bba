"""The run's rewarder: opened at first use, its processes and its reward model's connections shared by all phases."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from infra.chat import ChatRequest, Sampling
from infra.config import ConfigError
from infra.fingerprint import fingerprint
from infra.llm import LlmSession
from infra.output import Output
from infra.runtime import Runtime
from tasks.generation.roles import open_role
from tasks.rewards.chat import ChatConfig
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
        rewarder = Rewarder(rewards, num_processes=runtime.verifier_processes, ask=model.ask, cache=verdicts)
        yield _Opened(stack.enter_context(rewarder), model)


class _RewardModel:
    """Asks the endpoint of the role; connected at the first question, since most recipes' batches hold none."""

    def __init__(self, out: Output, runtime: Runtime, config: ChatConfig, stack: ExitStack) -> None:
        self._out, self._runtime, self._config, self._stack = out, runtime, config, stack
        self._lock = threading.Lock()
        self._session: LlmSession | None = None

    def count_for(self, out: Output) -> None:
        self._out = out

    def ask(self, messages: Sequence[Mapping[str, str]]) -> str:
        request = ChatRequest(
            key=ROLE,
            messages=messages,
            sampling=Sampling(temperature=0.0, max_tokens=self._config.max_tokens),
            prompt_version=self._config.version,
        )
        session = self._connected()
        text = session.ask(request)[0].text
        with self._lock:
            self._out.spend(**session.client.usage.take())
        return text

    def _connected(self) -> LlmSession:
        with self._lock:
            if self._session is None:
                if self._config.model is None:
                    raise ConfigError("a chat query is to be judged, but rewards.chat.model names no reward model")
                client = open_role(self._out, self._runtime, ROLE, self._config.model)
                self._session = self._stack.enter_context(LlmSession(client))
            return self._session
