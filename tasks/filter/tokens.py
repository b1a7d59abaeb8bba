"""Words and numbers of many texts as 64-bit hashes, all at once: bytes in, NumPy arrays out, no object for a word.

A hash is a polynomial over the bytes modulo 2^64, read off prefix sums, so the same word has the same hash in every
process and on every machine. It finds candidates; `tasks.filter.text` decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.filter.text import spell

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]

BATCH_CHARS = 1 << 18  # keeps the arrays of a batch in the processor's cache
_BASE, _WORD_BASE = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F  # odd, so that powers have inverses modulo 2^64
_OTHER, _LETTER, _DIGIT, _IDEOGRAM = range(4)
# LaTeX takes `\frac12` for one half, so its digits are two numbers.
_SHORT_FRACTION = re.compile(r"(\\[dt]?frac\s*\d)\s*(?=\d)")
_MARKS = re.compile(r"[\u00a0-\u00bf\u00d7\u00f7\u2000-\u2bff\u3000-\u303f\ufe00-\ufeff\uff5f-\uffff]")


def _kinds() -> NDArray[np.uint8]:
    kinds = np.zeros(256, np.uint8)
    kinds[ord("0") : ord("9") + 1] = _DIGIT
    for first, last in (("A", "Z"), ("a", "z")):
        kinds[ord(first) : ord(last) + 1] = _LETTER
    kinds[0x80:] = _LETTER
    kinds[0xE3:0xEE] = _IDEOGRAM  # first bytes of Chinese, Japanese and Korean signs, each a word of its own
    return kinds


def _lower() -> NDArray[np.uint8]:
    lower = np.arange(256, dtype=np.uint8)
    lower[ord("A") : ord("Z") + 1] += 32
    return lower


_KINDS, _LOWER = _kinds(), _lower()


class Tokens(NamedTuple):
    """Tokens of texts: those of text i are `hashes[starts[i] : starts[i + 1]]`."""

    hashes: Hashes
    starts: Places
    is_number: NDArray[np.bool_]

    @property
    def counts(self) -> Places:
        """Tokens of each text."""
        return np.diff(self.starts)

    def numbers(self) -> Tokens:
        """The numbers alone."""
        starts = np.concatenate([[0], np.cumsum(self.is_number)])[self.starts]
        return Tokens(self.hashes[self.is_number], starts, self.is_number[self.is_number])


class Windows(NamedTuple):
    """Hashes of the word sequences of texts: those of text i are `hashes[starts[i] : starts[i + 1]]`."""

    hashes: Hashes
    starts: Places

    @property
    def texts(self) -> Places:
        """The text of each sequence."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))


def hash_tokens(texts: Sequence[str]) -> Tokens:
    """Runs of letters (in lower case) and runs of digits, in order. Signs and LaTeX commands are left out."""
    parts = [_hash_batch(batch) for batch in _batches(texts)]
    starts = np.concatenate([[0], np.cumsum(np.concatenate([part.counts for part in parts]))]) if parts else [0]
    return Tokens(
        _joined([part.hashes for part in parts], np.uint64),
        np.asarray(starts, np.int64),
        _joined([part.is_number for part in parts], np.bool_),
    )


def windows(tokens: Tokens, length: int, short_too: bool = False) -> Windows:
    """Hashes of all sequences of `length` tokens; `short_too`: a shorter text has one, of all its tokens."""
    ends = np.repeat(tokens.starts[1:], tokens.counts)
    places = np.arange(len(tokens.hashes))
    is_whole = places + length <= ends
    if short_too:
        is_whole |= places == np.repeat(tokens.starts[:-1], tokens.counts)
    begins = places[is_whole]
    starts = np.concatenate([[0], np.cumsum(is_whole)])[tokens.starts]
    return Windows(_sequence_hashes(tokens.hashes, begins, np.minimum(begins + length, ends[is_whole])), starts)


def hash_sequences(tokens: Tokens) -> Hashes:
    """One hash a text, of all its tokens in order."""
    return _sequence_hashes(tokens.hashes, tokens.starts[:-1], tokens.starts[1:])


def mix(hashes: Hashes) -> Hashes:
    """Every bit of the result depends on every bit of the hash (the finaliser of splitmix64)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= BATCH_CHARS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _plain(text: str) -> str:
    """The text as UTF-8 will be cut right: no zero byte, signs beyond ASCII as spaces, short fractions apart."""
    if not text.isascii():
        text = _MARKS.sub(" ", spell(text).casefold())
    if "frac" in text:
        text = _SHORT_FRACTION.sub(r"\1 ", text)
    return text.replace("\0", " ") if "\0" in text else text


def _hash_batch(texts: Sequence[str]) -> Tokens:
    # A text ends with a zero byte; one in front spares the first byte its special case.
    blob = ("\0" + "\0".join(map(_plain, texts)) + "\0").encode("utf-8", "replace")
    codes = np.frombuffer(blob, np.uint8)
    kinds = _KINDS[codes]
    before = np.concatenate([kinds[:1], kinds[:-1]])
    opens = (kinds != before) & (kinds != _OTHER) & (before != _IDEOGRAM) | (kinds == _IDEOGRAM)
    begins = np.flatnonzero(opens)
    closes = (kinds[:-1] != _OTHER) & ((kinds[1:] == _OTHER) | opens[1:])
    ends = np.flatnonzero(closes) + 1
    is_command = (codes[begins - 1] == ord("\\")) & (kinds[begins] == _LETTER)
    begins, ends = begins[~is_command], ends[~is_command]
    hashes = _span_hashes(_LOWER[codes].astype(np.uint64) + np.uint64(1), begins, ends, _BASE)
    starts = np.searchsorted(begins, np.flatnonzero(codes == 0)).astype(np.int64)
    return Tokens(hashes, starts, kinds[begins] == _DIGIT)


def _sequence_hashes(hashes: Hashes, begins: Places, ends: Places) -> Hashes:
    return _span_hashes(hashes, begins, ends, _WORD_BASE)


def _span_hashes(values: Hashes, begins: Places, ends: Places, base: int) -> Hashes:
    """Hash of each span `values[begin:end]`: the polynomial of its values, and its length."""
    powers = _powers(base, len(values))
    sums = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values * powers.up, out=sums[1:])
    polynomials = (sums[ends] - sums[begins]) * powers.down[begins]
    return mix(polynomials ^ ((ends - begins).astype(np.uint64) * np.uint64(_BASE)))


class _Powers(NamedTuple):
    up: Hashes
    down: Hashes  # inverses


def _powers(base: int, length: int) -> _Powers:
    powers = _powers_of(base, 1 << max(16, (length + 1).bit_length()))
    return _Powers(powers.up[:length], powers.down[: length + 1])


@lru_cache(maxsize=8)
def _powers_of(base: int, length: int) -> _Powers:
    return _Powers(*(_geometric(factor, length) for factor in (base, pow(base, -1, 1 << 64))))


def _geometric(factor: int, length: int) -> Hashes:
    factors = np.full(length, factor, np.uint64)
    factors[0] = 1
    return np.cumprod(factors, dtype=np.uint64)


def _joined(parts: list[NDArray[Any]], kind: Any) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.empty(0, kind)
