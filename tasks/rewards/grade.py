"""Grade a file of answers: rows in, verdicts out, with the rewarder of the pipeline; see `posttrain grade`."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from infra.config import Config
from infra.fingerprint import file_digest, fingerprint
from infra.progress import Progress, progress_bar
from infra.whole_files import aside_of
from tasks.records import Outcome
from tasks.rewards.grade_journal import Journal, journal_of, output_row, write_output
from tasks.rewards.grade_rows import SUFFIXES, InputError, count_rows, read_rows
from tasks.rewards.rewarder import Pair, RewardConfig, Rewarder

GRADER_FAULTS = frozenset({Outcome.CRASH, Outcome.SANDBOX_ERROR})


class GradeJob(Config):
    """A file to grade, and where its verdicts go."""

    domain: str = Field(description="math, code, instructions or chat")
    source: Path = Field(description="JSON Lines or Parquet")
    output: Path = Field(description="JSON Lines or Parquet, by its suffix")


class Summary(Config):
    """What grading a file found."""

    output: Path
    rows: int
    kept: int = Field(description="rows that an earlier run of the same command had graded")
    outcomes: dict[str, int] = Field(description="number of rows by outcome, the most frequent first")
    mean_score: float | None = Field(description="over the rows that have a score; None where none has")
    scored: int = Field(description="rows that have a score; a fault has none")
    mean_ms: float = Field(description="milliseconds of grading a row, without queueing")
    max_ms: float
    grader_faults: int = Field(description="rows on which the grader itself failed; run again to grade only these")


class _Place(NamedTuple):
    number: int
    id: str | int


def check(job: GradeJob) -> int:
    """Look at all of the input before anything is graded; its number of rows.

    Raises:
        InputError: a file cannot be read or written, or a row lacks what grading needs.
    """
    if job.output.suffix not in SUFFIXES:
        raise InputError(f"{job.output}: name an output that ends in {' or '.join(SUFFIXES)}")
    if job.output.is_dir():
        raise InputError(f"{job.output}: is a folder; name a file in it")
    if job.output.resolve() == job.source.resolve():
        raise InputError(f"{job.output}: is the input; name another output")
    if job.output.exists() and not (_note(job).exists() or journal_of(job.output).exists()):
        raise InputError(f"{job.output}: is there, and no verdicts of this command; name another output or delete it")
    num_rows = count_rows(job.source, job.domain)
    _make_folder(job.output)
    return num_rows


def _make_folder(output: Path) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{output.parent}: cannot be made: {error.strerror}; name another output") from None
    if not os.access(output.parent, os.W_OK):
        raise InputError(f"{output.parent}: cannot be written to; name another output")


def identity_of(job: GradeJob, config: RewardConfig) -> str:
    """Of the verdicts: equal for equal input and rules, wherever they are graded."""
    # A domain is called as the table of the config that says its rules.
    return fingerprint([job.domain, file_digest(job.source), getattr(config, job.domain)])


def finished(job: GradeJob, identity: str) -> Summary | None:
    """The summary of the output that is there, where it is whole, of this input and these rules, and without faults."""
    try:
        note = json.loads(_note(job).read_text(encoding="utf-8"))
        is_same = note["identity"] == identity and note["digest"] == file_digest(job.output)
        summary = Summary.model_validate(note["summary"]) if is_same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return summary and summary.model_copy(update={"kept": summary.rows, "output": job.output})


def grade(job: GradeJob, rewarder: Rewarder, num_rows: int) -> Summary:
    """Grade what is not graded yet, then write the output.

    Raises:
        InputError: another command grades into the same output.
        SandboxError: no jail works here.
        EndpointError: the reward model cannot be asked.
    """
    identity = identity_of(job, rewarder.config)
    with Journal(job.output, identity, num_rows) as journal:
        with progress_bar(f"grade {job.domain}", num_rows) as bar:
            bar.advance(journal.num_kept)
            _fill(journal, job, rewarder, bar)
        write_output(job.output, journal.rows())
        summary = _summarise(job, journal)
        if not summary.grader_faults:  # otherwise the journal stays: the same command grades only those again
            _write_note(job, identity, summary)
            journal.path.unlink()  # while it is locked, so that nobody goes on with it
    return summary


def _write_note(job: GradeJob, identity: str, summary: Summary) -> None:
    content = {"identity": identity, "digest": file_digest(job.output), "summary": summary.model_dump(mode="json")}
    with aside_of(_note(job)) as aside:
        aside.write_text(json.dumps(content) + "\n", encoding="utf-8")
        aside.replace(_note(job))


def _fill(journal: Journal, job: GradeJob, rewarder: Rewarder, bar: Progress) -> None:
    # The rewarder numbers what it is given, which is what is missing here.
    open_rows: dict[int, _Place] = {}
    num_right = 0

    def missing() -> Iterator[Pair]:
        rows = ((n, row) for n, row in enumerate(read_rows(job.source, job.domain)) if n not in journal)
        for given, (number, row) in enumerate(rows):
            open_rows[given] = _Place(number, row.id)
            yield row.query, row.response

    for num_done, (given, verdict) in enumerate(rewarder.stream(missing()), 1):
        place = open_rows.pop(given)
        journal.put(place.number, output_row(place.id, verdict))
        num_right += verdict.outcome.is_right
        bar.advance()
        bar.say("" if job.domain == "chat" else f"{num_right / num_done:.0%} right")


def _summarise(job: GradeJob, journal: Journal) -> Summary:
    outcomes: Counter[str] = Counter()
    scores = milliseconds = longest = 0.0
    num_rows = num_scored = 0
    for row in journal.rows():
        num_rows += 1
        outcomes[row["outcome"]] += 1
        num_scored += row["score"] is not None
        scores += row["score"] or 0.0
        milliseconds, longest = milliseconds + row["ms"], max(longest, row["ms"])
    return Summary(
        output=job.output,
        rows=num_rows,
        kept=journal.num_kept,
        outcomes=dict(outcomes.most_common()),
        mean_score=scores / num_scored if num_scored else None,
        scored=num_scored,
        mean_ms=milliseconds / num_rows,
        max_ms=longest,
        grader_faults=sum(outcomes[fault] for fault in GRADER_FAULTS),
    )


def _note(job: GradeJob) -> Path:
    return job.output.with_name(f"{job.output.name}.graded.json")
