"""Tokens of a sample by a published model's tokenizer: what a mixture is counted in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tasks.training.samples import Sample, tokenize_sample


def token_counter(path: str) -> Callable[[Sample], int]:
    """Counts the tokens that a trainer sees of a sample, prompt included.

    Args:
        path: hub id or local folder; without a chat template the turns are counted alone.
    """
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(path)
    if tokenizer.chat_template is None:
        return lambda sample: sum(
            len(tokenizer(message.content, add_special_tokens=False)["input_ids"]) for message in sample.messages
        )
    return lambda sample: tokenize_sample(sample, tokenizer).num_tokens
