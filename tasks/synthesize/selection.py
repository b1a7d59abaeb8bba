"""Which responses of a query become samples, and why the others do not. Pure: verdicts come in, choices go out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from infra.fingerprint import fingerprint
from tasks.records import Domain, Response, Verdict
from tasks.synthesize.config import DomainPolicy, Mixture, RepetitionRule
from tasks.synthesize.perplexity import Perplexity
from tasks.synthesize.quality import complete_parts, is_repetitive


class SynthesizeReason(StrEnum):
    """Why a response is left out, and, of the one that came furthest, why its query leaves. In order of the rules."""

    NO_RESPONSE = "no_response"
    TRUNCATED = "truncated"
    BAD_STRUCTURE = "bad_structure"
    REPETITIVE = "repetitive"
    PERPLEXITY_FAILED = "perplexity_failed"  # no score could be had: nothing is known
    PERPLEXITY = "perplexity"
    VERIFICATION_FAILED = "verification_failed"
    NO_CORRECT_RESPONSE = "no_correct_response"
    LOW_SCORE = "low_score"
    OVER_MIXTURE = "over_mixture"


_ORDER = {reason: place for place, reason in enumerate(SynthesizeReason)}
# What holds no whole answer is not judged, and counts as not passed.
UNANSWERED = frozenset({SynthesizeReason.TRUNCATED, SynthesizeReason.BAD_STRUCTURE})


class Choice(NamedTuple):
    """Sample indices to keep; where there are none, the reason and the evidence."""

    query_id: str
    domain: Domain
    kept: tuple[int, ...]
    reason: SynthesizeReason | None = None
    evidence: str = ""
    verify_score: float | None = None
    num_judged: int = 0


def fault_of_form(response: Response, rule: RepetitionRule) -> SynthesizeReason | None:
    """What is wrong with a response before anyone looks at its answer."""
    if response.finish_reason != "stop":
        return SynthesizeReason.TRUNCATED
    if complete_parts(response.text) is None:
        return SynthesizeReason.BAD_STRUCTURE
    return SynthesizeReason.REPETITIVE if is_repetitive(response.text, rule) else None


def fault_of_perplexity(score: Perplexity | None, max_perplexity: float) -> SynthesizeReason | None:
    """What is wrong with a well-formed response by its perplexity; a score that is not there is no high one."""
    if score is None or score.mean_nll is None:
        return SynthesizeReason.PERPLEXITY_FAILED
    return SynthesizeReason.PERPLEXITY if score.mean_nll > math.log(max_perplexity) else None


def verify_score(
    domain: Domain, faults: Sequence[SynthesizeReason | None], verdicts: Sequence[Verdict | None]
) -> float | None:
    """One number a query (AM § 3): the pass rate of its responses, or of chat the mean of the reward model's scores.

    A verdict that failed says nothing and is left out; a response without a whole answer passes no test, and is left
    out of a mean. None where nothing is left.
    """
    scores = [v.score for v in verdicts if v is not None and not v.outcome.is_fault and v.score is not None]
    if domain is not Domain.CHAT:
        scores += [0.0 for fault in faults if fault in UNANSWERED]
    return math.fsum(scores) / len(scores) if scores else None


def fault_of_score(verdict: Verdict, domain: Domain, policy: DomainPolicy) -> SynthesizeReason | None:
    """What is wrong with a well-formed response by its verdict."""
    if verdict.outcome.is_fault or verdict.score is None:
        return SynthesizeReason.VERIFICATION_FAILED
    if verdict.score > policy.min_score:
        return None
    return SynthesizeReason.LOW_SCORE if domain is Domain.CHAT else SynthesizeReason.NO_CORRECT_RESPONSE


def choose(
    query_id: str,
    domain: Domain,
    responses: Sequence[Response],
    faults: Sequence[SynthesizeReason | None],
    max_responses: int,
) -> Choice:
    """Keep the first `max_responses` different texts without a fault, in order of sample index."""
    texts: dict[str, int] = {}
    for response, fault in zip(responses, faults, strict=True):
        if fault is None:
            texts.setdefault(response.text, response.sample_index)
    kept = tuple(texts.values())[:max_responses]
    if kept:
        return Choice(query_id, domain, kept)
    counts = Counter(fault for fault in faults if fault is not None)
    furthest = max(counts, key=_ORDER.__getitem__, default=SynthesizeReason.NO_RESPONSE)
    evidence = ", ".join(f"{counts[reason]} {reason.value}" for reason in sorted(counts, key=_ORDER.__getitem__))
    return Choice(query_id, domain, (), furthest, f"of {len(responses)} responses: {evidence}" if counts else "")


def fit_mixture(choices: Iterable[Choice], mixture: Mixture) -> list[Choice]:
    """Turn down whole queries of a domain beyond its target: those of the highest hash, so that order plays no part."""
    choices = list(choices)
    turned_down: set[str] = set()
    for domain in Domain:
        target = mixture.of(domain).max_samples
        if target is not None:
            turned_down |= _beyond([choice for choice in choices if choice.domain is domain], target)
    return [_turn_down(choice) if choice.query_id in turned_down else choice for choice in choices]


def _beyond(choices: list[Choice], target: int) -> set[str]:
    beyond, taken = set(), 0
    for choice in sorted((c for c in choices if c.kept), key=lambda c: fingerprint(c.query_id)):
        if taken + len(choice.kept) > target:
            beyond.add(choice.query_id)
        else:
            taken += len(choice.kept)
    return beyond


def _turn_down(choice: Choice) -> Choice:
    evidence = f"{len(choice.kept)} good responses beyond the domain's max_samples"
    return choice._replace(kept=(), reason=SynthesizeReason.OVER_MIXTURE, evidence=evidence)
