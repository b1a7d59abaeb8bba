"""Advantages, entropy coefficient, plateau and batches, with numbers worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.grpo.advantages import Judged, group_advantages
from tasks.grpo.batch import make_batch
from tasks.grpo.config import EntropyConfig, GrpoConfig, Overlong, PlateauConfig, ZeroVariance
from tasks.grpo.entropy import adapt_entropy
from tasks.grpo.plateau import has_plateaued, stage_is_over
from tasks.grpo.transport import read_rollouts, request_stop, requested_stop, write_rollouts
from tasks.records import Outcome, Rollout

KEEP, DROP = ZeroVariance.KEEP, ZeroVariance.DROP


def judge(*rewards, group=0, truncated=()):
    return [Judged(group, reward, index in truncated) for index, reward in enumerate(rewards)]


def config(**fields):
    return GrpoConfig(**({"lr": 1e-3, "steps": 10, "max_response_tokens": 8} | fields))


def rollout(group, index, reward, completion=(1, 2), stop_reason="stop"):
    return Rollout(
        query_id=f"q{group}", group=group, sample_index=index, weights_version="0", prompt_ids=[1],
        completion_ids=list(completion), logprobs=[-0.5] * len(completion), stop_reason=stop_reason,
        outcome=Outcome.EQUAL if reward else Outcome.DIFFERENT, reward=reward, text="",
    )  # fmt: skip


def test_advantages_by_hand():
    # Mean 0.5, sample std sqrt(4 · 0.25 / 3) = 0.57735.
    result = group_advantages(judge(1.0, 0.0, 0.0, 1.0), Overlong.ADVANTAGE_ZERO, KEEP)
    assert result.advantages_S == pytest.approx([0.866024, -0.866024, -0.866024, 0.866024], abs=1e-6)
    assert result.counts_S.all()


def test_groups_are_judged_apart_even_when_they_lie_mixed():
    samples = [Judged(0, 1.0, False), Judged(1, 0.0, False), Judged(0, 0.0, False), Judged(1, 0.5, False)]
    result = group_advantages(samples, Overlong.ADVANTAGE_ZERO, KEEP)
    assert result.advantages_S == pytest.approx([0.707106, -0.707105, -0.707106, 0.707105], abs=1e-5)


@pytest.mark.parametrize(("policy", "counts"), [(KEEP, [True] * 3), (DROP, [False] * 3)])
def test_a_group_without_contrast_has_no_advantage(policy, counts):
    # 0.1 three times: a float std need not be exactly 0.
    result = group_advantages(judge(0.1, 0.1, 0.1), Overlong.ADVANTAGE_ZERO, policy)
    assert list(result.advantages_S) == [0.0] * 3
    assert list(result.counts_S) == counts
    assert result.num_zero_variance == 1


def test_a_sample_whose_grading_failed_takes_no_part():
    result = group_advantages(judge(1.0, None, 0.0), Overlong.ADVANTAGE_ZERO, KEEP)
    assert result.advantages_S == pytest.approx([0.707106, 0.0, -0.707106], abs=1e-5)
    assert list(result.counts_S) == [True, False, True]


# Rewards 1 0 1(truncated): mean 2/3, sample std 0.57735.
@pytest.mark.parametrize(
    ("overlong", "advantages", "counts"),
    [
        (Overlong.ADVANTAGE_ZERO, [0.577349, -1.154699, 0.0], [True, True, True]),
        (Overlong.REWARD_ZERO, [1.154699, -0.577349, -0.577349], [True, True, True]),
        (Overlong.MASK_BEFORE, [0.707106, -0.707106, 0.0], [True, True, False]),
        (Overlong.MASK_AFTER, [0.577349, -1.154699, 0.0], [True, True, False]),
    ],
)
def test_a_truncated_sample_under_each_switch(overlong, advantages, counts):
    result = group_advantages(judge(1.0, 0.0, 1.0, truncated=(2,)), overlong, KEEP)
    assert result.advantages_S == pytest.approx(advantages, abs=2e-6)
    assert list(result.counts_S) == counts


@given(st.lists(st.sampled_from([0.0, 0.25, 1.0, None]), min_size=2, max_size=16))
def test_advantages_of_a_group_sum_to_zero_and_keep_the_order_of_rewards(rewards):
    result = group_advantages(judge(*rewards), Overlong.ADVANTAGE_ZERO, KEEP)
    assert sum(result.advantages_S) == pytest.approx(0.0, abs=1e-9)
    known = [(r, a) for r, a in zip(rewards, result.advantages_S, strict=True) if r is not None]
    assert all(a <= b for (r, a) in known for (s, b) in known if r < s)


def test_a_dropped_group_leaves_the_denominator_and_a_kept_one_does_not():
    rollouts = [rollout(0, 0, 1.0), rollout(0, 1, 0.0, (1, 2, 3)), rollout(1, 0, 1.0), rollout(1, 1, 1.0)]
    assert make_batch(rollouts, config(zero_variance="keep")).parts[0].num_tokens == 9
    assert make_batch(rollouts, config(zero_variance="drop")).parts[0].num_tokens == 5


def test_parts_hold_whole_groups_and_every_sample_once():
    rollouts = [rollout(group, index, float(index)) for group in (7, 8, 9) for index in range(2)]
    batch = make_batch(rollouts, config(updates_per_batch=2))
    assert [part.samples for part in batch.parts] == [[0, 1, 4, 5], [2, 3]]


def test_metrics_of_a_batch():
    batch = make_batch([rollout(0, 0, 1.0), rollout(0, 1, 0.0, (1,) * 4, "length"), rollout(0, 2, None)], config())
    assert batch.metrics["reward_mean"] == 0.5
    assert batch.metrics["length_mean"] == pytest.approx(8 / 3)
    assert batch.metrics["truncated_share"] == pytest.approx(1 / 3)
    assert batch.metrics["fault_share"] == pytest.approx(1 / 3)
    assert batch.metrics["sampled_entropy"] == 0.5


def test_adaptive_entropy_by_hand():
    settings = EntropyConfig(target=0.2, delta=0.005)
    low = adapt_entropy(0.0, 0.1, settings)
    assert low == (0.0, 0.005)
    assert adapt_entropy(low.next_coefficient, 0.1, settings) == (0.005, 0.01)
    assert adapt_entropy(0.01, 0.3, settings) == (0.0, pytest.approx(0.005))
    assert adapt_entropy(0.01, 0.2, settings) == (0.01, 0.01)
    assert adapt_entropy(0.0, 0.3, settings).next_coefficient == 0.0


def test_adaptive_entropy_stays_within_its_bounds():
    settings = EntropyConfig(delta=0.0001, coefficient_max=0.005)
    coefficient = 0.0
    for _ in range(100):
        coefficient = adapt_entropy(coefficient, 0.0, settings).next_coefficient
    assert coefficient == 0.005


def test_plateau_compares_the_last_two_windows():
    settings = PlateauConfig(window=2, min_delta=0.05)
    assert not has_plateaued([0.1, 0.1, 0.2], settings)
    assert not has_plateaued([0.1, 0.1, 0.2, 0.2], settings)
    assert has_plateaued([0.1, 0.1, 0.12, 0.14], settings)
    assert not has_plateaued([0.1] * 6, PlateauConfig(window=2, min_steps=7))


def test_a_stage_ends_at_its_last_step_or_on_its_plateau():
    assert stage_is_over([0.0] * 10, config())
    assert not stage_is_over([0.0] * 9, config())
    assert stage_is_over([0.0] * 4, config(plateau=PlateauConfig(window=2, min_delta=0.01)))


def test_a_group_of_one_is_refused():
    with pytest.raises(ValueError, match="group_size"):
        config(group_size=1)


def test_rollouts_and_stop_travel_as_files(tmp_path):
    rows = [rollout(0, 0, 1.0), rollout(0, 1, None)]
    write_rollouts(tmp_path, 3, rows)
    assert read_rollouts(tmp_path, 3) == rows
    assert requested_stop(tmp_path) is None
    request_stop(tmp_path, 4)
    assert requested_stop(tmp_path) == 4
