"""The parent's side of a trainer: start its processes, watch them, and turn a death into one error with a remedy."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.config import Config
from infra.output import write_json
from infra.process import ChildProcess, free_port
from infra.runtime import TrainingRuntime, child_environment
from tasks.training.progress_file import Line, read_progress

SPEC_FILE = "spec.json"
LOG_FILE = "trainer.log"
# A rank on CPU gets this long after SIGTERM; nothing needs saving, for resume points are whole at any moment.
STOP_GRACE_S = 2.0


class TrainerError(RuntimeError):
    """A trainer ended without finishing; the message holds the end of its log and what to do."""


class TrainerProcess:
    """A running trainer: one process, or N under torchrun, with their folder of files."""

    def __init__(self, child: ChildProcess, folder: Path) -> None:
        self._child, self.folder = child, folder

    @property
    def finished(self) -> bool:
        """True once the trainer has ended well.

        Raises:
            TrainerError: it ended otherwise.
        """
        if self._child.running:
            return False
        if self._child.returncode != 0:
            raise TrainerError(
                f"{self._child.name} ended with code {self._child.returncode}; its last lines:\n{self._child.tail()}\n"
                f"Whole log: {self._child.log}. Mend the cause and run again: it goes on from its last resume point."
            )
        return True

    def progress(self) -> list[Line]:
        """One line for each finished update."""
        return read_progress(self.folder)


@contextmanager
def start_trainer(module: str, spec: Config, folder: Path, runtime: TrainingRuntime) -> Iterator[TrainerProcess]:
    """Run `python -m MODULE SPEC.json` on all ranks while the block runs; its whole tree is dead afterwards.

    Args:
        module: such as `tasks.sft.trainer`; its `main` takes the path of the spec.
        spec: written to `folder/spec.json`.
        folder: what the trainer leaves: log, progress, resume points, weights. A new start goes on from it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / SPEC_FILE, spec.model_dump(mode="json"))
    command = trainer_command(module, folder / SPEC_FILE, runtime)
    environment = trainer_environment(runtime, free_port())
    with ChildProcess(command, name=f"trainer {module}", log=folder / LOG_FILE, env=environment) as child:
        try:
            yield TrainerProcess(child, folder)
        finally:
            child.stop(STOP_GRACE_S)


def trainer_command(module: str, spec: Path, runtime: TrainingRuntime) -> list[str]:
    """One rank is a plain process; more are started by torchrun, on a free port of its own choice."""
    if runtime.num_processes == 1:
        return [sys.executable, "-m", module, str(spec)]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--no-python"]
    ranks = ["--nproc-per-node", str(runtime.num_processes)]
    return [*torchrun, *ranks, sys.executable, "-m", module, str(spec)]


def trainer_environment(runtime: TrainingRuntime, port: int) -> dict[str, str]:
    """Environment of every rank."""
    threads = str(runtime.num_threads)
    environment = child_environment(
        OMP_NUM_THREADS=threads,
        MKL_NUM_THREADS=threads,
        # The same number of threads whatever the load, or sums are cut otherwise and runs differ in the last bit.
        OMP_DYNAMIC="FALSE",
        MKL_DYNAMIC="FALSE",
        # Threads that wait sleep: rollouts run on the same cores, and a spinning thread would take theirs.
        OMP_WAIT_POLICY="PASSIVE",
        KMP_BLOCKTIME="0",
    )
    # Set by DeepSpeed's own launcher; its shared-memory all-reduce then hangs.
    environment.pop("LOCAL_SIZE", None)
    if runtime.device == "cpu":
        environment["DS_ACCELERATOR"] = "cpu"
    else:
        environment["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # without it cuBLAS is not deterministic
    if runtime.num_processes == 1:
        environment |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return environment
