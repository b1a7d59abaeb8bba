"""The lineage graph, from manifests: raw files, folders, data versions, checkpoints, reports. Pure: opens nothing.

A node's key is the fingerprint of the step that made it, or the digest of a raw file. A raw file that is one file of a
folder hangs below that folder's node, so every path ends at bytes that came from outside or at a step without inputs.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

from pydantic import Field

from infra.artifacts import Kind, Manifest, Parent, Score
from infra.config import Config

FILE_OF = "file of"


class Node(Config):
    """One artifact in the graph."""

    key: str = Field(description="fingerprint of the step that made it; digest of a raw file")
    kind: Kind
    name: str
    digest: str
    step: str = Field(default="", description="empty for a raw file")
    version: int = 0
    sampled: bool = False
    is_gone: bool = Field(default=False, description="a child names it, but its manifest is not in the store")
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}

    @property
    def rows(self) -> int | None:
        """Rows of a data version."""
        rows: int | None = self.summary.get("rows")
        return rows

    @property
    def funnel(self) -> dict[str, dict[str, int]]:
        """Source → reason (or `kept`) → rows."""
        funnel: dict[str, dict[str, int]] = self.summary.get("funnel", {})
        return funnel

    @property
    def scores(self) -> dict[str, Score]:
        """Benchmark → score, of a report."""
        return {name: Score.model_validate(score) for name, score in self.summary.get("scores", {}).items()}

    @property
    def short(self) -> str:
        """What a person tells it by: 12 hex digits of the key."""
        return self.key[:12]


class Edge(Config):
    """`parent` went into the step that made `child`."""

    parent: str
    child: str
    role: str = Field(description="parameter of the step that took it; `file of` between a folder and its file")


class Graph(Config):
    """Nodes by key, and the edges between them."""

    nodes: dict[str, Node]
    edges: tuple[Edge, ...]

    @cached_property
    def parents(self) -> dict[str, tuple[str, ...]]:
        """Key → keys of what it was made from."""
        return _neighbours(self.nodes, ((edge.child, edge.parent) for edge in self.edges))

    @cached_property
    def children(self) -> dict[str, tuple[str, ...]]:
        """Key → keys of what was made from it."""
        return _neighbours(self.nodes, ((edge.parent, edge.child) for edge in self.edges))

    @cached_property
    def edges_into(self) -> dict[str, list[Edge]]:
        """Key → edges from its parents; no entry for a source."""
        return _grouped((edge.child, edge) for edge in self.edges)

    @cached_property
    def edges_from(self) -> dict[str, list[Edge]]:
        """Key → edges to its children; no entry for an end."""
        return _grouped((edge.parent, edge) for edge in self.edges)

    @cached_property
    def by_digest(self) -> dict[str, tuple[str, ...]]:
        """Digest → keys; more than one where several steps made equal content."""
        return _neighbours((), ((node.digest, node.key) for node in self.nodes.values()))


def _neighbours(keys: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, dict[str, None]] = {key: {} for key in keys}
    for one, other in pairs:
        found.setdefault(one, {})[other] = None
    return {key: tuple(others) for key, others in found.items()}


def _grouped(edges: Iterable[tuple[str, Edge]]) -> dict[str, list[Edge]]:
    found: dict[str, list[Edge]] = {}
    for key, edge in edges:
        found.setdefault(key, []).append(edge)
    return found


def build_graph(manifests: Iterable[Manifest]) -> Graph:
    """The graph of these manifests and of the raw files that they name; parents before children."""
    made = {manifest.fingerprint: manifest for manifest in manifests}
    nodes = {key: _made_node(manifest) for key, manifest in made.items()}
    edges: list[Edge] = []
    for manifest in made.values():
        for role, group in manifest.parents.items():
            for parent in group:
                key = parent.fingerprint or parent.digest
                nodes[key] = _named_also(nodes[key], parent) if key in nodes else _outside_node(key, parent)
                edges.append(Edge(parent=key, child=manifest.fingerprint, role=role))
    edges += _files_of_folders(made.values(), nodes, edges)
    graph = Graph(nodes=nodes, edges=tuple(dict.fromkeys(edges)))
    place = {key: number for number, key in enumerate(in_order(graph))}
    in_pipeline_order = sorted(graph.edges, key=lambda edge: (place[edge.child], place[edge.parent]))
    return Graph(nodes={key: nodes[key] for key in place}, edges=tuple(in_pipeline_order))


def _made_node(manifest: Manifest) -> Node:
    return Node(
        key=manifest.fingerprint,
        kind=manifest.kind,
        name=manifest.name,
        digest=manifest.digest,
        step=manifest.step,
        version=manifest.version,
        sampled=manifest.sampled,
        config=manifest.config,
        summary=manifest.summary,
    )


def _outside_node(key: str, parent: Parent) -> Node:
    gone = parent.fingerprint is not None
    return Node(key=key, kind=parent.kind, name=parent.name, digest=parent.digest, is_gone=gone)


def _named_also(node: Node, parent: Parent) -> Node:
    """Equal bytes may come in under several file names; all of them are told."""
    names = node.name.split(" = ")
    if node.kind != "raw" or parent.name in names:
        return node
    return node.model_copy(update={"name": " = ".join(sorted([*names, parent.name]))})


def _files_of_folders(
    manifests: Iterable[Manifest], nodes: Mapping[str, Node], made_from: Iterable[Edge]
) -> Iterator[Edge]:
    """From each folder to the raw files that it holds, less those that it was made from itself: no circle."""
    parents: dict[str, set[str]] = {}
    for edge in made_from:
        parents.setdefault(edge.child, set()).add(edge.parent)
    for manifest in manifests:
        held = [file.sha256 for file in manifest.files] if manifest.kind == "folder" else []
        raw = [key for key in held if key in nodes and nodes[key].kind == "raw"]
        above = _reached(lambda key: parents.get(key, ()), [manifest.fingerprint]) if raw else set()
        for key in raw:
            if key not in above:
                parents.setdefault(key, set()).add(manifest.fingerprint)
                yield Edge(parent=manifest.fingerprint, child=key, role=FILE_OF)


# Walks


def ancestors(graph: Graph, *keys: str) -> set[str]:
    """Everything that these were made from, without themselves."""
    return _reached(graph.parents.__getitem__, keys) - set(keys)


def descendants(graph: Graph, *keys: str) -> set[str]:
    """Everything made from these, without themselves.

    A step's identity holds its inputs' digests, so what was made from equal content of another step counts too.
    """

    def made_from(key: str) -> list[str]:
        twins = graph.by_digest[graph.nodes[key].digest]
        return [child for twin in twins for child in graph.children[twin]]

    return _reached(made_from, keys) - set(keys)


def _reached(neighbours: Callable[[str], Iterable[str]], keys: Iterable[str]) -> set[str]:
    seen = set(keys)
    waiting = deque(seen)
    while waiting:
        fresh = set(neighbours(waiting.popleft())) - seen
        seen |= fresh
        waiting.extend(fresh)
    return seen


def restricted(graph: Graph, keys: Iterable[str]) -> Graph:
    """The part of the graph between these nodes."""
    inside = set(keys)
    edges = tuple(edge for edge in graph.edges if edge.parent in inside and edge.child in inside)
    return Graph(nodes={key: node for key, node in graph.nodes.items() if key in inside}, edges=edges)


def in_order(graph: Graph) -> list[str]:
    """Keys, parents before children; stable for equal graphs."""
    waiting = Counter({key: len(parents) for key, parents in graph.parents.items()})
    ready = deque(sorted(key for key in graph.nodes if not waiting[key]))
    ordered: list[str] = []
    while ready:
        key = ready.popleft()
        ordered.append(key)
        for child in graph.children[key]:
            waiting[child] -= 1
            if waiting[child] == 0:
                ready.append(child)
    return ordered


def layers(graph: Graph) -> list[list[str]]:
    """Keys by topological layer: a node lies below all its parents, and right above its first child if it has one."""
    order = in_order(graph)
    depth = dict.fromkeys(order, 0)
    for key in order:
        depth[key] = max((depth[parent] + 1 for parent in graph.parents[key]), default=0)
    for key in reversed(order):
        depth[key] = min((depth[child] - 1 for child in graph.children[key]), default=depth[key])
    found: dict[int, list[str]] = {}
    for key in order:
        found.setdefault(depth[key], []).append(key)
    return [found[level] for level in sorted(found)]


def scores_of(graph: Graph, key: str) -> dict[str, dict[str, Score]]:
    """Report's name → its scores, for a report or for the reports on a checkpoint; empty for other kinds."""
    if graph.nodes[key].kind not in {"checkpoint", "report"}:
        return {}
    reports = [graph.nodes[each] for each in (key, *graph.children[key])]
    return {report.name: report.scores for report in reports if report.kind == "report"}
