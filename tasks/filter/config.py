"""Policy of the filters: thresholds and switches; the signals that they judge are in the rule modules."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from infra.config import Config
from tasks.filter.judge_config import QueryJudgesConfig
from tasks.filter.rewrite_config import ChoiceRewriteConfig
from tasks.filter.semantic_config import SemanticConfig
from tasks.records import Domain

ALL_DOMAINS = tuple(Domain)
CHECKABLE = (Domain.MATH, Domain.SCIENCE)


class RulesConfig(Config):
    """Each rule names the domains in which it drops; an empty list turns it off."""

    url: tuple[Domain, ...] = Field(default=ALL_DOMAINS, description="drop a query with a URL (recipes: AM, SK)")
    non_text: tuple[Domain, ...] = Field(
        default=ALL_DOMAINS, description="drop bytes that are no text, and wrongly decoded text (choice)"
    )
    image: tuple[Domain, ...] = Field(default=ALL_DOMAINS, description="drop a query that needs an image or figure")
    table: tuple[Domain, ...] = Field(
        default=CHECKABLE,
        description="drop what needs a table that is not there, or only a table (choice)",
    )
    proof: tuple[Domain, ...] = Field(default=CHECKABLE, description="drop what asks for a proof")
    multi_part: tuple[Domain, ...] = Field(default=CHECKABLE, description="drop what asks several questions")
    incomplete: tuple[Domain, ...] = Field(default=(Domain.MATH,), description="drop what breaks off or asks nothing")
    answer_missing: tuple[Domain, ...] = Field(default=CHECKABLE, description="drop what has no ground truth")
    tests_missing: tuple[Domain, ...] = Field(default=(Domain.CODE,), description="drop what has no tests")
    constraints_missing: tuple[Domain, ...] = Field(
        default=(), description="drop what has no checkable instructions; off, since such rows can be judged by a model"
    )
    max_prompt_chars: int = Field(default=16_000, ge=1, description="longest dialog that stays, in characters")


class DuplicateSearch(Config):
    """How candidates of duplicates are found. The signals that it finds are stored; which drop is policy.

    With 96 minima in 24 bands of 4, two texts whose word pairs overlap by 0.7 meet with a chance of 0.998.
    """

    near_duplicates: bool = Field(default=True, description="look for near duplicates too, not only for equal texts")
    shingle_words: int = Field(default=2, ge=1, description="length of the word sequences that are signed (choice)")
    num_permutations: int = Field(default=96, ge=4, description="minima of a MinHash sketch (choice)")
    num_bands: int = Field(default=24, ge=1, description="bands that the minima are cut into; divides them (choice)")
    seed: int = Field(default=1, ge=0, description="seed of the permutations")
    minhash_version: int = Field(default=2, description="rensa's ALGORITHM_VERSION, since another signs differently")
    max_candidates: int = Field(
        default=16,
        ge=1,
        description="first rows of a bucket, and rows just before, each is compared with (choice)",
    )
    min_word_overlap: float = Field(default=0.5, gt=0, le=1, description="weakest likeness that is stored (choice)")

    @model_validator(mode="after")
    def _bands_fit(self) -> Self:
        if self.num_permutations % self.num_bands:
            raise ValueError(
                f"num_bands={self.num_bands} does not divide num_permutations={self.num_permutations}; "
                "choose a multiple, such as 24 and 96"
            )
        return self


class DedupConfig(Config):
    """What counts as the same query."""

    search: DuplicateSearch = Field(default=DuplicateSearch(), description="how candidates are found")
    near_duplicates: bool = Field(
        default=False,
        description="also drop rewordings (numbers and operators equal and in order, the answer equal, like words) and "
        "copies with misspellings or courtesies; other numbers or signs are other questions",
    )
    near_domains: tuple[Domain, ...] = Field(default=ALL_DOMAINS, description="domains in which near duplicates drop")
    min_word_overlap: float = Field(
        default=0.6,
        gt=0,
        le=1,
        description="Jaccard overlap of words from which two texts are near duplicates",
    )
    max_changed_words: int = Field(
        default=0,
        ge=0,
        description="words by which near duplicates without a telling answer may differ; one can make another question "
        "(`into French`, `into German`), hence none (choice)",
    )
    prefer_verified: bool = Field(
        default=True, description="of duplicates keep one with an answer, tests or constraints, else the first (choice)"
    )


class LeakSearch(Config):
    """How benchmarks are searched for in queries. The signals that it finds are stored; which are leaks is policy."""

    ngram_words: int = Field(default=13, ge=5, description="length of the word sequences compared (13: the usual)")
    short_ngram_words: int = Field(
        default=8, ge=4, description="the same in benchmark prompts shorter than two of the long sequences (choice)"
    )
    min_stem_words: int = Field(
        default=8, ge=1, description="shortest bare question (options and tests taken off) compared alone (choice)"
    )
    min_word_overlap: float = Field(default=0.5, gt=0, le=1, description="weakest rewording that is stored (choice)")
    min_ngram_share: float = Field(default=0.25, gt=0, le=1, description="weakest share that is stored (choice)")


class DecontaminationConfig(Config):
    """What counts as a leak of a benchmark. Stricter than dedup: a lost row costs less than a false score."""

    search: LeakSearch = Field(default=LeakSearch(), description="how candidates are found")
    min_word_overlap: float = Field(
        default=0.6,
        gt=0,
        le=1,
        description="Jaccard overlap from which a text with a benchmark's numbers, operators and answer is a leak",
    )
    min_word_overlap_alone: float = Field(
        default=0.8, gt=0, le=1, description="the same where the answers differ or there is none to compare"
    )
    min_ngram_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="share of a benchmark prompt's sequences that must occur, each weighing 1 / queries that hold it",
    )
    min_short_ngram_share: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="the same for short prompts, of which a template shares more; between 0.6 and 0.8 real rows hold "
        "other words in the decisive place (choice)",
    )
    min_shared_tests: int = Field(default=2, ge=1, description="equal asserts from which a code query is a leak")


class FilterConfig(Config):
    """The filter phase; what names a model is off unless a recipe names one."""

    rules: RulesConfig = Field(default=RulesConfig(), description="rules that look at one query")
    dedup: DedupConfig = Field(default=DedupConfig(), description="duplicates within and across sources")
    keepers: str | None = Field(
        default=None,
        description="`step/fingerprint` of the queries of an earlier data version: they win over new copies of theirs. "
        "Re-curation sets it to the version that stands",
    )
    decontamination: DecontaminationConfig = Field(
        default=DecontaminationConfig(), description="leaks of the benchmarks"
    )
    semantic: SemanticConfig = Field(
        default=SemanticConfig(), description="duplicates and leaks in other words; nothing is done unless it is named"
    )
    judge: QueryJudgesConfig | None = Field(default=None, description="models that vote on each query; none: no vote")
    rewrite: ChoiceRewriteConfig | None = Field(
        default=None, description="multiple choice rewritten as fill-in-the-blank; none: it stays as it is"
    )
