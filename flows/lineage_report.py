"""What a person sees of lineage: an artifact's tree and a raw row's history. Untrusted text stays text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from infra.artifacts import Score
from infra.graph import Graph, Node, scores_of
from infra.ledger import Decision, RowHistory

KINDS = {
    "raw": "raw file",
    "folder": "folder",
    "dataset": "data version",
    "checkpoint": "checkpoint",
    "report": "report",
}
_COLOURS = {"raw": "bright_black", "folder": "cyan", "dataset": "blue", "checkpoint": "yellow", "report": "green"}
_WHATS = {"dropped": "red", "corrected": "yellow", "absent": "dim", "used": "green"}
NUM_REASONS = 3


class TreeLine(NamedTuple):
    """One line of a tree."""

    guide: str
    key: str
    is_repeated: bool


def tree_lines(root: str, branches: Callable[[str], Iterable[str]]) -> list[TreeLine]:
    """The graph below `root` as a tree, two characters a level; what was told before is named, not told again."""
    lines, told = list[TreeLine](), set[str]()

    def tell(key: str, guide: str, below: str) -> None:
        lines.append(TreeLine(guide, key, key in told))
        if key in told:
            return
        told.add(key)
        ends = list(branches(key))
        for number, end in enumerate(ends, start=1):
            is_last = number == len(ends)
            tell(end, below + ("└ " if is_last else "├ "), below + ("  " if is_last else "│ "))

    tell(root, "", "")
    return lines


def tree_table(graph: Graph, lines: Iterable[TreeLine], scores: Graph) -> Table:
    """A tree of artifacts; `scores` is the graph in which reports on its checkpoints are looked up."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("artifact", "step", "digest", "what it holds"):
        table.add_column(column, no_wrap=column != "what it holds")
    for line in lines:
        node = graph.nodes[line.key]
        name = Text(line.guide, style="dim").append(node.name, style=_COLOURS[node.kind])
        if line.is_repeated:
            table.add_row(name.append(" ↑", style="dim"))
        else:
            step = f"{node.step} v{node.version}" if node.step else KINDS[node.kind]
            table.add_row(name, step, node.digest[:12], Text(holds(node, scores)))
    return table


def holds(node: Node, graph: Graph) -> str:
    """One line: rows and funnel of a data version, step and scores of a checkpoint, scores of a report."""
    if node.is_gone:
        return "not in the store any more"
    parts = [f"step {node.summary['train_step']:,}"] if "train_step" in node.summary else []
    if node.rows is not None:
        parts.append(f"{node.rows:,} rows")
        parts.append(funnel_line(node.funnel))
    for name, scores in scores_of(graph, node.key).items():
        told = ", ".join(f"{benchmark} {_score(score)}" for benchmark, score in scores.items())
        parts.append(told if node.kind == "report" else f"{name}: {told}")
    return "; ".join(part for part in parts if part)


def funnel_line(funnel: Mapping[str, Mapping[str, int]]) -> str:
    """Kept and the most frequent reasons, over all sources; empty where nothing was dropped."""
    counts = Counter[str]()
    for reasons in funnel.values():
        counts.update(reasons)
    kept = counts.pop("kept", 0)
    most = [f"{reason.replace('_', ' ')} {count:,}" for reason, count in counts.most_common(NUM_REASONS)]
    more = f" and {len(counts) - NUM_REASONS} more reasons" if len(counts) > NUM_REASONS else ""
    return f"kept {kept:,} of {kept + counts.total():,}: {', '.join(most)}{more}" if counts else ""


def _score(score: Score) -> str:
    return f"{100 * score.mean:.1f} [{100 * score.low:.1f}, {100 * score.high:.1f}]"


def count_line(graph: Graph, keys: Iterable[str]) -> str:
    """How many of each kind: `2 checkpoints, 5 data versions`."""
    counts = Counter(KINDS[graph.nodes[key].kind] for key in keys)
    told = [f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in sorted(counts.items())]
    return ", ".join(told) or "nothing"


def graph_json(graph: Graph, root: str) -> dict[str, Any]:
    """For a script: the artifact's key, the nodes and the edges."""
    return {"artifact": root, **graph.model_dump(mode="json")}


# A raw row


def history_table(history: RowHistory) -> Table:
    """Every decision about a row, in pipeline order."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("phase", "step", "", "why, and what came of it"):
        table.add_column(name, no_wrap=name in {"phase", "step", ""})
    before = ""
    for decision in history.decisions:
        phase = decision.phase if decision.phase != before else ""
        before = decision.phase
        what = Text("not in" if decision.what == "absent" else decision.what, style=_WHATS.get(decision.what, ""))
        table.add_row(phase, decision.label, what, Text("; ".join(_told(decision))))
    return table


def _told(decision: Decision) -> Iterable[str]:
    if decision.what == "corrected":
        yield f"{decision.old} → {decision.new}"
    if decision.reason:
        yield decision.reason.replace("_", " ")
    if decision.evidence:
        yield decision.evidence
    if decision.num_rows > 1:
        yield f"{decision.num_rows} rows stand for it"
    if decision.pass_rate is not None:
        solved = f"{decision.numbers['num_correct']:.0f} of {decision.numbers['num_judged']:.0f}"
        yield f"pass rate {decision.pass_rate:.2f}, {solved} samples correct"
    elif decision.what == "scored":
        yield ", ".join(f"{name} {value:g}" for name, value in decision.numbers.items())
    for use in decision.rollouts:
        rewards = ", ".join("–" if reward is None else f"{reward:g}" for reward in use.rewards)
        yield f"train step {use.train_step}: rewards {rewards}"
