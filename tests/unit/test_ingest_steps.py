"""The ingest steps on small files: order, drops and conservation."""

import json
from pathlib import Path
from typing import Any

from infra.artifacts import Dataset
from infra.output import Output, Resources
from infra.rows import read_shard
from infra.store import Store, raw_file
from tasks.ingest.config import BenchmarkConfig, SourceConfig
from tasks.ingest.steps import generate_corpus, ingest_benchmark, ingest_source, merge
from tasks.procedural.config import CorpusConfig
from tasks.records import Query


def output_at(folder: Path) -> Output:
    (folder / "scratch").mkdir(parents=True)
    store = Store(str(folder / "store"), local=folder / "local")
    return Output("step", scratch=folder / "scratch", store=store, resources=Resources())


def kept(out: Output) -> list[Query]:
    files = [file for file in out.finish(True) if file.path.startswith("kept-")]
    return [row for file in files for row in read_shard(out.store.local_file(file), Query)]


def test_ingest_source_keeps_and_drops_every_row(tmp_path: Path) -> None:
    rows = [{"question": text, "answer": "#### 3"} for text in ("one?", " ", "two?", "one?")]
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    out = output_at(tmp_path)
    config = SourceConfig(name="toy", file="raw/a.jsonl", adapter="gsm8k", license="MIT")
    ingest_source.inner(raw_file(tmp_path / "a.jsonl", "raw/a.jsonl"), config, out)
    out.check_conservation(out.rows_in)
    assert out.rows_in == 4
    assert out.sorted_funnel() == {"toy": {"empty_prompt": 1, "kept": 3}}
    assert [query.prompt for query in kept(out)] == ["one?", "two?", "one?"]


def test_ingest_benchmark_and_merge_keep_the_order(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text('{"question": "How many?", "answer": "#### 3"}\n')
    out = output_at(tmp_path / "ingest")
    config = BenchmarkConfig(name="bench", file="b.jsonl", adapter="gsm8k")
    ingest_benchmark.inner(raw_file(tmp_path / "b.jsonl", "b.jsonl"), config, out)
    (query,) = kept(out)
    assert (query.source, query.answer, query.license) == ("bench", "3", "")

    sets = [Dataset(name=name, digest=name, uri="") for name in ("late", "early")]
    rows = {s.name: [query.model_copy(update={"id": f"{s.name}{n}"}) for n in range(2)] for s in sets}
    merged = output_at(tmp_path / "merge")
    reader: Any = lambda dataset, model: iter(rows[dataset.name])  # noqa: E731
    merged.rows = reader  # type: ignore[method-assign]
    merge.inner(tuple(sets), merged)
    assert [each.id for each in kept(merged)] == ["late0", "late1", "early0", "early1"]


def test_the_generated_corpus_is_readable_by_the_adapters(tmp_path: Path) -> None:
    out = output_at(tmp_path)
    generate_corpus.inner(CorpusConfig(), out)
    files = {file.path: file for file in out.finish(False)}
    adapters = {
        "raw/gsm8k_train.jsonl": "gsm8k",
        "raw/hendrycks_math.jsonl": "hendrycks_math",
        "raw/deepmath.jsonl": "deepmath",
        "raw/mbpp_train.jsonl": "mbpp",
        "raw/mmlu_science_val.jsonl": "mmlu_mcq",
        "raw/tulu_if.jsonl": "ifeval",
        "raw/fastchat_dummy.jsonl": "sharegpt",
        "benchmarks/math500.jsonl": "math500",
        "benchmarks/gsm8k_test.jsonl": "gsm8k",
    }
    assert files.keys() == adapters.keys()
    for number, (path, adapter) in enumerate(adapters.items()):
        read = output_at(tmp_path / str(number))
        raw = raw_file(out.store.local_file(files[path]), path)
        ingest_source.inner(raw, SourceConfig(name="toy", file=path, adapter=adapter, license=""), read)
        read.check_conservation(read.rows_in)
        assert read.sorted_funnel()["toy"].keys() == {"kept"}
