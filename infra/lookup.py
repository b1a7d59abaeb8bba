"""What a person names → the manifest: a reference, a digest, a label, an alias or a checkout folder."""

from __future__ import annotations

import difflib
import json
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from infra.artifacts import Artifact, Manifest
from infra.config import ConfigError
from infra.fingerprint import file_digest, fingerprint
from infra.graph import Graph
from infra.run import LAST, read_identity, read_runs
from infra.store import Store

MIN_HEX = 6
ALIASES = ("champion", "candidate")

_REFERENCE = re.compile(r"(?P<step>[\w-]+)/(?P<hex>[0-9a-f]{6,64})")
_HEX = re.compile(r"[0-9a-f]{6,64}")
_CHECKOUT = re.compile(r"(?P<step>[\w-]+)-(?P<hex>[0-9a-f]{16})")


class UnknownArtifactError(ConfigError, LookupError):
    """No artifact, or more than one, goes by what was given; the message names the near ones and the remedy."""


class Named(NamedTuple):
    """A manifest, and the name by which it was asked for."""

    manifest: Manifest
    name: str


class Made(NamedTuple):
    """Where a manifest lies."""

    step: str
    fingerprint: str

    @property
    def text(self) -> str:
        """As a person writes it."""
        return f"{self.step}/{self.fingerprint[:12]}"


def find_manifest(store: Store, text: str, recipe: str | None = None) -> Manifest:
    """The manifest that `text` names.

    Args:
        store: where to look.
        text: `step/fingerprint` (also with `label@` before it, and short), a digest or fingerprint (6 hex digits or
            more), a label such as `grpo-1` (its last call), `champion` or `candidate`, `recipe:label`,
            `recipe:champion`, or the folder of a checkout.
        recipe: whose labels and aliases are meant; by default those of all recipes.

    Raises:
        UnknownArtifactError: none, or more than one.
    """
    return _find(store, text, recipe).manifest


def find_artifact(store: Store, text: str, recipe: str | None = None) -> Artifact:
    """The reference to what `text` names (see `find_manifest`); it has the label that was given.

    Raises:
        UnknownArtifactError: none, or more than one.
    """
    found = _find(store, text, recipe)
    return store.reference(found.manifest).model_copy(update={"name": found.name})


def find_key(store: Store, graph: Graph, text: str, recipe: str | None = None) -> str:
    """The graph's key of what `text` names (see `find_manifest`); also a raw file, by path, name or digest.

    Raises:
        UnknownArtifactError: none, or more than one.
    """
    if Path(text).is_file():
        digest = file_digest(Path(text))
        if digest not in graph.nodes:
            raise UnknownArtifactError(f"{text}: no step in the store {store.uri} read a file with these bytes")
        return digest
    try:
        return find_manifest(store, text, recipe).fingerprint
    except UnknownArtifactError:
        raw = [node for node in graph.nodes.values() if node.kind == "raw"]
        found = [node.key for node in raw if text in node.name.split(" = ") or _begins(node.digest, text)]
        if len(found) != 1:
            raise
        return found[0]


def _begins(digest: str, text: str) -> bool:
    return len(text) >= MIN_HEX and digest.startswith(text)


def text_of(artifact: Artifact) -> str:
    """A text that finds the artifact again, and says its label.

    Raises:
        UnknownArtifactError: a raw file, which no step made.
    """
    if artifact.fingerprint is None:
        raise UnknownArtifactError(f"{artifact.name} is a raw file; name what was made from it")
    return f"{artifact.name}@{artifact.step}/{artifact.fingerprint}"


def _find(store: Store, text: str, recipe: str | None) -> Named:
    label, at, rest = text.rpartition("@")
    if at and _REFERENCE.fullmatch(rest):
        return Named(_referred(store, rest), label)
    if ":" in text and recipe is None:
        before, _, after = text.partition(":")
        if any(name.startswith(f"{before}/") for name in _labels(store) + _aliases(store)):
            return _find(store, after, before)
    manifest = _referred_or_none(store, text) or _checked_out(store, text) or _aliased(store, text, recipe)
    if manifest is not None:
        return Named(manifest, manifest.name)
    manifest = _labelled(store, text, recipe)
    if manifest is not None:
        return Named(manifest, text)
    if _HEX.fullmatch(text) and (manifest := _by_hex(store, text)) is not None:
        return Named(manifest, manifest.name)
    raise UnknownArtifactError(_unknown(store, text, recipe))


# step/fingerprint


def _referred(store: Store, text: str) -> Manifest:
    found = _referred_or_none(store, text)
    if found is None:
        raise UnknownArtifactError(f"{text}: not in the store {store.uri}; run the pipeline that makes it again")
    return found


def _referred_or_none(store: Store, text: str) -> Manifest | None:
    match = _REFERENCE.fullmatch(text)
    if match is None:
        return None
    if len(match["hex"]) == 64:
        return store.find(match["step"], match["hex"])
    paths = (_made(name) for name in store.notes(f"manifests/{match['step']}"))
    return _only(store, text, [made for made in paths if made.fingerprint.startswith(match["hex"])])


def _made(manifest_note: str) -> Made:
    path = Path(manifest_note)
    return Made(path.parent.name, path.stem)


def all_made(store: Store) -> list[Made]:
    """Where every manifest lies, by one listing and without reading one."""
    return [_made(name) for name in store.notes("manifests/*")]


def _only(store: Store, text: str, candidates: Sequence[Made]) -> Manifest | None:
    """The one candidate, None of none.

    Raises:
        UnknownArtifactError: there are more.
    """
    if len(candidates) > 1:
        shown = ", ".join(made.text for made in candidates[:8])
        more = f" and {len(candidates) - 8} more" if len(candidates) > 8 else ""
        raise UnknownArtifactError(f"{text}: names {len(candidates)} artifacts: {shown}{more}; give one of these")
    return store.find(*candidates[0]) if candidates else None


# Hex digits alone


def _by_hex(store: Store, text: str) -> Manifest | None:
    """A fingerprint's beginning first, by names only; then a digest's, for which every manifest is read."""
    found = _only(store, text, [made for made in all_made(store) if made.fingerprint.startswith(text)])
    if found is not None:
        return found
    return _only(store, text, [_where(each) for each in store.manifests() if each.digest.startswith(text)])


def _where(manifest: Manifest) -> Made:
    return Made(manifest.step, manifest.fingerprint)


# A checkout's folder


def _checked_out(store: Store, text: str) -> Manifest | None:
    """A checkout lies at `checkouts/<step>-<16 hex of the digest>/<prefix>`."""
    if "/" not in text or not Path(text).exists():
        return None
    parts = Path(text).resolve().parts
    for above, name in pairwise(parts):
        match = _CHECKOUT.fullmatch(name)
        if above == "checkouts" and match is not None:
            found = (store.find(*_made(note)) for note in store.notes(f"manifests/{match['step']}"))
            twins = [_where(each) for each in found if each is not None and each.digest.startswith(match["hex"])]
            return _only(store, text, twins[:1])  # equal digests: equal weights, so either will do
    return None


# Labels and aliases


def _labels(store: Store) -> list[str]:
    """`recipe/label` of every call that the store remembers."""
    return [name.removeprefix(f"{LAST}/").removesuffix(".json") for name in store.notes(f"{LAST}/*")]


def _aliases(store: Store) -> list[str]:
    return [name.removeprefix("aliases/").removesuffix(".json") for name in store.notes("aliases/*")]


def _aliased(store: Store, text: str, recipe: str | None) -> Manifest | None:
    if text not in ALIASES:
        return None
    names = [f"{recipe}/{text}"] if recipe else [name for name in _aliases(store) if name.endswith(f"/{text}")]
    found: dict[Made, str] = {}
    for name in names:
        content = store.read_note(f"aliases/{name}.json")
        if content is not None:
            note = json.loads(content)
            found.setdefault(Made(note["step"], note["fingerprint"]), name)
    if len(found) > 1:
        shown = ", ".join(name.replace("/", ":") for name in found.values())
        raise UnknownArtifactError(f"{text}: several recipes have one: {shown}; give one of these")
    return _present(store, text, next(iter(found))) if found else None


def _labelled(store: Store, text: str, recipe: str | None) -> Manifest | None:
    """The artifact of a label's last call; of several recipes' the one that a run made or used last."""
    names = [f"{recipe}/{text}"] if recipe else [name for name in _labels(store) if name.endswith(f"/{text}")]
    found: dict[Made, str] = {}
    for name in names:
        identity = read_identity(store, f"{LAST}/{name}.json")
        if identity is not None:
            found.setdefault(Made(identity["step"], fingerprint(identity)), name)
    if not found:
        return None
    made = next(iter(found)) if len(found) == 1 else _newest(store, text, found)
    return _present(store, text, made)


def _present(store: Store, text: str, made: Made) -> Manifest:
    manifest = store.find(*made)
    if manifest is None:
        raise UnknownArtifactError(f"{text}: was {made.text}, which is not in the store any more; run its recipe again")
    return manifest


def _newest(store: Store, text: str, candidates: dict[Made, str]) -> Made:
    for run in reversed(read_runs(store)):
        for step in reversed(run.steps):
            made = Made(step.step, step.artifact.fingerprint or "")
            if step.label == text and made in candidates:
                return made
    shown = ", ".join(name.replace("/", ":") for name in candidates.values())
    raise UnknownArtifactError(f"{text}: several recipes have this label: {shown}; give one of these, or --recipe")


def _unknown(store: Store, text: str, recipe: str | None) -> str:
    known = [name for name in _labels(store) if recipe is None or name.startswith(f"{recipe}/")]
    labels = sorted({name.partition("/")[2] for name in known})
    if not labels:
        where = f"of recipe {recipe} " if recipe else ""
        return f"{text}: the store {store.uri} remembers no step {where}yet; run a recipe, or name another --store"
    near = difflib.get_close_matches(text, labels, n=3, cutoff=0.5) or [each for each in labels if text in each][:3]
    meant = f"did you mean {', '.join(f'`{each}`' for each in near)}? " if near else ""
    return (
        f"{text}: no artifact goes by that; {meant}give step/fingerprint, at least {MIN_HEX} hex digits of a digest, "
        f"a checkout's folder, an alias ({', '.join(ALIASES)}) or a label: {', '.join(labels)}"
    )


# Everything above


def with_ancestors(store: Store, starts: Iterable[Manifest]) -> Iterator[Manifest]:
    """These manifests and all that they were made from, each once, the nearest first; reads no other manifest."""
    steps = {made.fingerprint: made.step for made in all_made(store)}
    waiting = deque(starts)
    seen = {manifest.fingerprint for manifest in waiting}
    while waiting:
        manifest = waiting.popleft()
        yield manifest
        for parent in (each for group in manifest.parents.values() for each in group):
            key = parent.fingerprint
            if key in seen or key not in steps:
                continue  # seen, a raw file, or gone from the store: the graph shows it as gone
            seen.add(key)
            found = store.find(steps[key], key)
            waiting.extend([found] if found is not None else [])
