"""Scores against hand-computed numbers, and padded batches against samples alone."""

import math

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tasks.training import logprobs  # noqa: E402
from tasks.training.logprobs import Entropy, TokenScorer, collate, score_tokens  # noqa: E402
from tasks.training.packing import micro_batches  # noqa: E402
from tasks.training.samples import TokenSequence  # noqa: E402

SEQUENCES = [
    TokenSequence([5, 6, 7], [8, 9]),
    TokenSequence([1], [2, 3, 4, 5, 6, 7]),
    TokenSequence([9, 8, 7, 6, 5, 4, 3], [2]),
]


@pytest.fixture
def scorer():
    torch.manual_seed(0)
    config = transformers.Qwen2Config(
        vocab_size=20, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=48, max_position_embeddings=64, tie_word_embeddings=True, initializer_range=0.5,
    )  # fmt: skip
    return TokenScorer(transformers.Qwen2ForCausalLM(config))


def test_scores_by_hand():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25]]))
    scores = score_tokens(logits, torch.tensor([0]), entropy=Entropy.VALUE)
    assert scores.logprobs_N.item() == pytest.approx(math.log(0.5))
    assert scores.entropy_N.item() == pytest.approx(1.5 * math.log(2))  # 1.5 bits


def test_temperature_divides_the_logits():
    logits = torch.log(torch.tensor([[4.0, 1.0]]))
    scores = score_tokens(logits, torch.tensor([0]), temperature=2.0)
    assert scores.logprobs_N.item() == pytest.approx(math.log(2 / 3))  # √4 : √1


def test_samples_that_share_a_batch_do_not_see_each_other(scorer):
    together, _ = scorer(*collate(SEQUENCES))
    alone = torch.cat([scorer(*collate([sequence]))[0] for sequence in SEQUENCES])
    assert torch.allclose(together, alone, atol=1e-5)


def test_scores_are_those_of_the_plain_model(scorer):
    sequence = SEQUENCES[0]
    ids = torch.tensor([[*sequence.prompt_ids, *sequence.completion_ids]])
    expected = torch.log_softmax(scorer.model(ids).logits / 0.7, -1)[0, [2, 3], [8, 9]]
    assert torch.allclose(scorer(*collate([sequence]), 0.7)[0], expected, atol=1e-5)


@pytest.mark.parametrize("max_tokens", [8, 16, 1000])
def test_gradients_of_uneven_micro_batches_add_up_to_the_whole(scorer, max_tokens):
    scorer.double()  # in float32 the order of sums shows at 4e-6 on some processors

    def gradient(batches):
        scorer.zero_grad()
        for indices in batches:
            scores, _ = scorer(*collate([SEQUENCES[i] for i in indices]))
            (-scores.sum() / 9).backward()
        return torch.cat([p.grad.flatten() for p in scorer.parameters()])

    parts = gradient(micro_batches([sequence.num_tokens for sequence in SEQUENCES], max_tokens))
    assert torch.allclose(parts, gradient([[0, 1, 2]]), atol=1e-10)


def test_scoring_in_pieces_changes_neither_values_nor_gradients(scorer, monkeypatch):
    def run():
        scorer.zero_grad()
        scores, entropy = scorer(*collate(SEQUENCES), 1.0, Entropy.GRADIENT)
        (scores.sum() + entropy.sum()).backward()
        return scores.detach(), entropy.detach(), scorer.model.lm_head.weight.grad.clone()

    whole = run()
    monkeypatch.setattr(logprobs, "MAX_LOGITS", 40)  # two positions at a time
    for a, b in zip(whole, run(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_entropy_has_a_gradient_only_when_the_loss_has_a_term_in_it(scorer):
    assert not scorer(*collate(SEQUENCES), 1.0, Entropy.VALUE)[1].requires_grad
    assert scorer(*collate(SEQUENCES), 1.0, Entropy.GRADIENT)[1].requires_grad
