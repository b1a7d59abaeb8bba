"""posttrain trace, impact, where and diff: questions about lineage, answered from the store alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from flows.commands.options import JsonOption, ProfileOption, StoreOption, console, errors, open_runtime
from infra.config import ConfigError

if TYPE_CHECKING:
    from infra.graph import Graph
    from infra.runtime import Runtime
    from infra.store import Store

app = typer.Typer()

ArtifactArgument = Annotated[
    str | None,
    typer.Argument(
        help="step/fingerprint, 6 or more hex digits of a digest, a label such as grpo-1, champion, "
        "recipe:label, a checkout's folder, or a raw file."
    ),
]
VersionArgument = Annotated[
    str, typer.Argument(help="A data version: step/fingerprint, digest, label or recipe:label.")
]
OwnerOption = Annotated[str | None, typer.Option("--recipe", help="Recipe whose labels and aliases are meant.")]
HtmlOption = Annotated[Path | None, typer.Option("--html", help="Also write the clickable graph to this file.")]
SyncOption = Annotated[bool, typer.Option("--sync", help="First make in MLflow what the store knows and MLflow lacks.")]

TRACE_EPILOG = (
    "Examples:\n\n  posttrain trace grpo-2\n\n  posttrain trace champion --recipe smoke --html lineage.html\n\n"
    "  posttrain trace --html everything.html\n\n  posttrain trace --sync"
)


class Question(NamedTuple):
    """What trace and impact were asked."""

    artifact: str | None
    recipe: str | None
    as_json: bool
    html: Path | None
    upwards: bool


@app.command(epilog=TRACE_EPILOG)
def trace(
    artifact: ArtifactArgument = None,
    recipe: OwnerOption = None,
    profile: ProfileOption = "local",
    store: StoreOption = None,
    as_json: JsonOption = False,
    html: HtmlOption = None,
    sync: SyncOption = False,
) -> None:
    """Show what an artifact was made from, back to the raw files; without one, with --html, the whole store."""
    _answer(Question(artifact, recipe, as_json, html, upwards=True), open_runtime(profile, store), sync)


IMPACT_EPILOG = (
    "Examples:\n\n  posttrain impact verify-labels\n\n  posttrain impact raw/gsm8k_train.jsonl --json\n\n"
    "  posttrain impact ingest-source/3f2a91 --html impact.html"
)


@app.command(epilog=IMPACT_EPILOG)
def impact(
    artifact: ArtifactArgument = None,
    recipe: OwnerOption = None,
    profile: ProfileOption = "local",
    store: StoreOption = None,
    as_json: JsonOption = False,
    html: HtmlOption = None,
    sync: SyncOption = False,
) -> None:
    """Show everything that was made from an artifact or a raw file, down to checkpoints and scores."""
    _answer(Question(artifact, recipe, as_json, html, upwards=False), open_runtime(profile, store), sync)


def _answer(question: Question, runtime: Runtime, sync: bool) -> None:
    from infra.graph import ancestors, build_graph, descendants, restricted
    from infra.lookup import find_key
    from infra.run import open_store

    store = open_store(runtime)
    if sync:
        _sync(runtime, store)
    if question.artifact is None:
        _answer_all(question, store, sync)
        return
    graph = build_graph(store.manifests())
    root = find_key(store, graph, question.artifact, question.recipe)
    walk = ancestors if question.upwards else descendants
    reached = walk(graph, root)
    part = restricted(graph, {root, *reached})
    if question.html is not None:
        _write_page(part, f"Lineage of {graph.nodes[root].name}", question.html)
    if question.as_json:
        from flows.lineage_report import graph_json

        print(json.dumps(graph_json(part, root), indent=1))
    else:
        _print_tree(question, graph, part, root)


def _print_tree(question: Question, graph: Graph, part: Graph, root: str) -> None:
    from flows.lineage_report import count_line, tree_lines, tree_table

    branches = part.parents if question.upwards else part.children
    console.print(tree_table(part, tree_lines(root, branches.__getitem__), graph))
    name, others = graph.nodes[root].name, set(part.nodes) - {root}
    verb = "was made from" if question.upwards else "went into"
    console.print(f"{name} {verb} {count_line(graph, others)}", markup=False, highlight=False, soft_wrap=True)


def _answer_all(question: Question, store: Store, sync: bool) -> None:
    from infra.graph import build_graph

    if question.html is not None:
        _write_page(build_graph(store.manifests()), f"Lineage of {store.uri}", question.html)
    elif not sync:
        raise ConfigError("name an artifact, such as `grpo-1`; or give --html FILE for the whole store, or --sync")


def _write_page(graph: Graph, title: str, path: Path) -> None:
    from infra.lineage_page import lineage_page

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(lineage_page(graph, title, f"{len(graph.nodes)} artifacts"), encoding="utf-8")
    _say(f"wrote {path}; open it in a browser")


def _sync(runtime: Runtime, store: Store) -> None:
    from infra.runtime import prepare_environment, without_password

    prepare_environment(runtime.scratch_folder.parent)
    from infra.lineage_sync import sync

    made = sync(runtime, store)
    told = f"made {made.num_runs} runs with {made.num_steps} steps" if made.num_steps else "lacked nothing"
    _say(f"MLflow {told} ({without_password(runtime.mlflow_uri)})")


def _say(line: str) -> None:
    """To the terminal, also where standard output holds JSON."""
    errors.print(line, markup=False, highlight=False, soft_wrap=True)


@app.command(
    epilog="Examples:\n\n  posttrain where 1424a4106453\n\n  posttrain where 1424a4106453 --recipe smoke --json"
)
def where(
    row_id: Annotated[str, typer.Argument(help="Id of a raw row, or its beginning.")],
    recipe: Annotated[str | None, typer.Option(help="Recipe whose last run is asked. Default: the last run.")] = None,
    run: Annotated[str | None, typer.Option(help="Id of the run that is asked, instead of the last.")] = None,
    profile: ProfileOption = "local",
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show where a raw row went and why: every decision about it, what stands for it, and who trained on it."""
    from flows.lineage_report import history_table
    from infra.ledger import row_history
    from infra.run import open_store

    history = row_history(open_store(open_runtime(profile, store)), row_id, recipe, run)
    if as_json:
        print(history.model_dump_json(indent=1))
        return
    console.print(history_table(history))
    origin = f"row {history.row_id} of source {history.source}, from {history.raw_file} ({history.raw_digest[:12]})"
    console.print(
        f"{origin}; run {history.run} of recipe {history.recipe}", markup=False, highlight=False, soft_wrap=True
    )


@app.command(
    epilog="Examples:\n\n  posttrain diff merge verify-labels\n\n  posttrain diff smoke:merge merge/3f2a91 --json"
)
def diff(
    a: VersionArgument,
    b: VersionArgument,
    recipe: OwnerOption = None,
    profile: ProfileOption = "local",
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what changed from data version A to B: rows added, dropped and why, relabelled, by source."""
    from rich.markdown import Markdown

    from infra.lookup import find_artifact
    from infra.run import open_store
    from infra.version_diff import diff_card, diff_versions

    opened = open_store(open_runtime(profile, store))
    found = diff_versions(opened, find_artifact(opened, a, recipe), find_artifact(opened, b, recipe))
    if as_json:
        print(found.model_dump_json(indent=1))
        return
    console.print(Markdown(diff_card(found)))
    counts = f"{found.num_added:,} added, {found.num_dropped:,} dropped, {found.num_relabelled:,} relabelled"
    console.print(f"{counts}; {found.a.rows:,} → {found.b.rows:,} rows", highlight=False)
