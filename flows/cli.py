"""posttrain: the command line. Imports no torch, Prefect or MLflow before a command needs them."""

from __future__ import annotations

import errno
import os
import signal
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import NoReturn

import typer

from flows.commands import grade, running, sandbox, sources, stack, tracing, upkeep
from flows.commands.options import errors
from infra.config import ConfigError

INTERRUPT_GRACE_S = 5.0

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Public questions → curated data → SFT → two-stage GRPO → benchmark scores.",
)
for group in (running, tracing, sources, grade, stack, upkeep, sandbox):
    app.add_typer(group.app)


def main() -> None:
    """Run the command line: one clear error and an exit code other than 0 when something is wrong."""
    # As after Ctrl-C, so that servers and trainers that we started end with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        app(standalone_mode=True)
    except Exception as error:
        sys.exit(_tell(error))


def _interrupt(*_: object) -> NoReturn:
    """End in order, but soon: a terminal's Ctrl-C ends Prefect's embedded server too, and its client would wait for it.

    Nothing is lost by leaving at once: what is published is whole, and our child processes die with us.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    errors.print("interrupted; run the same command again and it goes on", style="yellow")
    leave = threading.Timer(INTERRUPT_GRACE_S, os._exit, (128 + signal.SIGINT,))
    leave.daemon = True
    leave.start()
    raise KeyboardInterrupt


def _tell(error: Exception) -> int:
    """Print one error. Most carry their remedy; of the others the trace helps, and goes to a file."""
    errors.print("[bold red]error[/] ", end="")
    errors.print(f"{type(error).__name__}: {error}", markup=False, highlight=False, soft_wrap=True)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        errors.print("free space on that disk, or name another --store; then run the same command again")
    if not isinstance(error, ConfigError):
        errors.print(f"nothing half-made was published; {_keep_trace(error)}", style="dim", soft_wrap=True)
    return 1


def _keep_trace(error: Exception) -> str:
    trace = Path(tempfile.gettempdir()) / f"posttrain-error-{os.getpid()}.log"
    try:
        trace.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    except OSError as full:
        return f"the trace could not be kept: {full}"
    return f"the trace is in {trace}"


if __name__ == "__main__":
    main()
