"""trace, impact, where and diff as a person types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from flows.cli import app
from flows.lineage_report import funnel_line, tree_lines
from infra.config import ConfigError
from infra.ledger import UnknownRowError
from infra.lookup import UnknownArtifactError
from tests.unit.traced_store import new_run, run_pipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("traced")
    run_pipeline(new_run(folder), folder)
    return folder


@pytest.fixture
def ask(folder: Path) -> Callable[..., Result]:
    def invoke(*words: str) -> Result:
        return CliRunner().invoke(app, [*words, "--store", str(folder / "store")], catch_exceptions=False)

    return invoke


def parsed(result: Result) -> Any:
    return json.loads(result.stdout)


def test_trace_ends_at_the_raw_files_and_says_what_each_holds(ask: Callable[..., Result]) -> None:
    told = ask("trace", "grpo-1").stdout
    assert "kept 3 of 5: too small 2" in " ".join(told.split())
    assert "scores grpo-1: bench 25.0 [10.0, 40.0]" in " ".join(told.split())
    assert "raw/a.txt" in told
    assert told.splitlines()[-1].startswith("grpo-1 was made from 1 checkpoint, 7 data versions, 1 folder, 2 raw files")


def test_trace_as_json_holds_nodes_and_edges(ask: Callable[..., Result]) -> None:
    told = parsed(ask("trace", "filter", "--json"))
    names = {node["name"] for node in told["nodes"].values()}
    assert names == {"corpus", "raw/a.txt", "raw/made.txt", "ingest a", "ingest made", "merge", "filter"}
    assert told["nodes"][told["artifact"]]["name"] == "filter"
    assert {edge["role"] for edge in told["edges"]} == {"file of", "raw", "parts", "queries"}


def test_impact_of_a_raw_file_goes_down_to_the_scores(ask: Callable[..., Result], folder: Path) -> None:
    told = parsed(ask("impact", str(folder / "a.txt"), "--json"))
    names = {node["name"] for node in told["nodes"].values()}
    assert {"raw/a.txt", "ingest a", "sft", "grpo-1", "scores grpo-1"} <= names
    assert "ingest made" not in names
    assert "raw/a.txt went into 2 checkpoints" in ask("impact", "raw/a.txt").stdout


def test_html_is_written_of_the_part_or_of_all(ask: Callable[..., Result], tmp_path: Path) -> None:
    part, whole = tmp_path / "new/part.html", tmp_path / "whole.html"
    assert "open it in a browser" in ask("trace", "filter", "--html", str(part)).stderr
    ask("trace", "--html", str(whole))
    assert part.read_text().count('class="node"') == 7
    assert whole.read_text().count('class="node"') == 13


def test_without_anything_to_do_trace_says_what_to_name(ask: Callable[..., Result]) -> None:
    with pytest.raises(ConfigError, match="name an artifact"):
        ask("trace")


def test_where_tells_each_decision(ask: Callable[..., Result]) -> None:
    told = " ".join(ask("where", "a00000002").stdout.split())
    for words in (
        "verify corrected 2 → 22; 3 of 4 say 22", "samples kept 2 rows stand for it", "pass rate 0.25, 1 of 4",
        "train step 1: rewards 1, –", "row a00000002 of source a, from raw/a.txt",
    ):  # fmt: skip
        assert words in told
    assert [each["what"] for each in parsed(ask("where", "a00000001", "--json"))["decisions"]][-1] == "dropped"


def test_diff_tells_counts_and_reasons(ask: Callable[..., Result]) -> None:
    told = ask("diff", "merge", "verify").stdout
    assert "too_small" in told
    assert "0 added, 2 dropped, 2 relabelled; 5 → 3 rows" in told
    assert parsed(ask("diff", "merge", "verify", "--json"))["num_dropped"] == 2


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("trace", "grop-1"), UnknownArtifactError),
        (("impact", "no/such"), UnknownArtifactError),
        (("diff", "merge", "nothing"), UnknownArtifactError),
        (("where", "zzzz"), UnknownRowError),
    ],
)
def test_what_is_unknown_is_one_clear_error(
    ask: Callable[..., Result], words: tuple[str, ...], error: type[Exception]
) -> None:
    with pytest.raises(error):
        ask(*words)


@pytest.mark.parametrize("command", ["trace", "impact", "where", "diff"])
def test_help_shows_examples(command: str) -> None:
    assert "Examples" in CliRunner().invoke(app, [command, "--help"]).stdout


def test_a_tree_tells_each_node_once() -> None:
    below = {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": ["e"], "e": []}
    lines = tree_lines("a", below.__getitem__)
    assert [(line.guide, line.key, line.is_repeated) for line in lines] == [
        ("", "a", False),
        ("├ ", "b", False),
        ("│ └ ", "d", False),
        ("│   └ ", "e", False),
        ("└ ", "c", False),
        ("  └ ", "d", True),
    ]


def test_a_funnel_in_brief_names_the_most_frequent_reasons() -> None:
    funnel = {"s": {"kept": 5, "a": 1, "b": 2, "c": 3, "d_e": 9}, "t": {"a": 9}}
    assert funnel_line(funnel) == "kept 5 of 29: a 10, d e 9, c 3 and 1 more reasons"
    assert funnel_line({"s": {"kept": 5}}) == ""
