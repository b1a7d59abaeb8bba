"""The card of an artifact: Markdown that a person reads in Prefect or MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from infra.artifacts import Manifest


def render_card(manifest: Manifest, notes: Sequence[str], curves: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """Title, identity, funnel, curves in brief, then the step's own notes."""
    parts = [
        f"# {manifest.name}",
        f"{manifest.kind} `{manifest.digest[:16]}` by step `{manifest.step}` v{manifest.version}",
        funnel_table(manifest.summary.get("funnel", {})),
        _curve_table(curves),
        *notes,
    ]
    return "\n\n".join(part for part in parts if part)


def funnel_table(funnel: Mapping[str, Mapping[str, int]]) -> str:
    """A line a source, with why its rows left, most frequent first; empty text for an empty funnel."""
    if not funnel:
        return ""
    lines = ["| source | in | kept | dropped | reasons |", "| --- | ---: | ---: | ---: | --- |"]
    for source, counts in sorted(funnel.items()):
        dropped = sorted(((r, n) for r, n in counts.items() if r != "kept"), key=lambda pair: (-pair[1], pair[0]))
        reasons = ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in dropped)
        numbers = (sum(counts.values()), counts.get("kept", 0), sum(count for _, count in dropped))
        lines.append(f"| {source} | " + " | ".join(f"{number:,}" for number in numbers) + f" | {reasons} |")
    return "\n".join(lines)


def _curve_table(curves: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    if not curves:
        return ""
    lines = ["| curve | points | first | last |", "| --- | --- | --- | --- |"]
    for name, points in sorted(curves.items()):
        lines.append(f"| {name} | {len(points)} | {points[0][1]:.4g} | {points[-1][1]:.4g} |")
    return "\n".join(lines)
