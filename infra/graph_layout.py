"""Where the nodes of a lineage graph stand and how its edges run: layers from top to bottom, few crossings. Pure.

Sugiyama's scheme: layers by the longest path, an order within each layer by the barycentre of the neighbours, then
positions that pull neighbours in line. An edge over several layers gets a lane in each; edges of one parent share it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import NamedTuple

from infra.graph import Graph, layers

NODE_WIDTH, NODE_HEIGHT = 152.0, 46.0
GAP, LANE_WIDTH, LAYER_HEIGHT, MARGIN = 14.0, 14.0, 88.0, 24.0
NUM_SWEEPS = 12


class Point(NamedTuple):
    """A place on the drawing, in pixels."""

    x: float
    y: float


class Route(NamedTuple):
    """The way of an edge, from the parent's centre to the child's."""

    parent: str
    child: str
    points: tuple[Point, ...]


class Layout(NamedTuple):
    """A drawing: its size, the centre of each node, the way of each edge."""

    width: float
    height: float
    nodes: dict[str, Point]
    routes: tuple[Route, ...]


class Item(NamedTuple):
    """A node in its layer, or the lane of its edges through a layer below it."""

    key: str
    level: int


class _Links(NamedTuple):
    """Neighbours of each item in the layers above and below."""

    above: dict[Item, list[Item]]
    below: dict[Item, list[Item]]


def lay_out(graph: Graph) -> Layout:
    """Place every node and edge of the graph."""
    level = {key: number for number, layer in enumerate(layers(graph)) for key in layer}
    rows, links = _items(graph, level)
    for sweep in range(NUM_SWEEPS):
        rows = _ordered(rows, links, downwards=sweep % 2 == 0)
    nodes = set(level.items())
    x = _positions(rows, links, {item: _width(item, nodes) for row in rows for item in row})
    left = min((x[item] - _width(item, nodes) / 2 for item in x), default=0.0) - MARGIN
    right = max((x[item] + _width(item, nodes) / 2 for item in x), default=0.0) + MARGIN
    points = {item: Point(round(x[item] - left, 1), MARGIN + NODE_HEIGHT / 2 + item.level * LAYER_HEIGHT) for item in x}
    routes = (
        Route(edge.parent, edge.child, tuple(points[item] for item in _way(edge.parent, edge.child, level)))
        for edge in graph.edges
    )
    height = 2 * MARGIN + NODE_HEIGHT + max(0, len(rows) - 1) * LAYER_HEIGHT
    placed = {key: points[Item(key, at)] for key, at in level.items()}
    return Layout(width=round(right - left, 1), height=height, nodes=placed, routes=tuple(dict.fromkeys(routes)))


def _way(parent: str, child: str, level: Mapping[str, int]) -> list[Item]:
    return [*(Item(parent, at) for at in range(level[parent], level[child])), Item(child, level[child])]


def _items(graph: Graph, level: Mapping[str, int]) -> tuple[list[list[Item]], _Links]:
    rows: list[dict[Item, None]] = [{} for _ in range(max(level.values(), default=-1) + 1)]
    pairs: dict[tuple[Item, Item], None] = {}
    for key, at in level.items():
        rows[at][Item(key, at)] = None
    for edge in graph.edges:
        way = _way(edge.parent, edge.child, level)
        for item in way:
            rows[item.level][item] = None
        pairs |= dict.fromkeys(pairwise(way))
    links = _Links({item: [] for row in rows for item in row}, {item: [] for row in rows for item in row})
    for upper, lower in pairs:
        links.below[upper].append(lower)
        links.above[lower].append(upper)
    return [list(row) for row in rows], links


def _width(item: Item, nodes: set[tuple[str, int]]) -> float:
    return NODE_WIDTH if item in nodes else LANE_WIDTH


def _ordered(rows: list[list[Item]], links: _Links, downwards: bool) -> list[list[Item]]:
    """One sweep: each layer sorted by where its neighbours in the layer before stand."""
    neighbours = links.above if downwards else links.below
    place: dict[Item, float] = {}
    done = []
    for row in rows if downwards else reversed(rows):
        own = {item: number / max(1, len(row) - 1) for number, item in enumerate(row)}
        wanted = {item: fmean(place[n] for n in neighbours[item]) if neighbours[item] else own[item] for item in row}
        ordered = sorted(row, key=lambda item: (wanted[item], own[item]))
        place |= {item: (number + 0.5) / len(row) for number, item in enumerate(ordered)}
        done.append(ordered)
    return done if downwards else done[::-1]


def _positions(rows: list[list[Item]], links: _Links, width: Mapping[Item, float]) -> dict[Item, float]:
    x: dict[Item, float] = {}
    for row in rows:
        x |= dict(zip(row, _spread(row, [0.0] * len(row), width), strict=True))
    for sweep in range(2 * NUM_SWEEPS):
        neighbours = links.above if sweep % 2 == 0 else links.below
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted = [_mean((x[n] for n in neighbours[item]), x[item]) for item in row]
            x |= dict(zip(row, _spread(row, wanted, width), strict=True))
    return x


def _mean(values: Iterable[float], default: float) -> float:
    found = list(values)
    return fmean(found) if found else default


def _spread(row: Sequence[Item], wanted: Sequence[float], width: Mapping[Item, float]) -> list[float]:
    """Positions near the wanted ones that keep order and distance: the mean of the leftmost and the rightmost fit."""
    room = [(width[one] + width[other]) / 2 + GAP for one, other in pairwise(row)]
    rightwards, leftwards = list(wanted), list(wanted)
    for i in range(1, len(row)):
        rightwards[i] = max(rightwards[i], rightwards[i - 1] + room[i - 1])
    for i in range(len(row) - 2, -1, -1):
        leftwards[i] = min(leftwards[i], leftwards[i + 1] - room[i])
    return [(one + other) / 2 for one, other in zip(rightwards, leftwards, strict=True)]
