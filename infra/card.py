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
    """Rows by source and reason; empty text for an empty funnel."""
    if not funnel:
        return ""
    reasons = sorted({reason for counts in funnel.values() for reason in counts} - {"kept"})
    header = ["source", "in", "kept", *reasons]
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for source, counts in sorted(funnel.items()):
        cells = [source, sum(counts.values()), counts.get("kept", 0), *(counts.get(r, 0) for r in reasons)]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines)


def _curve_table(curves: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    if not curves:
        return ""
    lines = ["| curve | points | first | last |", "| --- | --- | --- | --- |"]
    for name, points in sorted(curves.items()):
        lines.append(f"| {name} | {len(points)} | {points[0][1]:.4g} | {points[-1][1]:.4g} |")
    return "\n".join(lines)
