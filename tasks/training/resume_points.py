"""Folders that a killed trainer goes on from: written aside, renamed when whole, only the newest kept."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple, Self

from infra.runtime import TrainingRuntime


class ResumePoint(NamedTuple):
    """State after `step` updates."""

    step: int
    path: Path


class ResumePoints:
    """The resume points below one folder."""

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder, self._keep = folder, keep

    @classmethod
    def of(cls, folder: Path, runtime: TrainingRuntime) -> Self:
        """The points of a trainer's folder that this many ranks at this ZeRO stage can read."""
        layout = f"resume-{runtime.num_processes}-ranks-zero-{runtime.zero_stage}"
        return cls(folder / layout, runtime.keep_checkpoints)

    def newest(self) -> ResumePoint | None:
        """The newest whole point, or None."""
        return max(self._whole(), default=None)

    def aside(self, step: int) -> Path:
        """Where the point of `step` is written; whatever a killed writer left there is to be removed first."""
        return self._folder / f"aside-{step:06d}"

    def clear(self, step: int) -> None:
        """Make an empty folder at `aside(step)`."""
        shutil.rmtree(self.aside(step), ignore_errors=True)
        self.aside(step).mkdir(parents=True)

    def commit(self, step: int) -> None:
        """Give the finished point its name, then delete the oldest ones."""
        target = self._folder / f"step-{step:06d}"
        # There from before a kill, with the same content: a replay makes every point again bit for bit.
        shutil.rmtree(target, ignore_errors=True)
        self.aside(step).rename(target)
        for point in sorted(self._whole())[: -self._keep]:
            shutil.rmtree(point.path)

    def _whole(self) -> list[ResumePoint]:
        return [ResumePoint(int(path.name.removeprefix("step-")), path) for path in self._folder.glob("step-*")]
