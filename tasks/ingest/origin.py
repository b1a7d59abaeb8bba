"""Where rows come from: a raw file, or a data set of the Hugging Face hub; and which of its rows are wanted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from infra.config import Config

FORMATS = r"\.(jsonl|parquet)$"
HUB_FIELDS = ("hub", "revision", "subset", "split", "files")


class OriginConfig(Config):
    """Rows of one raw file, or of one split of a data set of the hub."""

    file: str | None = Field(
        default=None, pattern=FORMATS, description="path below the raw folder or corpus, .jsonl or .parquet"
    )
    hub: str | None = Field(
        default=None, pattern=r"^[\w.-]+/[\w.-]+$", description="data set of the hub, owner/name, in place of a file"
    )
    revision: str | None = Field(
        default=None,
        min_length=1,
        description="of the hub's data set: a commit, which pins it, or a branch, which is looked up; default: main",
    )
    subset: str | None = Field(default=None, description="configuration of the hub's data set, where it has several")
    split: str | None = Field(default=None, description="split of the hub's data set; default: train")
    files: str | None = Field(
        default=None,
        pattern=r"\.(jsonl|json|parquet|csv|arrow)$",
        description="read these files of the hub's repository, such as data/*.jsonl, instead of asking its loader: "
        "for those whose loader is a script, which `datasets` no longer runs",
    )
    only: dict[str, str] = Field(
        default={}, description="column → pattern that its whole text must match; other rows are dropped with a reason"
    )
    without: dict[str, str] = Field(
        default={}, description="column → pattern; rows whose whole text matches are dropped with a reason"
    )

    @field_validator("only", "without")
    @classmethod
    def _compiles(cls, patterns: dict[str, str]) -> dict[str, str]:
        for column, pattern in patterns.items():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"column {column}: {pattern!r} is no regular expression: {error}") from None
        return patterns

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.file is None) == (self.hub is None):
            raise ValueError("give one of `file` (below the raw folder) and `hub` (owner/name)")
        stray = [name for name in HUB_FIELDS if self.hub is None and getattr(self, name) is not None]
        if stray:
            raise ValueError(f"`{stray[0]}` is of a data set of the hub, but `file` is given; take one of them out")
        if self.files is not None and (self.subset is not None or self.split is not None):
            raise ValueError("`files` names the rows; take `subset` and `split` out")
        return self

    @property
    def origin(self) -> str:
        """File or data set, as errors and tables name it."""
        if self.file is not None:
            return self.file
        parts = [part for part in (self.subset, self.split, self.files) if part is not None]
        return ":".join([str(self.hub), *parts])

    def refusal(self, row: Mapping[str, Any]) -> str | None:
        """Why a native row is not wanted: the column, its text and the pattern; None: it is wanted."""
        for patterns, wanted in ((self.only, True), (self.without, False)):
            for column, pattern in patterns.items():
                text = str(row.get(column))
                if (re.fullmatch(pattern, text) is not None) is not wanted:
                    return f"{column} is {text[:80]!r}; {'only' if wanted else 'without'} {pattern}"
        return None
