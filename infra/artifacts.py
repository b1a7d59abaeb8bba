"""What lasts: artifacts, their manifests, and the ledger's row."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from infra.config import Config
from infra.fingerprint import fingerprint

Kind = Literal["raw", "folder", "dataset", "checkpoint", "report"]


class File(Config):
    """One file of an artifact; its bytes lie in the store under their SHA-256."""

    path: str = Field(description="name inside the artifact, with forward slashes")
    sha256: str
    bytes: int
    rows: int | None = Field(default=None, description="rows, for a Parquet shard")


class Parent(Config):
    """An input of the step that made an artifact."""

    kind: Kind
    name: str
    digest: str
    fingerprint: str | None = Field(default=None, description="of the step that made it; None for a raw file")


class Manifest(Config):
    """The truth about one artifact, written last and once. Holds no time, host or path: two runs write equal bytes."""

    kind: Kind
    name: str
    step: str
    version: int
    sampled: bool = Field(description="True where sampling need not repeat, so the first publisher wins")
    fingerprint: str
    config: dict[str, Any]
    parents: dict[str, tuple[Parent, ...]] = Field(description="step parameter → the artifacts given to it")
    files: tuple[File, ...]
    summary: dict[str, Any] = Field(description="what the kind carries: rows and funnel, scores, train_step, …")

    @property
    def digest(self) -> str:
        """Content digest: equal files and summary give equal digests, whichever step or config made them."""
        return fingerprint([self.kind, [[f.path, f.sha256] for f in self.files], self.summary])


class Artifact(Config):
    """A small typed reference that flows pass around; never rows or weights."""

    kind: Kind
    name: str
    digest: str
    uri: str = Field(description="where its manifest (or, for a raw file, the file itself) lies")
    parents: tuple[str, ...] = Field(default=(), description="digests of the inputs")
    step: str = ""
    fingerprint: str | None = None

    @property
    def is_pending(self) -> bool:
        """True while planning, for an artifact that no one has made yet."""
        return self.digest == ""


class Raw(Artifact):
    """A file from outside, or one file of a folder artifact; its digest is the SHA-256 of its bytes."""

    kind: Literal["raw"] = "raw"


class Folder(Artifact):
    """Files made by a step, read one by one."""

    kind: Literal["folder"] = "folder"


class Dataset(Artifact):
    """A data version: Parquet shards of one row type."""

    kind: Literal["dataset"] = "dataset"
    rows: int = 0
    columns: dict[str, str] = Field(default={}, description="column → Arrow type")
    funnel: dict[str, dict[str, int]] = Field(default={}, description="source → {reason or `kept`: rows}")


class Checkpoint(Artifact):
    """A Hugging Face folder that transformers and vLLM load."""

    kind: Literal["checkpoint"] = "checkpoint"
    base_model: str = ""
    train_step: int = 0
    tokenizer_digest: str = ""


class Score(Config):
    """A benchmark's result: mean over problems of the per-problem mean over k samples, in [0, 1]."""

    mean: float
    low: float = Field(description="lower end of the 95 % interval")
    high: float = Field(description="upper end of the 95 % interval")
    k: int = Field(description="samples a problem")
    n: int = Field(description="problems")


class Report(Artifact):
    """Benchmark scores of one checkpoint, with the generations they rest on."""

    kind: Literal["report"] = "report"
    scores: dict[str, Score] = {}


AnyArtifact = Annotated[Raw | Folder | Dataset | Checkpoint | Report, Field(discriminator="kind")]


class Drop(Config):
    """The ledger's row: one query that left, and why."""

    query_id: str
    source: str
    step: str
    reason: str
    evidence: str


ARTIFACT_TYPES: dict[str, type[Artifact]] = {
    "raw": Raw,
    "folder": Folder,
    "dataset": Dataset,
    "checkpoint": Checkpoint,
    "report": Report,
}


def reference(manifest: Manifest, uri: str) -> Artifact:
    """The typed reference to a published artifact."""
    digests = tuple(p.digest for group in manifest.parents.values() for p in group)
    fields = {"name": manifest.name, "digest": manifest.digest, "uri": uri, "parents": digests}
    fields |= {"step": manifest.step, "fingerprint": manifest.fingerprint}
    model = ARTIFACT_TYPES[manifest.kind]
    own = {key: value for key, value in manifest.summary.items() if key in model.model_fields}
    return model.model_validate(fields | own)


def pending(kind: Kind, name: str, step: str) -> Artifact:
    """The reference that stands, while planning, for an artifact that no one has made yet."""
    return ARTIFACT_TYPES[kind].model_validate({"name": name, "digest": "", "uri": "", "step": step})
