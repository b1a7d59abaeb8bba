"""lineage.html: every node is there to click, links lead both ways, and untrusted text stays text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from infra.artifacts import Manifest
from infra.graph import Graph, build_graph
from infra.lineage_page import element_id, lineage_page
from tests.unit.traced_store import new_run, run_pipeline

EVIL = '</script><script>alert(1)</script><img src=x onerror="alert(2)">{{graph}}'


class Page(HTMLParser):
    """The elements of a page, and the data in it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        found = re.search(r'<script type="application/json" id="graph">(.*?)</script>', html, re.DOTALL)
        assert found is not None
        self.told: dict[str, Any] = {node["id"]: node for node in json.loads(found[1])}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def classed(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for _, attributes in self.elements if name in (attributes.get("class") or "").split()]


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    folder = tmp_path_factory.mktemp("traced")
    run = new_run(folder)
    run_pipeline(run, folder)
    return build_graph(run.store.manifests())


def evil_graph() -> Graph:
    fields: dict[str, Any] = {"kind": "dataset", "name": EVIL, "step": EVIL, "version": 1, "sampled": False}
    fields |= {"fingerprint": "f" * 64, "config": {EVIL: EVIL}, "parents": {}, "files": (), "summary": {EVIL: EVIL}}
    return build_graph([Manifest.model_validate(fields)])


def test_every_artifact_is_a_node_with_its_kind_and_a_link_to_itself(graph: Graph) -> None:
    nodes = {node["id"]: node for node in Page(lineage_page(graph, "t")).classed("node")}
    assert nodes.keys() == {f"node-{key[:12]}" for key in graph.nodes}
    for key, node in graph.nodes.items():
        assert nodes[element_id(key)]["data-kind"] == node.kind
        assert nodes[element_id(key)]["href"] == f"#{element_id(key)}"


def test_every_edge_is_drawn_and_told_at_both_ends(graph: Graph) -> None:
    page = Page(lineage_page(graph, "t"))
    expected = {(element_id(edge.parent), element_id(edge.child)) for edge in graph.edges}
    assert {(edge["data-parent"], edge["data-child"]) for edge in page.classed("edge")} == expected
    assert {(end["id"], key) for key, node in page.told.items() for end in node["parents"]} == expected
    assert {(key, end["id"]) for key, node in page.told.items() for end in node["children"]} == expected


def test_from_the_last_checkpoint_links_lead_to_the_raw_file_and_back(graph: Graph) -> None:
    told = Page(lineage_page(graph, "t")).told
    named = {node["name"]: key for key, node in told.items()}

    def reached(start: str, direction: str) -> set[str]:
        seen, waiting = {start}, [start]
        while waiting:
            ends = {end["id"] for end in told[waiting.pop()][direction]} - seen
            seen |= ends
            waiting += ends
        return seen

    assert named["raw/a.txt"] in reached(named["grpo-1"], "parents")
    assert named["grpo-1"] in reached(named["raw/a.txt"], "children")


def test_the_panel_is_told_rows_funnel_scores_and_config(graph: Graph) -> None:
    by_name = {node["name"]: node for node in Page(lineage_page(graph, "t")).told.values()}
    assert by_name["filter"]["rows"] == 3
    assert by_name["filter"]["funnel"]["a"] == {"kept": 2, "too_small": 1}
    assert by_name["filter"]["config"] == {"lowest": 1}
    assert by_name["grpo-1"]["reports"]["scores grpo-1"]["bench"]["low"] == 0.1
    assert by_name["grpo-1"]["facts"]["train_step"] == 2
    assert by_name["raw/a.txt"]["fingerprint"] == ""


def test_untrusted_text_makes_no_element_and_fills_no_slot() -> None:
    html = lineage_page(evil_graph(), EVIL, EVIL)
    page = Page(html)
    assert [tag for tag, _ in page.elements].count("script") == 2
    assert [tag for tag, _ in page.elements].count("img") == 0
    (node,) = page.told.values()
    assert node["name"] == EVIL
    assert node["config"] == {EVIL: EVIL}


def test_the_page_names_nothing_outside_itself(graph: Graph, tmp_path: Path) -> None:
    html = lineage_page(graph, "t")
    assert "http:" not in html
    assert "https:" not in html
    assert "default-src 'none'" in html
    assert "{{" not in html
    assert str(tmp_path.parent) not in html


def test_an_empty_graph_is_a_page(graph: Graph) -> None:
    assert Page(lineage_page(build_graph([]), "t")).told == {}
