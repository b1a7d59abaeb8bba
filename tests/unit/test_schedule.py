"""Learning rates by hand."""

import pytest

from tasks.sft.config import SftConfig
from tasks.sft.plan import plan_training
from tasks.training.schedule import Schedule, learning_rate


def test_cosine_with_warm_up():
    rates = [
        learning_rate(step, peak=1.0, schedule=Schedule.COSINE, num_steps=10, warmup_steps=2) for step in range(10)
    ]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[6] == pytest.approx(0.5)  # half-way through 8 decaying steps
    assert rates[9] == pytest.approx(0.038060, abs=1e-6)  # (1 + cos(7π/8)) / 2


def test_constant_stays_at_its_peak():
    rates = [
        learning_rate(step, peak=2.0, schedule=Schedule.CONSTANT, num_steps=3, warmup_steps=0) for step in range(5)
    ]
    assert rates == [2.0] * 5


def test_a_plan_counts_overlong_samples_and_warms_up_over_all_epochs():
    config = SftConfig(lr=1.0, num_epochs=2, max_length=10, sequences_per_step=2, warmup_ratio=0.25)
    plan = plan_training([10, 10, 10, 10, 11], config)
    assert plan.overlong == [4]
    assert [update.lr for update in plan.updates][:2] == [1.0, 1.0]
    assert len(plan.updates) == 4
    assert sorted(plan.updates[0].samples + plan.updates[1].samples) == [0, 1, 2, 3]


def test_a_plan_without_a_fitting_sample_names_the_remedy():
    with pytest.raises(ValueError, match="raise max_length"):
        plan_training([11], SftConfig(max_length=10))
