"""A real vLLM pooling server with a tiny sequence-classification model, against transformers."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForSequenceClassification,
)

from infra.llm_http import Address, EndpointError
from infra.process import ChildProcess, free_port
from infra.runtime import Endpoint
from infra.vllm_server import VllmConfig, server_environment
from tasks.records import Domain, Message, Outcome, Query
from tasks.rewards.chat import ASPECTS, ClassifierConfig
from tasks.rewards.classifier import Classifier

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
HOST = "127.0.0.1"
QUERY = Query(id="q", domain=Domain.CHAT, source="s", messages=(Message(role="user", content="Why?"),))
TEMPLATE = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}<eos>{% endfor %}"


def _save_model(folder: Path, num_labels: int) -> Path:
    torch.manual_seed(num_labels)
    config = Qwen2Config(
        vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=0,
        initializer_range=0.2, num_labels=num_labels,
    )  # fmt: skip
    Qwen2ForSequenceClassification(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate(["<pad>", "<bos>", "<eos>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>"
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    return folder


@contextmanager
def _served(folder: Path, log: Path) -> Iterator[Endpoint]:
    port = free_port(HOST)
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
    command += ["--served-model-name", "rm", "--host", HOST, "--port", str(port), "--runner", "pooling"]
    command += ["--dtype", "float32", "--max-model-len", "256", "--enforce-eager"]
    process = ChildProcess(command, name="reward model", log=log, env=server_environment(VllmConfig(), os.environ))
    try:
        deadline = time.monotonic() + 400
        while not _is_healthy(port):
            assert process.running, process.tail()
            assert time.monotonic() < deadline, process.tail()
            time.sleep(0.5)
        yield Endpoint(base_url=f"http://{HOST}:{port}/v1")
    finally:
        process.stop()


def _is_healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://{HOST}:{port}/health", timeout=5).is_success
    except httpx.TransportError:
        return False


def _logits(folder: Path, answer: str) -> list[float]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": answer}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        found: list[float] = (
            model(**tokenizer(text, return_tensors="pt", return_token_type_ids=False)).logits[0].tolist()
        )
    return found


@pytest.mark.thorough
@pytest.mark.parametrize("num_labels", [1, 3])
def test_scores_are_those_of_the_model(tmp_path: Path, num_labels: int) -> None:
    folder = _save_model(tmp_path / "model", num_labels)
    labels = ("score",) if num_labels == 1 else ASPECTS
    with _served(folder, tmp_path / "vllm.log") as endpoint:
        with Classifier(Address("reward-model", "rm", endpoint), ClassifierConfig(labels=labels)) as model:
            for answer in ("Because.", "No idea, sorry. " * 5):
                verdict = model(QUERY, answer)
                expected = [1 / (1 + math.exp(-logit)) for logit in _logits(folder, answer)]
                assert verdict.outcome is Outcome.SCORED
                assert verdict.score == pytest.approx(sum(expected) / num_labels, abs=1e-3)
            too_long = model(QUERY, "x" * 1_000)
            assert (too_long.outcome, too_long.score) == (Outcome.CRASH, None), too_long
        wrong = ClassifierConfig(labels=("a", "b"))
        told = pytest.raises(EndpointError, match=f"gives {num_labels} outputs")
        with Classifier(Address("reward-model", "rm", endpoint), wrong) as model, told:
            model(QUERY, "Because.")
        told = pytest.raises(EndpointError, match="no such model")
        with Classifier(Address("reward-model", "other", endpoint), ClassifierConfig()) as model, told:
            model(QUERY, "Because.")
