"""Raw files and data sets of the hub → data versions of queries."""

from __future__ import annotations

from infra.artifacts import Dataset, Folder, Raw
from infra.output import Output
from infra.step import step
from tasks.ingest.config import BenchmarkConfig, ReadConfig, SourceConfig
from tasks.ingest.conversion import Unread, convert_rows, native_rows
from tasks.procedural.config import CorpusConfig
from tasks.records import Query


@step(version=2, produces=Folder)
def generate_corpus(config: CorpusConfig, out: Output) -> None:
    """Make the raw files of the procedural world: `raw/*.jsonl` and `benchmarks/*.jsonl`."""
    from tasks.procedural.corpus import make_corpus, write_raw

    corpus = make_corpus(config)
    folder = out.scratch / "corpus"
    write_raw(corpus, folder)
    for prefix in ("raw", "benchmarks"):
        out.add_folder(folder / prefix, prefix)
    rows = {name: len(rows) for files in (corpus.raw, corpus.benchmarks) for name, rows in files.items()}
    out.note("\n".join(f"- {name}: {count} rows" for name, count in rows.items()))


@step(version=2, produces=Dataset)
def ingest_source(raw: Raw, config: SourceConfig, out: Output) -> None:
    """Read one source; a row that makes no query is dropped with its reason."""
    _ingest(raw, config, out)


@step(version=2, produces=Dataset)
def ingest_benchmark(raw: Raw, config: BenchmarkConfig, out: Output) -> None:
    """Read one evaluation set."""
    _ingest(raw, config, out)


@step(version=1, produces=Dataset, conserves="datasets")
def merge(datasets: tuple[Dataset, ...], out: Output) -> None:
    """The rows of all data sets, in the order given."""
    for dataset in datasets:
        for query in out.rows(dataset, Query):
            out.keep(query)


def _ingest(raw: Raw, config: ReadConfig, out: Output) -> None:
    for query, reason in convert_rows(native_rows(raw, config), config):
        out.rows_in += 1
        if isinstance(query, Unread):
            out.drop(query, str(reason), query.refusal)
        elif reason is not None:
            out.drop(query, reason, f"row {out.rows_in} of {config.origin}")
        else:
            out.keep(query)
