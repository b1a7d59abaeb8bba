"""The policy loss on tiny tensors by hand, and micro-batches against the whole batch."""

import math
from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")

from tasks.grpo.loss import entropy_loss, kl_loss, policy_loss  # noqa: E402

CLIP = (0.2, 0.3)


def tensors(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_on_policy_the_loss_is_minus_the_mean_advantage_and_nothing_is_clipped():
    logprobs = tensors(-1.0, -2.0, -3.0, -0.5)
    result = policy_loss(logprobs, logprobs, tensors(1.0, -1.0, 2.0, 2.0), 8, (0.0, 0.0))
    assert result.loss.item() == pytest.approx(-4 / 8)
    assert result.num_clipped == 0


def test_on_policy_gradient_is_that_of_the_log_likelihood_weighted_by_advantages():
    logprobs = tensors(-1.0, -2.0).requires_grad_()
    policy_loss(logprobs, logprobs.detach(), tensors(1.5, -0.5), 4, CLIP).loss.backward()
    assert logprobs.grad.tolist() == pytest.approx([-1.5 / 4, 0.5 / 4])


def test_the_clip_holds_back_what_went_too_far_in_its_own_direction():
    # Ratios 1.5 and 0.5, each with advantages of both signs.
    old = tensors(0.0, 0.0, 0.0, 0.0)
    logprobs = tensors(math.log(1.5), math.log(1.5), math.log(0.5), math.log(0.5)).requires_grad_()
    result = policy_loss(logprobs, old, tensors(1.0, -1.0, 1.0, -1.0), 1, CLIP)
    # 1.3·1 (clipped), 1.5·−1, 0.5·1, 0.8·−1 (clipped)
    assert result.loss.item() == pytest.approx(-(1.3 - 1.5 + 0.5 - 0.8))
    assert result.num_clipped == 2
    result.loss.backward()
    assert logprobs.grad.tolist() == pytest.approx([0.0, 1.5, -0.5, 0.0])


def test_uneven_micro_batches_sum_to_the_full_batch():
    generator = torch.Generator().manual_seed(0)
    logprobs, old, advantages = torch.randn(3, 50, generator=generator) * 0.3
    cuts = [0, 1, 8, 9, 30, 50]
    whole = policy_loss(logprobs, old, advantages, 50, CLIP)
    parts = [policy_loss(logprobs[a:b], old[a:b], advantages[a:b], 50, CLIP) for a, b in pairwise(cuts)]
    assert sum(part.loss.item() for part in parts) == pytest.approx(whole.loss.item(), abs=1e-6)
    assert sum(part.num_clipped for part in parts) == whole.num_clipped


def test_entropy_term_raises_entropy():
    assert entropy_loss(tensors(1.0, 3.0), 0.01, 4).item() == pytest.approx(-0.01)


def test_kl_estimator_by_hand_and_never_negative():
    policy, reference = tensors(math.log(0.5), -1.0), tensors(math.log(0.25), -1.0)
    expected = 0.5 - 1 - math.log(0.5)
    assert kl_loss(policy, reference, 0.1, 2).item() == pytest.approx(0.1 * expected / 2)
