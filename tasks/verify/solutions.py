"""SK's re-extraction: the answer that a source's own solution states has to equal the label (recipes.md § 2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from infra.artifacts import Dataset
from infra.config import Config
from infra.output import Output
from infra.runtime import Runtime
from infra.step import step
from tasks.generation.batching import in_batches
from tasks.records import Query
from tasks.rewards.choice import letter_of
from tasks.rewards.math_answer import find_answers
from tasks.rewards.math_policy import BoxPolicy, Fallback
from tasks.verify.answers import is_choice, open_comparisons
from tasks.verify.config import SolutionCheck
from tasks.verify.labels import VerifyReason
from tasks.verify.votes import Ballot, Comparisons, FailedComparisonError, pairs_of

BATCH_QUERIES = 2048


class Extraction(Config):
    """Row of the side table `extractions`: what a solution states, and how that compares with the label."""

    query_id: str
    source: str
    label: str
    stated: str | None
    found_by: str
    finding: str


class Stated(NamedTuple):
    """The answer that a solution states, and what stated it; None where nothing does."""

    answer: str | None
    found_by: str


class Finding(NamedTuple):
    """Keep the query (`reason` is None), or drop it."""

    told: str
    reason: VerifyReason | None = None
    evidence: str = ""


@step(version=1, produces=Dataset, conserves="queries")
def check_solutions(queries: Dataset, config: SolutionCheck, out: Output, runtime: Runtime) -> None:
    """Keep labels that their sources' solutions end in; before any model is asked, so that it costs none.

    Queries of other domains, and those without a label, pass: what is wrong with them is for the next step to say.
    """
    comparisons = open_comparisons(config.math, out, runtime)
    counts: Counter[str] = Counter()
    for batch in in_batches(out.rows(queries, Query), BATCH_QUERIES):
        checked = [query for query in batch if query.domain in config.solutions.domains and query.answer is not None]
        stated = {query.id: stated_answer(query, config.solutions.extraction) for query in checked}
        ballots = {query.id: _ballot(query, stated[query.id]) for query in checked}
        comparisons.ask(pair for ballot in ballots.values() for pair in pairs_of(ballot))
        findings = {name: find(ballot, comparisons, config.solutions.check) for name, ballot in ballots.items()}
        for query in batch:
            settle(query, stated.get(query.id), findings.get(query.id), out)
        comparisons.forget()
        counts.update(finding.told for finding in findings.values())
    out.note(extractions_table(counts))


def stated_answer(query: Query, extraction: Sequence[Fallback]) -> Stated:
    """The last box of a solution, or what stands for one; of multiple choice the letter that it names.

    The text is all answer: a source's solution has no think part.
    """
    found = find_answers(query.solution or "", BoxPolicy.LAST, extraction)
    if not found.texts:
        return Stated(None, found.missing if query.solution else "no solution")
    answer: str | None = found.texts[0]
    if answer is not None and is_choice(query):
        answer = letter_of(answer, query.choices)
    return Stated(answer, found.found_by or "box") if answer else Stated(None, "names no option")


def find(ballot: Ballot, comparisons: Comparisons, check: Literal["off", "stated", "required"]) -> Finding:
    """What a solution says of its label; `ballot` has its answer as the only one, or none."""
    if not ballot.answers:
        is_needed = check == "required"
        return Finding("states no answer", VerifyReason.SOLUTION_MISSING if is_needed else None)
    try:
        if comparisons.has_label(ballot.answers[0], ballot):
            return Finding("agrees")
    except FailedComparisonError as error:
        return Finding("comparison failed", VerifyReason.VERIFICATION_FAILED, str(error))
    told = f"label {ballot.label!r}, the solution states {ballot.answers[0]!r}"
    return Finding("disagrees", VerifyReason.SOLUTION_DISAGREES if check != "off" else None, told)


def settle(query: Query, stated: Stated | None, finding: Finding | None, out: Output) -> None:
    """Write a query as its solution says; one that is not checked passes."""
    if stated is None or finding is None:
        out.keep(query)
        return
    row = {"query_id": query.id, "source": query.source, "label": query.answer or "", "stated": stated.answer}
    out.attach("extractions", Extraction.model_validate(row | {"found_by": stated.found_by, "finding": finding.told}))
    if finding.reason is None:
        out.keep(query)
    else:
        out.drop(query, finding.reason, finding.evidence or stated.found_by)


def extractions_table(counts: Mapping[str, int]) -> str:
    """Markdown table of what solutions say of their labels, most frequent first."""
    lines = [f"| {told} | {count:,} |" for told, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    return "\n".join(["**What the sources' solutions say**", "", "| solution | queries |", "|---|---:|", *lines])


def _ballot(query: Query, stated: Stated) -> Ballot:
    answers = () if stated.answer is None else (stated.answer,)
    alternatives = () if is_choice(query) else query.alternatives
    return Ballot(query.id, query.answer or "", answers, is_choice(query), alternatives)
