"""lineage.html: one self-contained page with a clickable graph, from raw sources to scores. Needs no network.

Names and configs are untrusted: they are escaped into the SVG, and the script writes them as text, never as HTML.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from infra.graph import Edge, Graph, Node, scores_of
from infra.graph_layout import NODE_HEIGHT, NODE_WIDTH, Point, Route, lay_out

TEMPLATE = Path(__file__).with_name("lineage_page.html")
NAME_CHARS = 18
_SLOT = re.compile(r"\{\{(\w+)\}\}")


def lineage_page(graph: Graph, title: str, subtitle: str = "") -> str:
    """The page as HTML text."""
    layout = lay_out(graph)
    drawing = [_path(route) for route in layout.routes] + [_box(graph.nodes[k], p) for k, p in layout.nodes.items()]
    slots = {
        "title": escape(title),
        "subtitle": escape(subtitle),
        "width": f"{layout.width:.0f}",
        "height": f"{layout.height:.0f}",
        "drawing": "\n".join(drawing),
        "graph": _script_safe([_told(graph, key) for key in graph.nodes]),
    }
    # In one pass, so that a slot's name inside a value stays text.
    return _SLOT.sub(lambda slot: slots[slot[1]], TEMPLATE.read_text(encoding="utf-8"))


def element_id(key: str) -> str:
    """The node's element, which is also its place in the address: lineage.html#node-…"""
    return f"node-{key[:12]}"


# The drawing


def _box(node: Node, centre: Point) -> str:
    x, y = centre.x - NODE_WIDTH / 2, centre.y - NODE_HEIGHT / 2
    name = node.name.rpartition("/")[2] if node.kind == "raw" else node.name
    short = name if len(name) <= NAME_CHARS else f"{name[: NAME_CHARS - 1]}…"
    gone = " gone" if node.is_gone else ""
    return (
        f'<a id="{element_id(node.key)}" class="node{gone}" data-kind="{node.kind}" href="#{element_id(node.key)}" '
        f'transform="translate({x:.1f},{y:.1f})"><title>{escape(f"{node.kind} {node.name}")}</title>'
        f'<rect class="box" width="{NODE_WIDTH:.0f}" height="{NODE_HEIGHT:.0f}" rx="8"/>'
        f'<rect class="mark" x="0" y="8" width="4" height="{NODE_HEIGHT - 16:.0f}" rx="2"/>'
        f'<text class="name" x="13" y="20">{escape(short)}</text>'
        f'<text class="detail" x="13" y="36">{escape(_detail(node))}</text></a>'
    )


def _path(route: Route) -> str:
    first, *others = route.points
    drawn, before = [f"M{first.x:.1f},{first.y:.1f}"], first
    for point in others:
        middle = (before.y + point.y) / 2
        drawn.append(f"C{before.x:.1f},{middle:.1f} {point.x:.1f},{middle:.1f} {point.x:.1f},{point.y:.1f}")
        before = point
    ends = f'data-parent="{element_id(route.parent)}" data-child="{element_id(route.child)}"'
    return f'<path class="edge" {ends} d="{" ".join(drawn)}"/>'


def _detail(node: Node) -> str:
    """The one number that a person looks for."""
    if node.is_gone:
        return "not in the store"
    if node.rows is not None:
        return f"{node.rows:,} rows"
    if node.kind == "checkpoint":
        return f"step {node.summary.get('train_step', 0):,}"
    for benchmark, score in node.scores.items():
        return f"{benchmark} {100 * score.mean:.1f}"
    return f"{node.kind} {node.digest[:8]}"


# What the panel tells


def _told(graph: Graph, key: str) -> dict[str, Any]:
    node = graph.nodes[key]
    reports = {name: _points(scores) for name, scores in scores_of(graph, key).items()}
    own = node.model_dump(include={"kind", "name", "digest", "step", "version", "sampled", "is_gone", "config"})
    known = {"rows", "funnel", "scores", "columns"}
    return own | {
        "id": element_id(key),
        "fingerprint": key if node.step else "",
        "rows": node.rows,
        "funnel": node.funnel,
        "reports": reports,
        "facts": {name: value for name, value in node.summary.items() if name not in known},
        "parents": [_end(edge, edge.parent) for edge in graph.edges_into.get(key, ())],
        "children": [_end(edge, edge.child) for edge in graph.edges_from.get(key, ())],
        "twins": [element_id(twin) for twin in graph.by_digest[node.digest] if twin != key],
    }


def _end(edge: Edge, key: str) -> dict[str, str]:
    return {"id": element_id(key), "role": edge.role}


def _points(scores: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    return {benchmark: score.model_dump() for benchmark, score in scores.items()}


def _script_safe(value: Any) -> str:
    """JSON that cannot end the script element that holds it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
