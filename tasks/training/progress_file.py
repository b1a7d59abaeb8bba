"""A trainer's progress as JSON lines: appended by rank 0, read by the parent while it grows."""

from __future__ import annotations

import json
from pathlib import Path

PROGRESS_FILE = "progress.jsonl"
Line = dict[str, float]


def append_progress(folder: Path, step: int, **values: float) -> None:
    """Add the line of one finished update; `step` counts from 1."""
    with (folder / PROGRESS_FILE).open("a", encoding="utf-8") as file:
        # The line break comes first too: a writer that was killed may have left half a line.
        file.write("\n" + json.dumps({"step": step, **values}) + "\n")


def read_progress(folder: Path) -> list[Line]:
    """One line a step, in order. A step that was done again after a kill counts once, as it was last."""
    try:
        content = (folder / PROGRESS_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    by_step: dict[int, Line] = {}
    for text in content.split("\n"):
        try:
            line = json.loads(text)
        except ValueError:
            continue  # empty, or cut by a kill
        by_step[line["step"]] = line
    return [by_step[step] for step in sorted(by_step)]
