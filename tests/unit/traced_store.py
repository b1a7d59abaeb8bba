"""A small pipeline from two raw files to scores, with every kind of table, for tests of lineage. No Prefect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infra.artifacts import Artifact, Checkpoint, Dataset, Folder, Raw, Report, Score
from infra.config import Config
from infra.output import Output
from infra.rows import write_shard
from infra.run import Run, active
from infra.runtime import Runtime
from infra.step import Step, step
from infra.store import raw_file


class TracedQuery(Config):
    id: str
    source: str
    answer: str | None = None


class TracedSample(Config):
    id: str
    query_id: str
    source: str


class TracedCorrection(Config):
    query_id: str
    source: str
    old: str
    new: str
    evidence: str


class TracedDifficulty(Config):
    query_id: str
    num_correct: int
    num_judged: int


class TracedRollout(Config):
    query_id: str
    reward: float | None


class Threshold(Config):
    lowest: int = 0


@step(version=1, produces=Folder)
def traced_corpus(config: Threshold, out: Output) -> None:
    folder = out.scratch / "raw"
    folder.mkdir(exist_ok=True)
    (folder / "made.txt").write_text("made 1\nmade 2\n")
    out.add_folder(folder, "raw")


@step(version=1, produces=Dataset)
def traced_ingest(raw: Raw, out: Output) -> None:
    """A line `source number` makes the query `<source>0000000<number>`; number 0 is empty."""
    for line in Path(raw.uri).read_text().splitlines():
        source, number = line.split()
        out.rows_in += 1
        query = TracedQuery(id=f"{source}{int(number):08d}", source=source, answer=number)
        out.drop(query, "empty", f"row {out.rows_in}") if number == "0" else out.keep(query)


@step(version=1, produces=Dataset, conserves="parts")
def traced_merge(parts: tuple[Dataset, ...], out: Output) -> None:
    for part in parts:
        for query in out.rows(part, TracedQuery):
            out.keep(query)


@step(version=1, produces=Dataset, conserves="queries")
def traced_filter(queries: Dataset, config: Threshold, out: Output) -> None:
    for query in out.rows(queries, TracedQuery):
        number = int(query.answer or "")
        out.keep(query) if number > config.lowest else out.drop(query, "too_small", f"{number} <= {config.lowest}")


@step(version=1, produces=Dataset, conserves="queries")
def traced_verify(queries: Dataset, out: Output) -> None:
    """The label 2 is wrong: it becomes 22."""
    for query in out.rows(queries, TracedQuery):
        if query.answer == "2":
            told = TracedCorrection(query_id=query.id, source=query.source, old="2", new="22", evidence="3 of 4 say 22")
            out.attach("corrections", told)
            out.keep(query.model_copy(update={"answer": "22"}))
        else:
            out.keep(query)


@step(version=1, produces=Dataset, conserves="queries")
def traced_samples(queries: Dataset, out: Output) -> None:
    for query in out.rows(queries, TracedQuery):
        for index in range(2):
            out.keep(TracedSample(id=f"{query.id}/{index}", query_id=query.id, source=query.source), of=query)


@step(version=1, produces=Checkpoint)
def traced_sft(samples: Dataset, out: Output) -> None:
    _write_model(out, "sft", 5)


@step(version=1, produces=Dataset, conserves="queries")
def traced_prompts(policy: Checkpoint, queries: Dataset, out: Output) -> None:
    """Every query is solved in one of four samples; `a…3` always, so it leaves."""
    for query in out.rows(queries, TracedQuery):
        solved = 4 if query.answer == "3" else 1
        out.attach("difficulty", TracedDifficulty(query_id=query.id, num_correct=solved, num_judged=4))
        out.drop(query, "always_solved", "4 of 4 correct") if solved == 4 else out.keep(query)


@step(version=1, produces=Checkpoint)
def traced_grpo(policy: Checkpoint, prompts: Dataset, out: Output) -> None:
    """The first prompt is sampled in train step 1; one of its samples could not be judged."""
    first = next(out.rows(prompts, TracedQuery))
    rows = [TracedRollout(query_id=first.id, reward=1.0), TracedRollout(query_id=first.id, reward=None)]
    for number, batch in enumerate(([], rows)):
        path = out.scratch / f"step_{number}.parquet"
        write_shard(path, TracedRollout, batch)
        out.add_file(path, f"rollouts/step_{number:05d}.parquet")
    _write_model(out, "grpo", 2)


@step(version=1, produces=Report)
def traced_scores(checkpoint: Checkpoint, benchmark: Dataset, out: Output) -> None:
    out.summarize(scores={"bench": Score(mean=0.25, low=0.1, high=0.4, k=2, n=4)})


def _write_model(out: Output, word: str, train_step: int) -> None:
    folder = out.scratch / "model"
    folder.mkdir(exist_ok=True)
    (folder / "weights").write_text(word)
    out.add_folder(folder, "model")
    out.log(1, loss=0.5)
    out.summarize(base_model="base", train_step=train_step, tokenizer_digest="t")


def new_run(folder: Path, recipe: str = "traced") -> Run:
    return Run(recipe, Runtime(store=str(folder / "store")))


def call(run: Run, step: Step[Any], *args: Any, label: str, **kwargs: Any) -> Any:
    return step.execute(run, step._bind(args, kwargs, label)).artifact


def run_pipeline(run: Run, folder: Path, text: str = "a 0\na 1\na 2\na 3\n", lowest: int = 1) -> dict[str, Artifact]:
    """Run it all; the artifacts by label. `text` is the raw file from outside, whose source is `a`."""
    outside = folder / "a.txt"
    outside.write_text(text)
    with active(run):
        corpus = call(run, traced_corpus, config=Threshold(), label="corpus")
        a = call(run, traced_ingest, raw_file(outside, "raw/a.txt"), label="ingest a")
        made = call(run, traced_ingest, run.store.file(corpus, "raw/made.txt"), label="ingest made")
        merged = call(run, traced_merge, (a, made), label="merge")
        filtered = call(run, traced_filter, merged, config=Threshold(lowest=lowest), label="filter")
        verified = call(run, traced_verify, filtered, label="verify")
        samples = call(run, traced_samples, verified, label="samples")
        sft = call(run, traced_sft, samples, label="sft")
        prompts = call(run, traced_prompts, sft, verified, label="prompts grpo-1")
        grpo = call(run, traced_grpo, sft, prompts, label="grpo-1")
        call(run, traced_scores, grpo, made, label="scores grpo-1")
    return {record.label: record.artifact for record in run.records}
