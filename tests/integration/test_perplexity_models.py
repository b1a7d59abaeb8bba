"""Perplexity under a real model: transformers in this process, and vLLM, say the same; and what is usual scores low."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from infra.config import ConfigError
from infra.llm_http import Address
from infra.runtime import Endpoint, child_environment
from infra.vllm_server import SERVED_NAME, VllmConfig, VllmServer
from tasks.procedural.families import arithmetic
from tasks.procedural.families.problem import Style
from tasks.training.local_scoring import LocalTokenModel, folder_digest
from tasks.training.model import ModelConfig, SmallModelConfig, initialize
from tasks.training.token_models import RefusedTextError, Scorable, Surprise, TokenScoring, Unscored
from tasks.training.tokenizer import TokenizerConfig
from tasks.training.vllm_scoring import VllmTokenModel

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


def dialog(start: int) -> Scorable:
    problem = arithmetic.of_text(f"Start with {start}, add 5, multiply by 2. What is the result?")
    return Scorable([{"role": "user", "content": problem.text}], "", problem.solution.render(Style.STEPS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 0.1M parameters that has read forty solutions often enough to know how one looks."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = tmp_path_factory.mktemp("model") / "small"
    texts = [text for n in range(40) for text in (dialog(n).messages[0]["content"], dialog(n).text)]
    tokenizer = TokenizerConfig(vocab_size=288)
    small = SmallModelConfig(
        hidden_size=64, num_layers=2, num_heads=2, num_kv_heads=2, intermediate_size=128, max_length=256,
        initializer_range=0.06, tokenizer=tokenizer,
    )  # fmt: skip
    initialize(ModelConfig(small=small), texts, path)
    reader: Any = AutoTokenizer.from_pretrained(path)
    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(60):
        text = dialog(step % 40)
        prompt = reader.apply_chat_template(text.messages, add_generation_prompt=True, tokenize=False)
        ids = torch.tensor([reader(prompt + text.text, add_special_tokens=False)["input_ids"]])
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def local(folder: Path) -> LocalTokenModel:
    return LocalTokenModel(str(folder), folder_digest(folder), "cpu")


def perplexity(found: Surprise | Unscored) -> float:
    assert isinstance(found, Surprise)
    return math.exp(found.nll / found.num_tokens)


def test_logprobs_are_those_of_the_whole_distribution(local: LocalTokenModel, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    text = dialog(50)
    context, ids = local.encode_dialog(text.messages), local.encode(text.text)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        logits = model(torch.tensor([context + ids])).logits[0]
    expected = [float(torch.log_softmax(logits[len(context) + n - 1], -1)[token]) for n, token in enumerate(ids)]
    assert local.logprobs(context, ids) == pytest.approx(expected, abs=1e-4)


def test_what_the_model_knows_scores_below_twenty_and_what_it_does_not_above(local: LocalTokenModel) -> None:
    scoring = TokenScoring(local, "chat", 256)
    known = dialog(52)
    babble = known._replace(text=" ".join(reversed(known.text.split()))[::-1])
    usual, odd = (perplexity(scoring.score(text)) for text in (known, babble))
    assert usual < 20 < odd


def test_a_score_hangs_on_nothing_but_its_text(local: LocalTokenModel) -> None:
    scoring = TokenScoring(local, "plain", 256)
    texts = [dialog(n) for n in range(50, 54)]
    assert list(scoring.score_all(texts)) == [scoring.score(text) for text in texts]


def test_a_text_longer_than_the_window_is_refused(local: LocalTokenModel) -> None:
    with pytest.raises(RefusedTextError, match="the model reads 256"):
        local.logprobs([1] * 200, [2] * 57)


def test_another_model_under_the_same_path_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f'set perplexity.digest = "{folder_digest(folder)}"'):
        LocalTokenModel(str(folder), "0" * 64, "cpu")
    with pytest.raises(ConfigError, match="no Hugging Face folder"):
        folder_digest(tmp_path)


@pytest.mark.thorough
def test_vllm_says_what_transformers_says(local: LocalTokenModel, folder: Path, tmp_path: Path) -> None:
    config = VllmConfig(dtype="float32", max_model_len=256)
    texts: Sequence[Scorable] = [dialog(n)._replace(opening="<think>\n") for n in range(50, 58)]
    with VllmServer(config, folder, "w", log=tmp_path / "log", env=child_environment()) as server:
        endpoint = Endpoint(base_url=f"{server.base_url}/v1", max_concurrency=4)
        with VllmTokenModel(Address("scorer", SERVED_NAME, endpoint)) as served:
            there = list(TokenScoring(served, "chat", 256, num_threads=4).score_all(texts))
            long = TokenScoring(served, "chat", 999).score(texts[0]._replace(text="word " * 300))
    assert isinstance(long, Unscored)
    for one, other in zip(there, TokenScoring(local, "chat", 256).score_all(texts), strict=True):
        assert isinstance(one, Surprise)
        assert isinstance(other, Surprise)
        assert one.num_tokens == other.num_tokens
        assert one.nll / one.num_tokens == pytest.approx(other.nll / other.num_tokens, abs=1e-3)
