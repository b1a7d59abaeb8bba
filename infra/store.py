"""Content-addressed store on a local folder or S3. Done means committed: bytes first, manifest last and once.

Layout: `blobs/ab/<sha256>` bytes, `manifests/<step>/<fingerprint>.json` the truth, `checkouts/<digest>/` local folders
of artifacts that other programs open, `row_cache/`, `runs/`.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from pydantic import BaseModel

from infra.artifacts import Artifact, File, Manifest, Raw, reference
from infra.fingerprint import canonical_json, file_digest
from infra.objects import Stored, is_below, objects_below, part_without_stars
from infra.rows import CorruptShardError, read_shard
from infra.whole_files import aside_of, copy_whole, create_whole, link_whole

Row = TypeVar("Row", bound=BaseModel)
Note = TypeVar("Note", bound=BaseModel)
# What is found again after this long counts as new again, so that `posttrain gc`, whose grace is longer, leaves it.
FRESH_S = 12 * 3600
CREATE_ATTEMPTS = 6
READERS = 16  # on S3 each manifest is a round trip


class StoreError(RuntimeError):
    """The store cannot do what was asked; the message names the object and the remedy."""


class NondeterminismError(StoreError):
    """A deterministic step gave other bytes for the same fingerprint."""


class Store:
    """A place for artifacts.

    Args:
        uri: a folder, or `s3://bucket/prefix`.
        local: a local folder for checkouts of remote artifacts and for temporary files.
        options: fsspec options of the file system.
    """

    def __init__(self, uri: str, local: Path, options: Mapping[str, Any] | None = None) -> None:
        self.is_local = "://" not in uri
        self.uri = str(Path(uri).expanduser().resolve()) if self.is_local else uri.rstrip("/")
        self._local = local
        fs, root = fsspec.core.url_to_fs(self.uri, **(options or {}))
        self._fs: Any = fs
        self._root = str(root).rstrip("/")
        self._checked: set[str] = set()

    # Paths

    @property
    def local(self) -> Path:
        """The local folder of checkouts and copies."""
        return self._local

    def _path(self, *parts: str) -> str:
        return "/".join([self._root, *parts])

    def _blob(self, sha256: str) -> str:
        return self._path("blobs", sha256[:2], sha256)

    def manifest_path(self, step: str, fingerprint: str) -> str:
        """Where the manifest of a step's fingerprint lies or will lie."""
        return self._path("manifests", step, f"{fingerprint}.json")

    # Publishing

    def put_file(self, source: Path, path: str, rows: int | None = None) -> File:
        """Store a local file's bytes under their hash; the same bytes twice cost one look-up.

        Bytes that are absent or torn are placed whole, and so are bytes that lie there for long: a collector of garbage
        that works at the same time sees that they are wanted, though no manifest names them yet.
        """
        sha256, size = file_digest(source), source.stat().st_size
        file = File(path=path, sha256=sha256, bytes=size, rows=rows)
        there = self.stored(f"blobs/{sha256[:2]}/{sha256}")
        if there is None or there.bytes != size or time.time() - there.modified > FRESH_S:
            self._place(source, self._blob(sha256))
        return file

    def _place(self, source: Path, target: str) -> None:
        try:
            if self.is_local:
                copy_whole(source, Path(target))
            else:
                self._fs.put_file(str(source), target)
        except OSError as error:
            raise StoreError(f"cannot write {target}: {error}; free space or check the store's rights") from error

    def publish(self, manifest: Manifest) -> Manifest:
        """Write the manifest if absent. The loser of a race adopts an equal one, or any for a sampled step.

        Raises:
            NondeterminismError: a deterministic step was published before with another digest.
        """
        path = self.manifest_path(manifest.step, manifest.fingerprint)
        if self.create(path, canonical_json(manifest).encode()):
            return manifest
        first = self.find(manifest.step, manifest.fingerprint)
        if first is None:
            raise StoreError(f"{path}: exists but cannot be read; delete it and run again")
        if first.digest != manifest.digest and not manifest.sampled:
            raise NondeterminismError(
                f"step {manifest.step} gave digest {manifest.digest[:12]}, but {first.digest[:12]} is published for "
                f"the same inputs and config ({path}); the step is not deterministic: mend it or declare it sampled"
            )
        return first

    def create(self, path: str, content: bytes) -> bool:
        """Create an object whole, only if absent. Returns False when it is there already."""
        try:
            return create_whole(Path(path), content) if self.is_local else self._create_remote(path, content)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error}; free space or check the store's rights") from error

    def _create_remote(self, path: str, content: bytes) -> bool:
        for attempt in range(CREATE_ATTEMPTS):
            try:
                self._fs.pipe_file(path, content, mode="create")
                return True
            except FileExistsError:
                return False
            except OSError as error:
                # Some servers answer the failed precondition with a bare OSError; whoever lost finds the object there.
                self._fs.invalidate_cache()
                if self._fs.exists(path):
                    return False
                # Amazon's answer while another writer's request is in flight; that one may still fail.
                if "ConditionalRequestConflict" not in str(error) or attempt + 1 == CREATE_ATTEMPTS:
                    raise
                time.sleep(0.1 * 2**attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")

    # Finding

    def find(self, step: str, fingerprint: str) -> Manifest | None:
        """The published manifest of a fingerprint, or None."""
        path = self.manifest_path(step, fingerprint)
        try:
            return Manifest.model_validate_json(self._fs.cat_file(path))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise StoreError(f"{path}: not a manifest; delete it and run again") from error

    def find_whole(self, step: str, fingerprint: str) -> Manifest | None:
        """The published manifest if all its files are there. One whose files are gone is void and is removed.

        Who asks means to use it, so from now on it counts as new, also for a collection of garbage that has begun.
        """
        name = f"manifests/{step}/{fingerprint}.json"
        manifest = self.find(step, fingerprint)
        if manifest is None or not self._renew(name):
            return None
        if self.is_whole(manifest):
            return manifest
        self.delete(name)
        return None

    def _renew(self, name: str) -> bool:
        """Make an object young again; False when it is gone. Never brings back what another process deletes."""
        there = self.stored(name)
        if there is None or time.time() - there.modified <= FRESH_S:
            return there is not None
        try:
            if self.is_local:
                os.utime(self._path(name))
            else:
                bucket, key, _ = self._fs.split_path(self._path(name))
                # Onto itself: S3 keeps the bytes and sets the time, and refuses where the object is gone.
                source = {"Bucket": bucket, "Key": key}
                self._fs.call_s3("copy_object", Bucket=bucket, Key=key, CopySource=source, MetadataDirective="REPLACE")
        except FileNotFoundError:
            return False
        return True

    def manifest(self, artifact: Artifact) -> Manifest:
        """The manifest behind a reference."""
        found = self.find(artifact.step, artifact.fingerprint or "")
        if found is None:
            raise StoreError(f"{artifact.name}: its manifest {artifact.uri} is gone; run the pipeline again")
        return found

    def reference(self, manifest: Manifest) -> Artifact:
        """The typed reference to a manifest of this store."""
        return reference(manifest, self.manifest_path(manifest.step, manifest.fingerprint))

    def is_whole(self, manifest: Manifest) -> bool:
        """True when every file is there with its size. Content is checked when it is read."""
        return all(self._has(file) for file in manifest.files)

    def _has(self, file: File) -> bool:
        try:
            return bool(self._fs.size(self._blob(file.sha256)) == file.bytes)
        except FileNotFoundError:
            return False

    def manifests(self) -> Iterator[Manifest]:
        """All published manifests.

        Raises:
            StoreError: one cannot be read.
        """
        names = [stored.name for stored in self.objects("manifests") if stored.name.endswith(".json")]
        yield from (manifest for manifest in self.read_manifests(names).values() if manifest is not None)

    def read_manifests(self, names: Iterable[str]) -> dict[str, Manifest | None]:
        """Object name → manifest, or None where it is gone by now; many are read at once.

        Raises:
            StoreError: one cannot be read.
        """
        wanted = list(names)
        with ThreadPoolExecutor(max_workers=READERS) as readers:
            found = readers.map(self._read_manifest, wanted)
            return dict(zip(wanted, found, strict=True))

    def _read_manifest(self, name: str) -> Manifest | None:
        _, step, file = name.split("/")
        return self.find(step, file.removesuffix(".json"))

    # Reading

    def local_file(self, file: File, check: bool = True) -> Path:
        """A local path that holds the file's bytes; checked against the hash once for each process.

        Args:
            file: one of a manifest's.
            check: False for a question about single rows of gigabytes, which are not an input: then only the size is
                looked at.

        Raises:
            CorruptShardError: the stored bytes are not those that were published.
        """
        blob = self._blob(file.sha256)
        path = Path(blob) if self.is_local else self._local / "blobs" / file.sha256[:2] / file.sha256
        if not path.exists():
            self._fetch(file, path)
        if check and file.sha256 not in self._checked:
            _check(path, file, str(path))
            self._checked.add(file.sha256)
        elif path.stat().st_size != file.bytes:
            raise _corrupt(file, str(path))
        return path

    def _fetch(self, file: File, path: Path) -> None:
        blob = self._blob(file.sha256)
        if self.is_local:
            raise StoreError(f"{blob} is missing from the store; delete the manifest that names it and run again")
        with aside_of(path) as aside:
            try:
                self._fs.get_file(blob, str(aside))
            except FileNotFoundError:
                raise StoreError(f"{blob} is missing from the store; delete its manifest and run again") from None
            _check(aside, file, blob)
            aside.replace(path)

    def rows(self, artifact: Artifact, model: type[Row], prefix: str = "kept") -> Iterator[Row]:
        """Rows of one of an artifact's tables (`kept` of a data version, or a side table), in order."""
        for file in self.manifest(artifact).files:
            if file.path.startswith(f"{prefix}-"):
                yield from read_shard(self.local_file(file), model)

    def file(self, artifact: Artifact, path: str) -> Raw:
        """One file of a folder artifact, as a raw input."""
        if artifact.is_pending:
            return Raw(name=path, digest="", uri="", parents=(), step=artifact.step)
        for file in self.manifest(artifact).files:
            if file.path == path:
                uri = str(self.local_file(file))
                return Raw(name=path, digest=file.sha256, uri=uri, parents=(artifact.digest,), step=artifact.step)
        raise StoreError(
            f"{artifact.name} holds no file {path}; it holds {[f.path for f in self.manifest(artifact).files]}"
        )

    def checkout(self, artifact: Artifact, prefix: str = "model") -> Path:
        """A local folder with the artifact's files below `prefix/`, for programs that open folders."""
        folder = self._local / "checkouts" / f"{artifact.step}-{artifact.digest[:16]}" / prefix
        for file in self.manifest(artifact).files:
            if file.path.startswith(f"{prefix}/"):
                link_whole(self.local_file(file), folder / file.path.removeprefix(f"{prefix}/"))
        if not folder.exists():
            raise StoreError(f"{artifact.name} has no files below {prefix}/")
        return folder

    # Small mutable notes (what was computed last); never identity

    def note(self, name: str, content: bytes) -> None:
        """Write a small object, replacing an older one."""
        aside = self._local / f"note-{uuid.uuid4().hex}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(content)
        try:
            self._place(aside, self._path(name))
        finally:
            aside.unlink(missing_ok=True)

    def create_note(self, name: str, content: bytes) -> bool:
        """Write a small object whole, only if there is none of that name; False when there is."""
        return self.create(self._path(name), content)

    def read_note(self, name: str) -> bytes | None:
        """A small object, or None."""
        try:
            return bytes(self._fs.cat_file(self._path(name)))
        except FileNotFoundError:
            return None

    def read_note_as(self, name: str, model: type[Note], what: str) -> Note | None:
        """A small object as its model, or None.

        Raises:
            StoreError: it is not `what` it should be; the message names the object.
        """
        content = self.read_note(name)
        try:
            return None if content is None else model.model_validate_json(content)
        except ValueError as error:
            raise StoreError(f"{self.uri}/{name}: not {what}; delete it") from error

    def notes(self, folder: str) -> list[str]:
        """Names of the notes right below a folder; a `*` in the place of a part of its name stands for any."""
        # Not by the file system's glob: that takes a `[` or `*` in the store's own address for a pattern.
        names = (stored.name for stored in self.objects(part_without_stars(folder)))
        # A writer that was killed leaves its copy aside.
        return [name for name in names if is_below(name, folder) and not name.endswith(".tmp")]

    # All objects, for the collection of garbage

    def objects(self, folder: str) -> list[Stored]:
        """Every object below a folder, by name; all of them, or an error."""
        self._fs.invalidate_cache()
        if self.is_local:
            return sorted(objects_below(Path(self._path(folder)), Path(self._root)))
        found: dict[str, Any] = self._fs.find(self._path(folder), detail=True)
        return sorted(self._stored(path, info) for path, info in found.items())

    def stored(self, name: str) -> Stored | None:
        """An object as it is now, or None."""
        self._fs.invalidate_cache()
        try:
            return self._stored(self._path(name), self._fs.info(self._path(name)))
        except FileNotFoundError:
            return None

    def _stored(self, path: str, info: Mapping[str, Any]) -> Stored:
        modified = info["mtime"] if self.is_local else info["LastModified"].timestamp()
        return Stored(path.removeprefix(f"{self._root}/"), int(info["size"]), float(modified))

    def delete(self, name: str) -> None:
        """Delete an object; one that is gone already is no error."""
        with suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))


def _check(path: Path, file: File, name: str) -> None:
    if file_digest(path) != file.sha256:
        raise _corrupt(file, name)


def _corrupt(file: File, name: str) -> CorruptShardError:
    return CorruptShardError(f"{name} ({file.path}): bytes differ from the manifest; delete it and run again")


def raw_file(path: Path, name: str) -> Raw:
    """A file from outside as an input; its digest is that of its bytes.

    Raises:
        StoreError: no such file.
    """
    if not path.is_file():
        raise StoreError(f"{path}: no such raw file; put it there, or take its source out of the recipe")
    return Raw(name=name, digest=file_digest(path), uri=str(path.resolve()))
