"""Runs inside vLLM's worker process: reload weights in place from a Hugging Face folder, and say what was loaded.

The only module that may import vllm, and only inside methods. vLLM mixes `ReloadExtension` into its worker class
(`--worker-extension-cls`), so `self` is the worker. `weights_digest` needs the standard library alone: the trainer
computes the same digest of the folder that it wrote.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Where one tensor lies in a safetensors file: bytes [start, stop) of the file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def weights_layout(folder: Path) -> dict[str, TensorEntry]:
    """Every tensor of a Hugging Face folder by name, read from the safetensors headers alone.

    Raises:
        FileNotFoundError: the folder holds no `*.safetensors`.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder}: no *.safetensors; name a folder that `save_pretrained` wrote")
    return {name: entry for file in files for name, entry in _read_header(file)}


def _read_header(file: Path) -> Iterator[tuple[str, TensorEntry]]:
    # safetensors: 8 bytes little-endian header length, JSON header, then the tensors' bytes.
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
    for name, tensor in header.items():
        if name != "__metadata__":
            start, stop = (8 + length + offset for offset in tensor["data_offsets"])
            yield name, TensorEntry(file, tensor["dtype"], tuple(tensor["shape"]), start, stop)


def weights_digest(folder: Path) -> str:
    """SHA-256 (hex) over the tensors of a Hugging Face folder; sharding and file metadata do not change it."""
    return _combine((name, _tensor_digest(entry)) for name, entry in weights_layout(folder).items())


def _tensor_digest(entry: TensorEntry) -> str:
    digest = hashlib.sha256()
    with entry.file.open("rb") as stream:
        stream.seek(entry.start)
        left = entry.stop - entry.start
        while left > 0 and (block := stream.read(min(left, 1 << 24))):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


def _combine(digests: Iterable[tuple[str, str]]) -> str:
    return hashlib.sha256("".join(f"{name} {digest}\n" for name, digest in sorted(digests)).encode()).hexdigest()


def _digested(folder: Path, digests: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """(name, CPU tensor) of every tensor in `folder`; `digests` gains the digest of each tensor's bytes."""
    import torch
    from safetensors import safe_open

    names_of_file: dict[Path, list[str]] = {}
    for name, entry in weights_layout(folder).items():
        names_of_file.setdefault(entry.file, []).append(name)
    for file, names in names_of_file.items():
        with safe_open(file, framework="pt") as tensors:
            for name in names:
                tensor = tensors.get_tensor(name)
                digests[name] = hashlib.sha256(tensor.reshape(-1).view(torch.uint8).numpy()).hexdigest()
                yield name, tensor


def layout_difference(served: Mapping[str, TensorEntry], given: Mapping[str, TensorEntry]) -> str | None:
    """The first name or shape in which two layouts differ, in words; None when they agree."""
    for name in sorted(served.keys() | given.keys()):
        if name not in given:
            return f"{name} is missing"
        if name not in served:
            return f"{name} is not in the served model"
        if served[name].shape != given[name].shape:
            return f"{name} has shape {list(given[name].shape)}, the served model {list(served[name].shape)}"
    return None


class ReloadExtension:
    """Methods that vLLM's worker gains; called over `/collective_rpc`, so arguments and results are plain JSON."""

    # Attributes of vLLM's worker that the methods use.
    model_runner: Any
    reload_weights: Callable[..., None]

    def reload_weights_from(self, path: str, version: str) -> dict[str, str]:
        """Replace the weights in place by those of the Hugging Face folder `path`; names and shapes must be the same.

        Returns:
            `version` as given, and `digest`: `weights_digest` of the very bytes that were handed to the model.

        Raises:
            Exception: whatever reading or loading raises; the weights may then be part old, part new.
        """
        digests: dict[str, str] = {}
        self.reload_weights(weights_iterator=_digested(Path(path), digests))
        self._repair_tied_head()
        return {"version": version, "digest": _combine(digests.items())}

    def _repair_tied_head(self) -> None:
        """Pack `lm_head` again: on CPU vLLM keeps a packed copy, and for tied embeddings a reload leaves it stale."""
        from vllm.platforms import current_platform

        head = getattr(self.model_runner.get_model(), "lm_head", None)
        if current_platform.is_cpu() and head is not None:
            from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

            dispatch_cpu_unquantized_gemm(head, remove_weight=False)
