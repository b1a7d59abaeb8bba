"""C0: 100,000 generated rows of JSON Lines into sharded Parquet, against `datasets` mapping the same fields."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from infra.output import Output, Resources
from infra.store import Store, raw_file
from tasks.ingest.config import SourceConfig
from tasks.ingest.steps import ingest_source
from tests.benchmarks.__main__ import Contest

NUM_ROWS = 100_000


def contest() -> Contest:
    """The contest. Ours also hashes, validates and accounts for each row, and keeps what no field takes."""
    folder = Path(tempfile.mkdtemp())
    raw = folder / "rows.jsonl"
    with raw.open("w", encoding="utf-8") as lines:
        lines.writelines(f"{json.dumps(_row(number))}\n" for number in range(NUM_ROWS))

    def ours() -> object:
        return _totals(_ingest(raw, folder / "ours"))

    def with_datasets() -> object:
        return _totals(_map(raw, folder / "datasets"))

    def only_json() -> object:
        with raw.open(encoding="utf-8") as lines:
            return sum(len(json.loads(line)["question"]) for line in lines)

    return Contest(
        "C0 ingest", "rows", NUM_ROWS, ours, {"datasets map and to_parquet": with_datasets}, only_json,
        "parsing the JSON", runs=3,
    )  # fmt: skip


def _row(number: int) -> dict[str, object]:
    question = f"Tom has {number} apples and gives away {number // 3} to each of his friends. How many are left? " * 3
    return {
        "question": question,
        "answer": f"He keeps {number}.\n#### {number}",
        "difficulty": number % 7,
        "topic": "a",
    }


def _ingest(raw: Path, folder: Path) -> Iterator[Path]:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "scratch").mkdir(parents=True)
    store = Store(str(folder / "store"), local=folder / "local")
    out = Output("ingest", scratch=folder / "scratch", store=store, resources=Resources())
    config = SourceConfig(name="toy", file="rows.jsonl", adapter="gsm8k", license="MIT")
    ingest_source.inner(raw_file(raw, "rows.jsonl"), config, out)
    return (store.local_file(file) for file in out.finish(is_dataset=True))


def _map(raw: Path, folder: Path) -> Iterator[Path]:
    from datasets import load_dataset

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    rows = load_dataset("json", data_files=str(raw), split="train", cache_dir=str(folder / "cache"))

    def convert(row: dict[str, str]) -> dict[str, str]:
        solution, _, answer = row["answer"].rpartition("####")
        return {"answer": answer.replace(",", "").strip(), "solution": solution.strip()}

    rows.map(convert, load_from_cache_file=False).to_parquet(str(folder / "rows.parquet"))
    return iter([folder / "rows.parquet"])


def _totals(shards: Iterator[Path]) -> tuple[int, int]:
    """Rows, and the sum of all answers."""
    answers = [value for shard in shards for value in pq.read_table(shard, columns=["answer"])["answer"].to_pylist()]
    return len(answers), sum(map(int, answers))
