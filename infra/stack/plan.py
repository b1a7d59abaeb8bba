"""What `posttrain up` starts for a profile: servers, then what has to be told to Prefect, then workers."""

from __future__ import annotations

import socket
import sys
from importlib.util import find_spec
from pathlib import Path

from pydantic import Field

from infra.config import Config, ConfigError, as_toml
from infra.runtime import QUIET, Runtime, StackRuntime, WorkerGroup, secret

PROJECT = Path(__file__).resolve().parents[2]
DEPLOYMENTS = PROJECT / "deployments"
HEARTBEAT_S = 30  # the shortest that Prefect allows


class Service(Config):
    """A process of the stack."""

    name: str
    command: tuple[str, ...]
    env: dict[str, str] = Field(description="added to the environment of the one who calls `up`")
    health: str | None = Field(default=None, description="URL that answers 200 when it is ready")


class Plan(Config):
    """Everything that the keeper starts, in order, and where."""

    home: Path
    prefect_url: str
    mlflow_url: str
    servers: tuple[Service, ...]
    setup: tuple[Service, ...] = Field(description="commands that end, run one after another once the servers answer")
    workers: tuple[Service, ...]

    @property
    def services(self) -> tuple[Service, ...]:
        """What keeps running."""
        return (*self.servers, *self.workers)

    def log_of(self, service: str) -> Path:
        """Where a service's output goes."""
        return self.home / "logs" / f"{service}.log"


def stack_home(runtime: Runtime) -> Path:
    """Local folder of the stack's databases, logs and state."""
    return runtime.scratch_folder.parent / "stack"


def make_plan(runtime: Runtime) -> Plan:
    """The plan for a profile.

    Raises:
        ConfigError: the folder of deployments is not there, or a pool's template is unknown.
    """
    if not (DEPLOYMENTS / "prefect.yaml").exists():
        raise ConfigError(f"{DEPLOYMENTS}/prefect.yaml: no such file; `posttrain up` needs a checkout of the project")
    for name, pool in runtime.stack.pools.items():
        if not (DEPLOYMENTS / "pools" / f"{pool.template}.json").exists():
            known = ", ".join(sorted(path.stem for path in (DEPLOYMENTS / "pools").glob("*.json")))
            raise ConfigError(f"pool {name}: no template `{pool.template}` in {DEPLOYMENTS}/pools; known: {known}")
    home = stack_home(runtime)
    mlflow = (_mlflow_server(runtime),) if _starts_mlflow(runtime) else ()
    return Plan(
        home=home,
        prefect_url=runtime.stack.prefect_url,
        mlflow_url=_of_workers(runtime).mlflow_shown_at,
        servers=(_prefect_server(runtime, home), *mlflow),
        setup=_setup(runtime, home),
        workers=tuple(_worker(runtime, home, number, group) for number, group in enumerate(runtime.stack.workers, 1)),
    )


def worker_profile(runtime: Runtime) -> str:
    """The profile of the stack's workers as TOML: absolute places, and MLflow's server instead of its file."""
    return as_toml(_of_workers(runtime))


def _of_workers(runtime: Runtime) -> Runtime:
    places = {name: _absolute(getattr(runtime, name)) for name in ("store", "raw_folder")}
    places |= {"scratch": str(runtime.scratch_folder), "artifact_root": runtime.mlflow_artifacts}
    if _starts_mlflow(runtime):
        # MLflow's default over HTTP is a place that only its server reaches; named, `posttrain run` without a server
        # reaches it too, whoever makes the experiment.
        places |= {"tracking_uri": runtime.stack.mlflow_url, "artifact_root": _artifacts(runtime)}
    return runtime.model_copy(update=places)


def _starts_mlflow(runtime: Runtime) -> bool:
    """Not where the profile names a server that stands already; the stack's own address is no such server."""
    return not runtime.has_tracking_server or runtime.mlflow_uri.rstrip("/") == runtime.stack.mlflow_url


def _artifacts(runtime: Runtime) -> str:
    """Where the stack's MLflow keeps artifacts."""
    return runtime.mlflow_artifacts or (runtime.scratch_folder.parent / "mlartifacts").as_uri()


def _absolute(place: str | None) -> str | None:
    """A folder from the root on, since workers start elsewhere; a URI as it is."""
    return place if place is None or "://" in place else str(Path(place).expanduser().resolve())


def profile_path(home: Path) -> Path:
    """Where the workers' profile lies."""
    return home / "profile.toml"


def _prefect_server(runtime: Runtime, home: Path) -> Service:
    stack = runtime.stack
    database = f"sqlite+aiosqlite:///{home / 'prefect.db'}"
    if stack.prefect_database_env is not None:
        database = secret(stack.prefect_database_env).replace("postgresql://", "postgresql+asyncpg://", 1)
    # The page asks the API at the address that it was started with: set both, or it stays blank on another port.
    env = _prefect_client(runtime, home / "prefect-server") | {
        "PREFECT_UI_API_URL": f"{stack.prefect_url}/api",
        "PREFECT_API_DATABASE_CONNECTION_URL": database,
        # A SQLite file has one writer at a time; on a busy machine the others wait longer than the usual 10 s.
        "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
        "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "60",
    }
    command = (sys.executable, "-m", "prefect", "server", "start", "--host", stack.host)
    return Service(
        name="prefect",
        command=(*command, "--port", str(stack.prefect_port)),
        env=env,
        health=f"{_local(runtime)}:{stack.prefect_port}/api/health",
    )


def _mlflow_server(runtime: Runtime) -> Service:
    stack = runtime.stack
    command = (sys.executable, "-m", "mlflow", "server", "--host", stack.host, "--port", str(stack.mlflow_port))
    # One worker: each costs 250 MB, and the pages of one team are few.
    options = ("--workers", "1", "--artifacts-destination", _artifacts(runtime))
    return Service(
        name="mlflow",
        command=(*command, *options, *_visitors(stack)),
        # The database by variable, since its URL may hold a password; and no job runner, which would start seven
        # processes of 160 MB for features that we do not use.
        env=QUIET | {"MLFLOW_BACKEND_STORE_URI": _backend(runtime), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        health=f"{_local(runtime)}:{stack.mlflow_port}/health",
    )


def _visitors(stack: StackRuntime) -> tuple[str, ...]:
    """Names under which MLflow answers. By default it does for this machine and private addresses."""
    if stack.public_host is None:
        return ("--allowed-hosts", "*") if stack.host == "0.0.0.0" else ()
    names = dict.fromkeys((stack.public_host, "localhost", "127.0.0.1", stack.host))
    hosts = ",".join(f"{name}:{stack.mlflow_port}" for name in names)
    # Its own page asks by POST, which MLflow refuses to a page of any other machine that is not named.
    return ("--allowed-hosts", hosts, "--cors-allowed-origins", stack.mlflow_url)


def _backend(runtime: Runtime) -> str:
    """MLflow's database: the one that `posttrain run` with this profile writes, or that of the environment.

    Raises:
        ConfigError: the profile names two.
    """
    variable = runtime.stack.mlflow_database_env
    named = None if runtime.has_tracking_server else runtime.tracking_uri
    if variable is not None and named is not None:
        raise ConfigError("tracking_uri and stack.mlflow_database_env both name MLflow's database; take one out")
    if variable is not None:
        return _for_mlflow(secret(variable))
    default = f"sqlite:///{runtime.scratch_folder.parent / 'mlflow.db'}"
    return default if named is None else _for_mlflow(_from_root(named))


def _from_root(uri: str) -> str:
    """A SQLite file from the root on, since the server starts elsewhere; another database as it is."""
    kind, _, path = uri.partition(":///")
    return f"sqlite:///{Path(path).resolve()}" if kind == "sqlite" else uri


def _for_mlflow(url: str) -> str:
    """The URL with the driver that MLflow works with; SQLAlchemy's default is another one.

    Raises:
        ConfigError: the driver is not installed.
    """
    if url.startswith("postgresql") and find_spec("psycopg2") is None:
        raise ConfigError("MLflow's PostgreSQL driver is not installed; install the extra `postgres`: psycopg2-binary")
    return url.replace("postgresql://", "postgresql+psycopg2://", 1)


def _setup(runtime: Runtime, home: Path) -> tuple[Service, ...]:
    env = _prefect_client(runtime, home / "prefect-client")
    pools = (sys.executable, "-m", "infra.stack.setup", str(profile_path(home)))
    deploy = (sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all")
    return (
        Service(name="setup-pools", command=pools, env=env),
        Service(
            name="setup-deployments",
            command=(*deploy, "--prefect-file", str(DEPLOYMENTS / "prefect.yaml")),
            env=env,
        ),
    )


def _worker(runtime: Runtime, home: Path, number: int, group: WorkerGroup) -> Service:
    pool = runtime.stack.pools[group.pool]
    name = f"worker-{number}-{group.pool}" + (f"-gpu{group.devices.replace(',', '-')}" if group.devices else "")
    command = (sys.executable, "-m", "prefect", "worker", "start", "--pool", group.pool, "--type", pool.type)
    limit = () if group.limit is None else ("--limit", str(group.limit))
    env = _prefect_client(runtime, home / "prefect-worker") | {
        "POSTTRAIN_PROFILE": str(profile_path(home)),
        "CUDA_VISIBLE_DEVICES": group.devices,
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
        "PREFECT_WORKER_QUERY_SECONDS": "3",
    }
    # Prefect tells workers of a pool apart by their names, whichever machines they run on.
    named = ("--install-policy", "never", *limit, "--name", f"{socket.gethostname()}-{name}")
    return Service(name=name, command=(*command, *named), env=env)


def _prefect_client(runtime: Runtime, prefect_home: Path) -> dict[str, str]:
    return QUIET | {"PREFECT_HOME": str(prefect_home), "PREFECT_API_URL": f"{runtime.stack.prefect_url}/api"}


def _local(runtime: Runtime) -> str:
    host = runtime.stack.host
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}"
