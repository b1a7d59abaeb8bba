"""Packing and micro-batches: hand-made cases and what must hold for any lengths."""

from hypothesis import given
from hypothesis import strategies as st

from tasks.training.packing import micro_batches, pack, plan_epoch, share_of_rank

LENGTHS = st.lists(st.integers(1, 40), max_size=60)


def test_first_fit_decreasing_by_hand():
    # Sorted 7 6 5 4 3 2: 7+3 fill the first pack of 10, 6+4 the second, 5+2 the third.
    assert pack([5, 7, 2, 6, 3, 4], budget=10).packs == [[1, 4], [3, 5], [0, 2]]


def test_ties_are_taken_in_order_and_overlong_samples_are_named():
    packing = pack([4, 11, 4, 4, 12], budget=8)
    assert packing.packs == [[0, 2], [3]]
    assert packing.overlong == [1, 4]


@given(LENGTHS, st.integers(5, 50))
def test_every_sample_is_packed_once_or_overlong(lengths, budget):
    packing = pack(lengths, budget)
    assert sorted([i for chosen in packing.packs for i in chosen] + packing.overlong) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in chosen) <= budget for chosen in packing.packs)
    assert all(lengths[i] > budget for i in packing.overlong)


@given(LENGTHS)
def test_packing_is_first_fit(lengths):
    expected: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        room = next((p for p in expected if sum(lengths[i] for i in p) + lengths[index] <= 40), None)
        if room is None:
            expected.append([index])
        else:
            room.append(index)
    assert pack(lengths, 40).packs == expected


def test_epochs_differ_in_order_and_the_last_step_takes_the_rest():
    packs = [[n] for n in range(7)]
    first, again, second = (plan_epoch(packs, 3, seed) for seed in ("0/0", "0/0", "0/1"))
    assert first == again != second
    assert [len(step) for step in first] == [3, 3, 1]
    assert sorted(i for step in first for i in step) == list(range(7))


@given(LENGTHS, st.integers(20, 200))
def test_micro_batches_hold_every_sample_once_within_their_padded_budget(lengths, max_tokens):
    batches = micro_batches(lengths, max_tokens)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= max_tokens


def test_ranks_get_equally_many_passes():
    assert share_of_rank([[0], [1], [2]], 0, 2) == [[0], [2]]
    assert share_of_rank([[0], [1], [2]], 1, 2) == [[1], []]
