"""The lineage graph: who was made from whom, hand-made and of a real store."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from infra.artifacts import File, Kind, Manifest, Parent
from infra.fingerprint import fingerprint
from infra.graph import (
    FILE_OF,
    Graph,
    ancestors,
    build_graph,
    descendants,
    in_order,
    layers,
    restricted,
    scores_of,
)
from infra.graph_layout import GAP, NODE_WIDTH, lay_out
from tests.unit.traced_store import new_run, run_pipeline


def manifest(
    name: str, *parents: Parent, kind: Kind = "dataset", files: tuple[File, ...] = (), **summary: int
) -> Manifest:
    return Manifest(
        kind=kind,
        name=name,
        step="s",
        version=1,
        sampled=False,
        fingerprint=fingerprint(name),
        config={},
        parents={"queries": parents},
        files=files,
        summary=summary or {"name": name},
    )


def made(one: Manifest) -> Parent:
    return Parent(kind=one.kind, name=one.name, digest=one.digest, fingerprint=one.fingerprint)


def outside(name: str, digest: str) -> Parent:
    return Parent(kind="raw", name=name, digest=digest)


def names(graph: Graph, keys: set[str] | list[str]) -> set[str]:
    return {graph.nodes[key].name for key in keys}


def test_ancestors_and_descendants_are_whole_and_without_the_node() -> None:
    a = manifest("a", outside("raw/a", "d" * 64))
    b, c = manifest("b", made(a)), manifest("c", made(a))
    d = manifest("d", made(b), made(c))
    graph = build_graph([d, c, b, a])
    assert names(graph, ancestors(graph, d.fingerprint)) == {"raw/a", "a", "b", "c"}
    assert names(graph, descendants(graph, "d" * 64)) == {"a", "b", "c", "d"}
    assert names(graph, descendants(graph, b.fingerprint)) == {"d"}
    assert graph.nodes[next(iter(in_order(graph)))].name == "raw/a"
    assert [names(graph, layer) for layer in layers(graph)] == [{"raw/a"}, {"a"}, {"b", "c"}, {"d"}]


def test_a_file_of_a_folder_hangs_below_the_folder() -> None:
    folder = manifest("corpus", kind="folder", files=(File(path="raw/a", sha256="e" * 64, bytes=1),))
    rows = manifest("rows", outside("raw/a", "e" * 64))
    graph = build_graph([folder, rows])
    assert names(graph, ancestors(graph, rows.fingerprint)) == {"raw/a", "corpus"}
    assert names(graph, descendants(graph, folder.fingerprint)) == {"raw/a", "rows"}


def test_a_folder_that_holds_a_file_that_it_was_made_from_closes_no_circle() -> None:
    held = (File(path="raw/a", sha256="e" * 64, bytes=1), File(path="raw/b", sha256="f" * 64, bytes=1))
    rows = manifest("rows", outside("raw/a", "e" * 64))
    folder = manifest("folder", outside("raw/a", "e" * 64), made(rows), kind="folder", files=held)
    after = manifest("after", outside("raw/b", "f" * 64))
    graph = build_graph([folder, rows, after])
    assert names(graph, ancestors(graph, folder.fingerprint)) == {"raw/a", "rows"}
    assert names(graph, ancestors(graph, after.fingerprint)) == {"raw/b", "folder", "raw/a", "rows"}
    assert [edge for edge in graph.edges if edge.role == FILE_OF and edge.child == "e" * 64] == []


def test_two_folders_that_hold_each_others_file_close_no_circle() -> None:
    a, b = (File(path=f"raw/{name}", sha256=name * 64, bytes=1) for name in "ab")
    one = manifest("one", outside("raw/b", b.sha256), kind="folder", files=(a,))
    two = manifest("two", outside("raw/a", a.sha256), kind="folder", files=(b,))
    graph = build_graph([one, two])
    assert len(graph.nodes) == len(in_order(graph)) == 4
    assert names(graph, ancestors(graph, two.fingerprint)) == {"raw/a", "one", "raw/b"}


def test_what_was_made_from_equal_content_counts_as_made_from_it() -> None:
    one, other = manifest("one", rows=3), manifest("other", rows=3)
    assert one.digest == other.digest
    graph = build_graph([one, other, manifest("child", made(one))])
    assert names(graph, descendants(graph, other.fingerprint)) == {"child"}
    assert ancestors(graph, other.fingerprint) == set()


def test_a_parent_whose_manifest_is_gone_is_told_as_gone() -> None:
    gone = manifest("gone")
    graph = build_graph([manifest("child", made(gone))])
    assert graph.nodes[gone.fingerprint].is_gone
    assert not graph.nodes[fingerprint("child")].is_gone


def test_equal_raw_bytes_under_two_names_are_one_node_with_both() -> None:
    graph = build_graph([manifest("x", outside("b.txt", "f" * 64)), manifest("y", outside("a.txt", "f" * 64))])
    assert graph.nodes["f" * 64].name == "a.txt = b.txt"


def test_a_source_stands_right_above_what_reads_it() -> None:
    a = manifest("a", outside("raw/a", "a" * 64))
    b = manifest("b", made(a))
    late = manifest("late", outside("raw/late", "b" * 64))
    graph = build_graph([a, b, late, manifest("c", made(b), made(late))])
    assert [names(graph, layer) for layer in layers(graph)] == [{"raw/a"}, {"a", "raw/late"}, {"b", "late"}, {"c"}]


def test_the_graph_of_a_store_goes_from_raw_to_scores_and_back(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    made_by = run_pipeline(run, tmp_path)
    graph = build_graph(run.store.manifests())
    scores = made_by["scores grpo-1"].fingerprint or ""
    up = ancestors(graph, scores)
    assert {"raw/a.txt", "raw/made.txt", "corpus", "samples", "sft", "grpo-1"} <= names(graph, up)
    assert len(up) == len(graph.nodes) - 1
    raw = next(node.key for node in graph.nodes.values() if node.name == "raw/a.txt")
    down = names(graph, descendants(graph, raw))
    assert "scores grpo-1" in down
    assert "ingest made" not in down
    assert scores_of(graph, made_by["grpo-1"].fingerprint or "")["scores grpo-1"]["bench"].mean == 0.25


def test_a_part_keeps_the_edges_inside() -> None:
    a = manifest("a")
    b, c = manifest("b", made(a)), manifest("c", made(a))
    part = restricted(build_graph([a, b, c]), {a.fingerprint, b.fingerprint})
    assert names(part, set(part.nodes)) == {"a", "b"}
    assert [(edge.parent, edge.child) for edge in part.edges] == [(a.fingerprint, b.fingerprint)]


def test_the_layout_keeps_nodes_apart_and_draws_each_edge_downwards(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run_pipeline(run, tmp_path)
    graph = build_graph(run.store.manifests())
    layout = lay_out(graph)
    assert layout.nodes.keys() == graph.nodes.keys()
    for layer in layers(graph):
        across = sorted(layout.nodes[key].x for key in layer)
        assert all(right - left >= NODE_WIDTH + GAP - 0.3 for left, right in pairwise(across))
        assert all(NODE_WIDTH / 2 <= x <= layout.width - NODE_WIDTH / 2 for x in across)
    assert {(route.parent, route.child) for route in layout.routes} == {(e.parent, e.child) for e in graph.edges}
    for route in layout.routes:
        assert route.points[0] == layout.nodes[route.parent]
        assert route.points[-1] == layout.nodes[route.child]
        down = [point.y for point in route.points]
        assert down == sorted(down)


def test_an_empty_graph_has_a_layout() -> None:
    assert lay_out(build_graph([])).nodes == {}
