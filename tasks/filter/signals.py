"""Rows of signals: what the filters found of a query, and what policies decide from. Kept as data sets of their own, so
that another threshold decides anew without looking at a text."""

from __future__ import annotations

from pydantic import Field

from infra.config import Config
from tasks.filter.reasons import DropReason
from tasks.records import Domain


class RuleSignal(Config):
    """A rule holds for a query."""

    id: str = Field(description="of the query")
    source: str
    rule: DropReason
    evidence: str = Field(description="the piece of text that shows it")


class DuplicateSignal(Config):
    """A query asks what an earlier one asks, or nearly."""

    id: str = Field(description="of the later query")
    source: str
    domain: Domain
    place: int = Field(description="its place in the data set")
    is_verified: bool = Field(description="whether it has an answer, tests or constraints")
    other: str = Field(description="id of the earlier query")
    other_source: str
    other_place: int
    other_is_verified: bool
    reason: DropReason = Field(description="duplicate or near_duplicate")
    score: float = Field(default=1.0, description="Jaccard overlap of the words")
    num_changed: int = Field(default=0, description="words that differ beside fillers and misspellings")
    is_rewording: bool = Field(default=False, description="numbers and operators in order and the answer are equal")
    note: str = Field(default="", description="what else differs")


class LeakSignal(Config):
    """A query shares something with a benchmark's query."""

    id: str = Field(description="of the query")
    source: str
    benchmark: str
    benchmark_id: str
    reason: DropReason
    score: float
    how: str
    theirs: str = Field(description="start of the benchmark's text")
    ours: str = Field(description="start of the query's text")
    answers_agree: bool
    is_short: bool = Field(description="the benchmark's prompt is, so its word sequences are short ones")
