"""Runtime: where a recipe runs and with how much. Never part of any identity; the only reader of the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from infra.config import Config, ConfigError, load_toml, named_toml
from infra.vllm_server import VllmConfig

PROFILES = Path(__file__).parent / "profiles"
# No telemetry, and no look-up at a model hub unless the person's own environment allows it.
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "VLLM_NO_USAGE_STATS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

# The pools that deployments/prefect.yaml names.
POOLS = ("cpu", "llm", "gpu-rollout", "gpu-train")
# Flow runs that wait on `cpu` for phases of theirs, by the limits of prefect.yaml: post-train 2, on real samples 2,
# train-on-new-data 1, recurate 1.
NUM_PARENTS = 6

S3Option = Literal["endpoint_url", "key", "secret", "token", "region"]


class Endpoint(Config):
    """An OpenAI-compatible endpoint that serves one or more roles."""

    base_url: str = Field(description="`https://host/v1`, or `stand-in` for the scripted stand-in that we start")
    api_key_env: str | None = Field(default=None, description="environment variable that holds the key")
    max_concurrency: int = Field(
        default=32, ge=1, description="requests in flight at most; fewer while the endpoint is overloaded"
    )
    timeout_s: float = Field(default=120.0, gt=0, description="of one request")
    max_attempts: int = Field(default=5, ge=1, description="tries of one request on 429, 5xx and time-out")
    slow_s: float | None = Field(
        default=None, gt=0, description="a reply that takes longer lowers the concurrency; None: half of timeout_s"
    )
    longest_wait_s: float = Field(
        default=60.0, ge=0, description="a longer Retry-After or rate-limit reset is waited for so long only"
    )
    requests_per_minute: int | None = Field(
        default=None, ge=1, description="in any 60 seconds, over all roles at this base_url; None: no limit"
    )
    tokens_per_minute: int | None = Field(
        default=None, ge=1, description="the same, prompt and completion; what is in flight counts at its worst case"
    )
    usd_per_million_prompt_tokens: float = Field(default=0.0, ge=0)
    usd_per_million_completion_tokens: float = Field(default=0.0, ge=0)
    budget_usd: float | None = Field(
        default=None, ge=0, description="the most that is ever spent from `budget_account`; None: no limit"
    )
    budget_account: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="spending is counted under this name over all runs on the store, and roles that name the same one "
        "share it; a new name begins at zero; None: the role's own name",
    )
    batch: bool = Field(
        default=False, description="ask through the Batch API: cheaper, within a day; single questions go as ever"
    )
    batch_price: float = Field(default=0.5, ge=0, le=1, description="factor on both prices (source: OpenAI, half)")
    batch_requests: int = Field(
        default=10_000, ge=1, le=50_000, description="requests of one batch at most (source: OpenAI takes 50,000)"
    )
    batch_megabytes: float = Field(
        default=100.0, gt=0, le=200, description="size of one batch's file at most (source: OpenAI takes 200 MB)"
    )
    batch_poll_s: float = Field(default=30.0, gt=0, description="seconds between two looks at a batch")

    @property
    def costs_money(self) -> bool:
        """Whether a token has a price."""
        return bool(self.usd_per_million_prompt_tokens or self.usd_per_million_completion_tokens)

    @model_validator(mode="after")
    def _budget_binds(self) -> Self:
        if self.budget_usd is not None and not self.costs_money:
            raise ValueError(
                "budget_usd would never be reached, since both prices are 0; set usd_per_million_prompt_tokens and "
                "usd_per_million_completion_tokens"
            )
        return self


class TrainingRuntime(Config):
    """Processes and devices of the trainer."""

    device: Literal["cpu", "cuda"] = "cpu"
    num_processes: int = Field(default=1, ge=1, description="ranks on this machine")
    num_threads: int = Field(default=2, ge=1, description="intra-op threads of a rank; more than one rank on CPU: 1")
    micro_batch_tokens: int = Field(default=8192, ge=1, description="tokens of one forward pass, padding included")
    zero_stage: Literal[0, 1, 2, 3] = 0
    offload_optimizer: bool = False
    keep_checkpoints: int = Field(default=2, ge=1, description="resume points kept in scratch")


class RolloutRuntime(Config):
    """Inference servers and how requests reach them."""

    server: VllmConfig = VllmConfig()
    num_servers: int = Field(default=1, ge=1)
    max_in_flight: int = Field(default=256, ge=1, description="samples in flight over all servers")
    samples_per_request: int = Field(default=1, ge=1, description="1 lets the balancer place every sample alone")


class PoolRuntime(Config):
    """A work pool of the stack."""

    type: Literal["process", "docker", "kubernetes"] = "process"
    template: str = Field(default="process", description="job template: a file of deployments/pools, without .json")
    limit: int = Field(ge=2, description="flow runs at once; with 1 a deployment's CANCEL_NEW is never seen")


class WorkerGroup(Config):
    """A worker that `posttrain up` starts here. Prefect counts no GPUs: each group of them has its own worker."""

    pool: str
    devices: str = Field(default="", description="CUDA_VISIBLE_DEVICES of its flow runs; empty: no GPU")
    limit: int | None = Field(
        default=None, ge=1, description="flow runs at once on this worker; None: the pool's limit"
    )


class StackRuntime(Config):
    """What `posttrain up` starts, and where."""

    host: str = Field(default="127.0.0.1", description="address that the servers listen on; 0.0.0.0 for all")
    public_host: str | None = Field(default=None, description="name by which browsers and workers reach the servers")
    prefect_port: int = Field(default=4200, ge=1, le=65535)
    mlflow_port: int = Field(default=5000, ge=1, le=65535)
    prefect_database_env: str | None = Field(
        default=None, description="environment variable with a postgresql:// URL for Prefect; None: a SQLite file"
    )
    mlflow_database_env: str | None = Field(
        default=None, description="the same for MLflow; not the same database, both have a table alembic_version"
    )
    pools: dict[str, PoolRuntime] = Field(
        default={
            "cpu": PoolRuntime(limit=8),
            "llm": PoolRuntime(limit=4),
            "gpu-rollout": PoolRuntime(limit=2),
            "gpu-train": PoolRuntime(limit=2),
        },
        description="work pools, the four of them; `cpu` needs 7 places, since parents wait there for their phases",
    )
    workers: tuple[WorkerGroup, ...] = Field(
        default=(
            WorkerGroup(pool="cpu"),
            WorkerGroup(pool="llm"),
            WorkerGroup(pool="gpu-rollout", limit=1),
            WorkerGroup(pool="gpu-train", limit=1),
        ),
        description="workers on this machine",
    )

    @property
    def prefect_url(self) -> str:
        """Where people open Prefect."""
        return f"http://{self._reached_at}:{self.prefect_port}"

    @property
    def mlflow_url(self) -> str:
        """Where people open MLflow, and where workers log."""
        return f"http://{self._reached_at}:{self.mlflow_port}"

    @property
    def _reached_at(self) -> str:
        return self.public_host or ("127.0.0.1" if self.host == "0.0.0.0" else self.host)

    @model_validator(mode="after")
    def _pools_suffice(self) -> Self:
        missing = [name for name in POOLS if name not in self.pools]
        if missing:
            raise ValueError(
                f"no pool {', '.join(missing)}; deployments/prefect.yaml needs {', '.join(POOLS)}: name all four"
            )
        limit, needed = self.pools["cpu"].limit, NUM_PARENTS + 1
        if limit < needed:
            raise ValueError(
                f"pool cpu: limit {limit} is too small; set at least {needed}: {NUM_PARENTS} parents may wait there "
                "for their phases, which queue in the same pool, and without a free place all of them wait for ever"
            )
        return self

    @model_validator(mode="after")
    def _workers_have_pools(self) -> Self:
        unknown = sorted({worker.pool for worker in self.workers} - self.pools.keys())
        if unknown:
            raise ValueError(f"worker(s) for {', '.join(unknown)}, but the pools are {', '.join(sorted(self.pools))}")
        return self


class SandboxRuntime(Config):
    """Where programs that nobody trusts are run."""

    backend: Literal["local", "docker", "service"] = Field(
        default="local",
        description="bubblewrap on this machine, containers of this machine, or `posttrain sandbox serve`",
    )
    unsafe: bool = Field(
        default=False,
        description="local: without bubblewrap fall back to weaker jails, not refuse; for trusted programs",
    )
    slots: int = Field(default=2, ge=1, description="programs at a time")
    image: str = Field(default="posttrain/sandbox:0.4.0", description="docker: image of docker/sandbox.Dockerfile")
    hosts: tuple[str, ...] = Field(default=(), description="service: `http://host:port` of each, or of their balancer")
    token_env: str | None = Field(default=None, description="service: environment variable that holds the token")

    @model_validator(mode="after")
    def _has_hosts(self) -> Self:
        if self.backend == "service" and not self.hosts:
            raise ValueError('sandbox.backend is "service", and sandbox.hosts names none')
        return self


class Runtime(Config):
    """A profile. The same recipe on another profile makes the same data versions wherever a step is deterministic."""

    store: str = Field(default=".posttrain", description="folder, or s3://bucket/prefix")
    storage_options: dict[S3Option, str] = Field(
        default={}, description="for S3; keys are better left to AWS_* variables"
    )
    scratch: str | None = Field(default=None, description="local folder for unfinished work; required with S3")
    tracking_uri: str | None = Field(default=None, description="MLflow; by default SQLite inside the store's folder")
    mlflow_public_url: str | None = Field(
        default=None, description="where browsers open MLflow, if that is not the tracking_uri: http://localhost:5000"
    )
    artifact_root: str | None = Field(
        default=None,
        description="where MLflow keeps artifacts: a folder or s3://bucket/prefix; by default beside its database",
    )
    raw_folder: str | None = Field(default=None, description="folder of raw files, for recipes that read one")
    endpoints: dict[str, Endpoint] = Field(default={}, description="role (teacher, arbiter, judge, …) → endpoint")
    training: TrainingRuntime = TrainingRuntime()
    rollout: RolloutRuntime = RolloutRuntime()
    verifier_processes: int = Field(default=2, ge=1, description="processes of CPU work: math_verify and the filters")
    sandbox: SandboxRuntime = SandboxRuntime()
    stack: StackRuntime = StackRuntime()

    @property
    def scratch_folder(self) -> Path:
        """Local folder of unfinished work.

        Raises:
            ConfigError: the store is remote and no scratch is named.
        """
        if self.scratch is not None:
            return Path(self.scratch).expanduser().resolve()
        if "://" in self.store:
            raise ConfigError(f"store {self.store} is remote; set `scratch` to a local folder in the profile")
        return Path(self.store).expanduser().resolve() / "scratch"

    @property
    def mlflow_uri(self) -> str:
        """Tracking URI of MLflow."""
        if self.tracking_uri is not None:
            return self.tracking_uri
        return f"sqlite:///{self.scratch_folder.parent / 'mlflow.db'}"

    @property
    def has_tracking_server(self) -> bool:
        """Whether MLflow is asked over HTTP; otherwise this process opens its database itself."""
        return self.mlflow_uri.startswith("http")

    @property
    def mlflow_shown_at(self) -> str:
        """Where browsers open MLflow; for a database it is where `mlflow server` listens by default."""
        served = without_password(self.mlflow_uri) if self.has_tracking_server else "http://127.0.0.1:5000"
        return (self.mlflow_public_url or served).rstrip("/")

    @property
    def mlflow_artifacts(self) -> str | None:
        """URI below which MLflow keeps artifacts; None leaves it to the tracking server. Fixed by the first run."""
        if self.artifact_root is None:
            return None if self.has_tracking_server else (self.scratch_folder.parent / "mlartifacts").as_uri()
        if "://" in self.artifact_root:
            return self.artifact_root.rstrip("/")
        return Path(self.artifact_root).expanduser().resolve().as_uri()

    def endpoint(self, role: str) -> Endpoint:
        """The endpoint of a role.

        Raises:
            ConfigError: the profile names none.
        """
        if role not in self.endpoints:
            raise ConfigError(f"no endpoint for `{role}`; add [endpoints.{role}] with a base_url to the profile")
        return self.endpoints[role]


def load_profile(name_or_path: str, overrides: Mapping[str, object] | None = None) -> Runtime:
    """A profile by the name of a file in `infra/profiles`, or by path."""
    return load_toml(named_toml(name_or_path, PROFILES, "profile"), Runtime, overrides)


def worker_runtime(name_or_path: str | None) -> Runtime:
    """The profile that a flow run names, or else the one of the worker that runs it (POSTTRAIN_PROFILE)."""
    return load_profile(name_or_path or os.environ.get("POSTTRAIN_PROFILE", "local"))


def without_password(url: str) -> str:
    """The URL as it may be shown and stored: *** in place of its password."""
    # No urlsplit: SQLAlchemy takes a password with # and /, where urlsplit ends the host.
    return re.sub(r"(?<=://)([^:/@]*):.*@|(?<=[?&]password=)[^&]*", lambda found: _starred(found[1]), url)


def _starred(user: str | None) -> str:
    return "***" if user is None else f"{user}:***@"


def secret(variable: str | None) -> str:
    """The key that an endpoint names; a dummy where it names none.

    Raises:
        ConfigError: the variable is not set.
    """
    if variable is None:
        return "no-key"
    if not os.environ.get(variable):
        raise ConfigError(f"environment variable {variable} is not set; export the endpoint's key in it")
    return os.environ[variable]


def storage_options(runtime: Runtime) -> dict[str, Any]:
    """fsspec options of the profile's store; keys come from the environment (AWS_ACCESS_KEY_ID, …) by default."""
    if not runtime.store.startswith("s3://"):
        return {}
    options: dict[str, Any] = {str(name): value for name, value in runtime.storage_options.items()}
    region = options.pop("region", None)
    # Another process may have published since a folder was listed.
    options["use_listings_cache"] = False
    return options | ({"client_kwargs": {"region_name": region}} if region else {})


def child_environment(**extra: str) -> dict[str, str]:
    """Environment for a process that we start: this one's, without telemetry, plus `extra`."""
    return {**os.environ, **QUIET, **extra}


# Prefect's embedded API: patient on a busy machine, without the services that only a standing server needs.
EMBEDDED_PREFECT = {
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
}


def prepare_environment(home: Path) -> None:
    """Set, before Prefect or MLflow is imported, what they read at import: no telemetry, own home."""
    for name, value in (QUIET | EMBEDDED_PREFECT).items():
        os.environ.setdefault(name, value)
    # Prefect makes its home, but not the folders above it, and its server then fails to open its database.
    home.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("PREFECT_HOME", str(home / "prefect"))


# MLflow reaches S3 by itself, with the keys and the endpoint that it finds in these variables.
S3_KEYS: tuple[S3Option, ...] = ("key", "secret", "token")
MLFLOW_S3: dict[S3Option, str] = {
    "endpoint_url": "MLFLOW_S3_ENDPOINT_URL",
    "key": "AWS_ACCESS_KEY_ID",
    "secret": "AWS_SECRET_ACCESS_KEY",
    "token": "AWS_SESSION_TOKEN",
    "region": "AWS_DEFAULT_REGION",
}


def give_s3_to_mlflow(runtime: Runtime) -> None:
    """Set what MLflow reads when it first writes to S3. What the person has set stays.

    Keys go together, so that a key of theirs never meets a secret of the profile.
    """
    has_keys = any(MLFLOW_S3[option] in os.environ for option in S3_KEYS)
    for option, value in runtime.storage_options.items():
        if not (has_keys and option in S3_KEYS):
            os.environ.setdefault(MLFLOW_S3[option], value)
