"""Hashes of words: equal words give equal hashes, whatever the batch, the place in it, or the process."""

import re
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.filter import tokens as module
from tasks.filter.ngrams import NgramTable
from tasks.filter.text import signature, words
from tasks.filter.tokens import Tokens, hash_sequences, hash_tokens, windows

TEXTS = st.lists(st.text(st.sampled_from(r"abcXYZ 019.,\-+/(){}$éßж中²\0") | st.characters(), max_size=40), max_size=8)


def each(tokens: Tokens) -> list[list[int]]:
    return [tokens.hashes[a:b].tolist() for a, b in pairwise(tokens.starts.tolist())]


def test_words_are_runs_of_letters_or_digits_without_case_signs_and_commands() -> None:
    first, second, third = each(hash_tokens(["Add 12 to x1!", "ADD (12) to \\left x_1", "\\frac12 of a"]))
    assert first == second
    assert len(first) == 5
    assert len(third) == 4  # 1, 2, of, a
    assert each(hash_tokens(["", "..", "a"]))[:2] == [[], []]
    assert hash_tokens(["a 1 b2"]).is_number.tolist() == [False, True, False, True]


def test_ideographs_are_words_of_their_own_and_accents_are_letters() -> None:
    assert [len(words) for words in each(hash_tokens(["求和 abc", "été", "x² + ½", "“a”—b"]))] == [3, 1, 4, 2]


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_a_text_has_the_same_hashes_alone_and_among_others(texts: list[str]) -> None:
    together = each(hash_tokens(texts))
    assert together == [each(hash_tokens([text]))[0] for text in texts]
    assert len(hash_tokens(texts).starts) == len(texts) + 1


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_texts_with_equal_words_have_equal_hashes(texts: list[str]) -> None:
    plain = ["".join(char for char in text if char.isascii()) for text in texts]
    tokens = hash_tokens([*plain, *(text.upper() for text in plain), *(f" {text}\n" for text in plain)])
    whole, orders = hash_sequences(tokens), hash_sequences(tokens.numbers())
    assert whole.reshape(3, -1).T.tolist() == [[value] * 3 for value in whole[: len(plain)].tolist()]
    for k, text in enumerate(plain):
        for other, told in enumerate(plain):
            if words(text) == words(told):
                assert whole[k] == whole[other]
            if signature(words(text)) and signature(words(text)) == signature(words(told)):
                assert orders[k] == orders[other]


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_counts_agree_with_a_regular_expression(texts: list[str]) -> None:
    plain = ["".join(char for char in text if char.isascii()) for text in texts]
    counted = [len(re.findall(r"[a-z]+|\d+", re.sub(r"\\[a-z]+", " ", text.lower()))) for text in plain]
    short = [k for k, text in enumerate(plain) if "frac" not in text]
    assert [hash_tokens(plain).counts.tolist()[k] for k in short] == [counted[k] for k in short]


def test_windows_hash_sequences_and_never_cross_texts() -> None:
    tokens = hash_tokens(["a b c d", "b c d", "x"])
    found = windows(tokens, 3)
    assert found.starts.tolist() == [0, 2, 3, 3]
    assert found.hashes[1] == found.hashes[2]  # b c d
    assert found.texts.tolist() == [0, 0, 1]
    short = windows(tokens, 3, short_too=True)
    assert short.starts.tolist() == [0, 2, 3, 4]
    assert windows(hash_tokens([]), 3).hashes.tolist() == []


def test_batches_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"the {k}th of {k * 7} words" for k in range(100)]
    whole = hash_tokens(texts)
    monkeypatch.setattr(module, "BATCH_CHARS", 50)
    assert all(np.array_equal(a, b) for a, b in zip(whole, hash_tokens(texts), strict=True))


def test_hashes_are_the_same_in_every_process() -> None:
    code = "from tasks.filter.tokens import *; print(hash_sequences(hash_tokens(['Add 12 to x', 'é 中'])).tolist())"
    seeds = ("0", "7")
    told = [
        subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
                       capture_output=True, text=True, check=True).stdout
        for seed in seeds
    ]  # fmt: skip
    assert told[0] == told[1] == "[7560230720958162038, 13043560440489219038]\n"


def test_shares_weigh_a_sequence_by_how_few_queries_hold_it() -> None:
    table = NgramTable(["one two three four five", "nothing like it here now"], length=2, short=2)
    ours = hash_tokens(["zero one two three", "two three", "one two three four five"])
    found = table.find(ours, np.arange(3))
    # Sequences (one two), (two three), (three four), (four five) are held by 2, 3, 1, 1 queries.
    total = 1 / 2 + 1 / 3 + 1 + 1
    expected = {0: (1 / 2 + 1 / 3) / total, 1: (1 / 3) / total, 2: 1.0}
    shares = {row: share for row, item, share in table.shares(found, 0.05) if item == 0}
    assert shares == {row: round(share, 4) for row, share in expected.items()}
    assert [row for row, _, _ in table.shares(found, 0.5)] == [2]
