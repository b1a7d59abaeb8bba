"""The policy, served: inference servers that live as long as the run, given each checkpoint's weights in place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from infra.output import Output
from infra.runtime import RolloutRuntime, Runtime, child_environment
from infra.vllm_server import VllmServer
from tasks.generation.engine import Dispatcher, Prompt, Sample, SamplingParams
from tasks.generation.policy import PolicyConfig


class PolicyServers:
    """One or more vLLM servers that hold the same weights. A context manager; started when entered."""

    def __init__(self, config: PolicyConfig, rollout: RolloutRuntime, folder: Path, version: str, logs: Path) -> None:
        server = {"dtype": config.dtype, "max_model_len": config.max_model_len}
        self._config = rollout.server.model_copy(update=server)
        self._rollout, self._folder, self._version, self._logs = rollout, folder, version, logs
        self.servers: list[VllmServer] = []

    def __enter__(self) -> PolicyServers:
        with ThreadPoolExecutor(self._rollout.num_servers) as starting:
            started = [starting.submit(self._start, number) for number in range(self._rollout.num_servers)]
        failed = [job.exception() for job in started if job.exception() is not None]
        self.servers = [job.result() for job in started if job.exception() is None]
        if failed and failed[0] is not None:
            self.__exit__(None, None, None)
            raise failed[0]
        return self

    def _start(self, number: int) -> VllmServer:
        log = self._logs / f"vllm-{number}.log"
        return VllmServer(self._config, self._folder, self._version, log=log, env=child_environment())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self.servers:
            server.stop()

    def load(self, folder: Path, version: str) -> None:
        """Give every server the weights of a Hugging Face folder; nothing is done where it has them."""
        for server in self.servers:
            server.load(folder, version)

    def sample_all(
        self, prompts: Iterable[Prompt], params: SamplingParams, on_sample: Callable[[Sample], None]
    ) -> None:
        """Sample every prompt; `on_sample` gets each sample as it finishes."""
        asyncio.run(self._drain(prompts, params, on_sample))

    async def _drain(
        self, prompts: Iterable[Prompt], params: SamplingParams, on_sample: Callable[[Sample], None]
    ) -> None:
        rollout = self._rollout
        async with Dispatcher(
            [server.base_url for server in self.servers],
            max_in_flight=rollout.max_in_flight,
            samples_per_request=rollout.samples_per_request,
        ) as dispatcher:
            async for sample in dispatcher.stream(prompts, params):
                on_sample(sample)

    def prompt_logprobs(self, token_ids: Sequence[int]) -> list[list[float]]:
        """Log-probs of each token after the first, by each server: the check that a reload took."""
        return [server.prompt_logprobs(token_ids) for server in self.servers]


def serve(out: Output, runtime: Runtime, config: PolicyConfig, folder: Path, version: str) -> PolicyServers:
    """The run's servers, holding the weights of `folder` under the name `version`."""
    logs = runtime.scratch_folder.parent / "logs"
    servers = out.resource(
        f"policy-servers-{config.dtype}-{config.max_model_len}",
        lambda: PolicyServers(config, runtime.rollout, folder, version, logs),
    )
    servers.load(folder, version)
    return servers
