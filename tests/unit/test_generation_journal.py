"""Finished samples outlive a kill; only what is missing is drawn again."""

from __future__ import annotations

from pathlib import Path

from tasks.generation.engine import Completion, Prompt, Sample, SamplingParams, _runs
from tasks.generation.journal import Journal


def _sample(key: str, index: int) -> Sample:
    return Sample(key, index, Completion((1, 2), (3, 4), (-0.5, -0.25), "text", "stop"))


def test_a_new_journal_has_what_an_old_one_kept(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    first = Journal(path)
    first.add(_sample("a", 0))
    first.add(_sample("a", 2))
    first.close()
    again = Journal(path)
    assert again.samples == {("a", 0): _sample("a", 0).completion, ("a", 2): _sample("a", 2).completion}
    again.close()


def test_only_missing_samples_are_asked_for(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "samples.jsonl")
    for index in (0, 2):
        journal.add(_sample("a", index))
    for index in range(4):
        journal.add(_sample("b", index))
    missing = journal.missing([Prompt("a", [1]), Prompt("b", [1]), Prompt("c", [1])], 4)
    assert missing == [Prompt("a", [1], frozenset({0, 2})), Prompt("c", [1], frozenset())]
    journal.close()


def test_a_torn_last_line_is_lost_alone(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    first = Journal(path)
    first.add(_sample("a", 0))
    first.add(_sample("a", 1))
    first.close()
    path.write_bytes(path.read_bytes()[:-20])
    second = Journal(path)
    assert set(second.samples) == {("a", 0)}
    second.add(_sample("a", 2))
    second.close()
    third = Journal(path)
    assert set(third.samples) == {("a", 0), ("a", 2)}
    third.close()


def test_missing_indices_become_requests_of_consecutive_samples() -> None:
    assert list(_runs([0, 1, 2, 3, 4], 2)) == [(0, 2), (2, 2), (4, 1)]
    assert list(_runs([1, 2, 5, 7], 8)) == [(1, 2), (5, 1), (7, 1)]
    assert list(_runs([], 4)) == []


def test_params_name_their_samples() -> None:
    assert SamplingParams(n=3, max_tokens=1).n == 3
