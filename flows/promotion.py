"""The promotion gate: a checkpoint becomes `champion` of its recipe only when it is better beyond doubt."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import Field

from infra.aliases import Alias, read_alias, set_alias
from infra.artifacts import Checkpoint, Manifest, Report
from infra.config import Config, ConfigError
from infra.run import RunRecord, read_runs
from infra.store import Store
from tasks.benchmark.scores import PairedGain, paired_gain, problem_scores

CHAMPION = "champion"
BASE = "scores base"
_NO_BASE = f"there is no champion, and the run has no report `{BASE}` to compare with"
_NO_REPORT = (
    "the champion has no report with the candidate's sampling and rewards; run its recipe with the candidate's "
    "[benchmark] and [rewards], which scores it and trains nothing"
)
# What makes two scores of one problem comparable: how samples are drawn, and how they are judged.
_MEASURE = ("run", "rewards")


class PromotionConfig(Config):
    """When a checkpoint may replace the champion."""

    min_gain: float = Field(
        default=0.0,
        description="the lower 95 % bound of the paired gain over all problems must lie above it; 0.01 is one point",
    )
    max_loss: float = Field(default=0.05, ge=0, description="no benchmark's mean may fall by more; 0.05 is five points")


class GateResult(Config):
    """What the gate says, and why."""

    passed: bool
    reasons: tuple[str, ...] = Field(description="why not; empty when it passed")
    overall: PairedGain | None = Field(default=None, description="over all problems of the shared benchmarks")
    gains: dict[str, PairedGain] = Field(default={}, description="benchmark → paired gain")


class Scored(NamedTuple):
    """A checkpoint of a run with its report."""

    checkpoint: Checkpoint
    report: Report


class Candidate(NamedTuple):
    """What may be promoted, with the report on the base model of the same run."""

    run: str
    checkpoint: Checkpoint
    report: Report
    base: Report | None


class Contest(NamedTuple):
    """A candidate, what it is measured against (without a champion, its own base model), and what the gate says."""

    recipe: str
    candidate: Candidate
    champion: Alias | None
    result: GateResult

    @property
    def is_champion(self) -> bool:
        """True when the candidate is the champion."""
        return self.champion is not None and self.champion.digest == self.candidate.checkpoint.digest

    def as_json(self, has_moved: bool) -> dict[str, Any]:
        """Plain JSON types for a script."""
        candidate = {"run": self.candidate.run, "name": self.candidate.checkpoint.name}
        return {
            "recipe": self.recipe,
            "promoted": has_moved,
            "candidate": candidate | {"digest": self.candidate.checkpoint.digest},
            "gate": self.result.model_dump(mode="json"),
            "champion": self.champion.model_dump(mode="json") if self.champion else None,
        }


# The gate


def gate(store: Store, candidate: Report, champion: Report, config: PromotionConfig) -> GateResult:
    """Compare two reports problem by problem."""
    before, after = problem_scores(store, champion), problem_scores(store, candidate)
    gains = {name: paired_gain(before[name], after[name]) for name in sorted(_shared(before, after))}
    if not gains:
        return GateResult(passed=False, reasons=("the two reports share no benchmark problem; score both on the same",))
    overall = paired_gain(_over_all(before, gains), _over_all(after, gains))
    reasons = tuple(_reasons(overall, gains, config))
    return GateResult(passed=not reasons, reasons=reasons, overall=overall, gains=gains)


def _shared(before: Mapping[str, Mapping[str, float]], after: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    return (name for name in before.keys() & after.keys() if before[name].keys() & after[name].keys())


def _over_all(scores: Mapping[str, Mapping[str, float]], benchmarks: Mapping[str, Any]) -> dict[str, float]:
    return {f"{name}/{query}": mean for name in benchmarks for query, mean in scores[name].items()}


def _reasons(overall: PairedGain, gains: Mapping[str, PairedGain], config: PromotionConfig) -> Iterator[str]:
    if not overall.low > config.min_gain:
        yield (
            f"the gain over all {overall.n} problems is {100 * overall.mean:+.1f} points, and its lower 95 % bound "
            f"{100 * overall.low:+.1f} is not above {100 * config.min_gain:+.1f} (promotion.min_gain)"
        )
    for name, gain in gains.items():
        if gain.mean < -config.max_loss:
            yield (
                f"{name} loses {-100 * gain.mean:.1f} points, more than {100 * config.max_loss:.1f} "
                "(promotion.max_loss)"
            )


# Finding the two


def find_contest(store: Store, recipe: str, config: PromotionConfig, checkpoint: str | None = None) -> Contest:
    """The candidate of a recipe, the champion or else the base model, and what the gate says.

    Raises:
        ConfigError: the recipe has no finished run, or the checkpoint is not one of its scored ones.
    """
    return hold_contest(store, recipe, config, find_candidate(store, recipe, checkpoint))


def hold_contest(store: Store, recipe: str, config: PromotionConfig, candidate: Candidate) -> Contest:
    """A candidate against the champion of its recipe, or else against its own base model."""
    champion = read_alias(store, recipe, CHAMPION)
    if champion is None:
        against, missing = candidate.base, _NO_BASE
    else:
        against, missing = _measured_alike(store, champion.digest, candidate.report), _NO_REPORT
    if against is None:
        return Contest(recipe, candidate, champion, GateResult(passed=False, reasons=(missing,)))
    return Contest(recipe, candidate, champion, gate(store, candidate.report, against, config))


def find_candidate(store: Store, recipe: str, text: str | None = None) -> Candidate:
    """The last checkpoint of the recipe's last finished run with scores; or the one that `text` names, of the newest.

    Args:
        text: label of a training step, such as `grpo-1`, or the first digits of a checkpoint's digest.

    Raises:
        ConfigError: no finished run, none that scored a checkpoint, or no scored checkpoint of that name.
    """
    runs = [run for run in reversed(read_runs(store)) if run.recipe == recipe and run.state == "finished"]
    if not runs:
        raise ConfigError(f"recipe {recipe} has no finished run in {store.uri}; run it: posttrain run {recipe}")
    # A re-curation and a phase that ran alone are finished runs too, without scores.
    known: list[Scored] = []
    for run in runs:
        scored = _scored(store, run)
        known = known or scored
        for checkpoint, report in reversed(scored):
            if text is None or checkpoint.name == text or checkpoint.digest.startswith(text):
                base = next((each.report for each in scored if each.report.name == BASE), None)
                return Candidate(run.id, checkpoint, report, base)
    if not known:
        raise ConfigError(
            f"no finished run of recipe {recipe} in {store.uri} has a scored checkpoint; run it: posttrain run {recipe}"
        )
    names = ", ".join(f"{each.checkpoint.name} {each.checkpoint.digest[:12]}" for each in known)
    raise ConfigError(
        f"no scored checkpoint `{text}` in the finished runs of {recipe}; the last run with scores has: {names}"
    )


def _scored(store: Store, run: RunRecord) -> list[Scored]:
    """Checkpoints of a run that have a report, in the order of training: the base model first."""
    reports: dict[str, Report] = {}
    for step in run.steps:
        # Of an old run the garbage collection may have taken it.
        if isinstance(step.artifact, Report) and (manifest := store.find(step.step, step.artifact.fingerprint or "")):
            reports.setdefault(_subject(manifest), step.artifact)
    made = (step.artifact for step in run.steps)
    found = {each.digest: each for each in made if isinstance(each, Checkpoint) and each.digest in reports}
    return [Scored(checkpoint, reports[digest]) for digest, checkpoint in found.items()]


def _subject(report: Manifest) -> str:
    """Digest of the checkpoint that a report is on."""
    return next((p.digest for group in report.parents.values() for p in group if p.kind == "checkpoint"), "")


def _measured_alike(store: Store, checkpoint: str, like: Report) -> Report | None:
    """A report on a checkpoint with the measure of another report; the one with most benchmarks in common."""
    wanted = store.manifest(like)
    found = [
        each
        for each in store.manifests()
        if each.kind == "report" and _subject(each) == checkpoint and _measure(each) == _measure(wanted)
    ]
    if not found:
        return None
    best = max(found, key=lambda each: (len(_benchmarks(each) & _benchmarks(wanted)), each.fingerprint))
    reference = store.reference(best)
    return reference if isinstance(reference, Report) else None


def _measure(report: Manifest) -> tuple[Any, ...]:
    return tuple(report.config.get(name) for name in _MEASURE)


def _benchmarks(report: Manifest) -> set[str]:
    return {p.digest for group in report.parents.values() for p in group if p.kind == "dataset"}


# The move


def promote(store: Store, contest: Contest, reason: str) -> Contest:
    """Point `champion` at the candidate, whatever the gate says: that is for the caller to ask."""
    alias = set_alias(store, contest.recipe, CHAMPION, contest.candidate.checkpoint, reason, by=_person())
    return contest._replace(champion=alias)


def _person() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid {os.getuid()}"
