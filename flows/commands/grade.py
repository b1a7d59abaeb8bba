"""posttrain grade: the rewards of the pipeline for any file of answers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from flows.commands.options import JsonOption, ProfileOption, StoreOption, console, errors, open_runtime, overrides

if TYPE_CHECKING:
    from infra.runtime import Runtime
    from tasks.rewards.chat import RewardModel
    from tasks.rewards.grade import GradeJob, Summary
    from tasks.rewards.rewarder import RewardConfig, Rewarder

app = typer.Typer()
DEFAULTS = Path(__file__).with_name("grade.toml")
BAD_INPUT, FAULTS_LEFT = 2, 3

GRADE_EPILOG = (
    "Rows in have `id`, `response`, and for math `gold` (a text, or a list of texts that are all right); for code "
    "`tests` and perhaps `language`; for instructions `prompt`, `instruction_id_list` and `kwargs` (as IFEval); for "
    "chat `messages`. Rows out have `id`, `outcome`, `score`, `extracted`, `method`, `ms` and `detail`.\n\n"
    "Examples:\n\n  posttrain grade math answers.jsonl -o verdicts.jsonl\n\n"
    "  posttrain grade code programs.parquet -o verdicts.parquet --processes 8 --json\n\n"
    "  posttrain grade instructions ifeval.jsonl -o verdicts.jsonl --set 'instructions.rules=\"fixed\"'\n\n"
    "  posttrain grade chat dialogs.jsonl -o verdicts.jsonl --endpoint http://127.0.0.1:8000/v1 --model my-judge\n\n"
    "Run the same command again after an interruption: rows that are graded are kept, while input and rules are the "
    "same. Exit code 0: all is graded, right or wrong; 2: bad input, nothing was graded; 3: the grader failed on some "
    "rows, which the same command grades again."
)


class Domain(StrEnum):
    """What the answers are, and so what judges them."""

    MATH = "math"
    CODE = "code"
    INSTRUCTIONS = "instructions"
    CHAT = "chat"


class Means(NamedTuple):
    """What grading works with, by option or profile."""

    runtime: Runtime
    processes: int
    unsafe: bool


@app.command(epilog=GRADE_EPILOG)
def grade(
    domain: Annotated[Domain, typer.Argument(help="What the answers are.")],
    source: Annotated[Path, typer.Argument(metavar="IN", help="Answers: a .jsonl or .parquet file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Verdicts: a .jsonl or .parquet file.")],
    override: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a rule: --set math.timeout_s=10 (TOML value). Repeatable."),
    ] = None,
    rewards: Annotated[
        Path | None, typer.Option(help="TOML file of rules: the tables of a recipe's `rewards`.")
    ] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="Rows graded at a time. Default: one a CPU.")] = None,
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="Code: also where no secure jail works. You trust it.")
    ] = False,
    endpoint: Annotated[
        str | None, typer.Option(help="Chat: base URL of the reward model. Default: profile's.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Chat: the reward model's name; as --set chat.model.")] = None,
    profile: ProfileOption = "local",
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Grade a file of answers: math, code, instructions (IFEval) or chat."""
    from tasks.rewards.grade import GradeJob
    from tasks.rewards.grade_rows import InputError

    config = _config(rewards, override, model)
    means = Means(_runtime(profile, store, endpoint), processes or os.cpu_count() or 1, unsafe)
    job = GradeJob(domain=domain, source=source, output=output)
    try:
        summary = _grade(job, config, means)
    except InputError as error:
        errors.print("[bold red]error[/] ", end="")
        errors.print(str(error), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(BAD_INPUT) from None
    if as_json:
        print(summary.model_dump_json(indent=1))
    else:
        _show(summary)
    if summary.grader_faults:
        told = f"the grader failed on {summary.grader_faults} of {summary.rows} rows; see their `detail`, then run the "
        errors.print(f"{told}same command again: it grades only these", style="bold red", highlight=False)
        raise typer.Exit(FAULTS_LEFT)


def _grade(job: GradeJob, config: RewardConfig, means: Means) -> Summary:
    from tasks.rewards.grade import check, finished, grade, identity_of

    num_rows = check(job)
    done = finished(job, identity_of(job, config))
    if done is not None:
        errors.print(f"{job.output} is of this input and these rules already: nothing to grade", highlight=False)
        return done
    with _rewarder(job.domain, config, means) as rewarder:
        return grade(job, rewarder, num_rows)


def _config(rewards: Path | None, override: list[str] | None, model: str | None) -> RewardConfig:
    from infra.config import load_toml
    from tasks.rewards.rewarder import RewardConfig

    given = overrides(override) | ({} if model is None else {"chat.model": model})
    return load_toml(rewards or DEFAULTS, RewardConfig, given)


def _runtime(profile: str, store: str | None, endpoint: str | None) -> Runtime:
    from infra.runtime import Endpoint
    from tasks.rewards.opening import ROLE

    runtime = open_runtime(profile, store)
    if endpoint is None:
        return runtime
    # Its key and limits stay the profile's where it is the profile's endpoint with another address.
    before = runtime.endpoints.get(ROLE) or Endpoint(base_url=endpoint)
    return runtime.model_copy(
        update={"endpoints": runtime.endpoints | {ROLE: before.model_copy(update={"base_url": endpoint})}}
    )


@contextmanager
def _rewarder(domain: str, config: RewardConfig, means: Means) -> Iterator[Rewarder]:
    from tasks.rewards.code_place import open_code_judge
    from tasks.rewards.rewarder import Rewarder

    place = means.runtime.sandbox
    place = place.model_copy(update={"unsafe": place.unsafe or means.unsafe, "slots": means.processes})
    with _model(domain, config, means.runtime) as model, open_code_judge(config.code, place) as code:
        max_asks = means.runtime.endpoint("reward-model").max_concurrency if model else 1
        with Rewarder(
            config,
            num_processes=means.processes,
            num_programs=means.processes,
            model=model,
            max_asks=max_asks,
            code=code,
        ) as rewarder:
            yield rewarder


@contextmanager
def _model(domain: str, config: RewardConfig, runtime: Runtime) -> Iterator[RewardModel | None]:
    """The reward model with the store's row cache: what it was asked once is not paid for again."""
    if domain != Domain.CHAT:
        yield None
        return
    from contextlib import ExitStack, closing

    from infra.row_cache import RowCache
    from infra.run import open_store
    from tasks.rewards.opening import open_client, reward_model

    with ExitStack() as stack:
        cache = stack.enter_context(closing(RowCache(open_store(runtime), "llm", runtime.scratch_folder)))
        client = stack.enter_context(open_client(runtime, config.chat, cache))
        yield stack.enter_context(reward_model(client, config.chat, cache))


def _show(summary: Summary) -> None:
    from rich.table import Table

    table = Table("outcome", "rows", "part")
    for outcome, count in summary.outcomes.items():
        table.add_row(outcome, f"{count:,}", f"{count / summary.rows:.1%}")
    console.print(table)
    mean = "none" if summary.mean_score is None else f"{summary.mean_score:.4f} over {summary.scored:,} rows"
    kept = f", {summary.kept:,} of them kept from before" if summary.kept else ""
    console.print(
        f"mean score {mean}; {summary.mean_ms:.1f} ms a row, {summary.max_ms:.0f} ms the longest", highlight=False
    )
    console.print(f"{summary.rows:,} rows{kept} → {summary.output}", highlight=False, soft_wrap=True)
