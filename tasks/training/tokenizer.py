"""A small tokenizer for models that are trained from scratch: byte-level BPE, single digits, ChatML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from infra.config import Config, ConfigError

END_OF_TURN = "<|im_end|>"
CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", END_OF_TURN)
# Visible when a response is decoded, so they are added tokens but not special ones.
TAG_TOKENS = ("<think>", "</think>", "<answer>", "</answer>")
_BYTES = 256

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)

# Qwen2's own pieces: each digit is one, a word takes the space before it. transformers and vLLM rebuild this pattern
# from the model type and ignore the one in tokenizer.json, so another would cut texts otherwise than it was trained.
PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class TokenizerConfig(Config):
    """What a trained tokenizer looks like."""

    vocab_size: int = Field(
        default=512, ge=_BYTES + len(CONTROL_TOKENS) + len(TAG_TOKENS), description="tokens, bytes and tags included"
    )


def train_tokenizer(texts: Iterable[str], config: TokenizerConfig, folder: Path) -> None:
    """Train on `texts` and save a folder that transformers and vLLM load. Equal texts give equal bytes.

    Raises:
        ConfigError: the texts are too few to fill the vocabulary.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size - len(TAG_TOKENS),
        special_tokens=[AddedToken(token, special=True) for token in CONTROL_TOKENS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_without_tags(texts), trainer)
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in TAG_TOKENS])
    if tokenizer.get_vocab_size() != config.vocab_size:
        raise ConfigError(
            f"the texts give {tokenizer.get_vocab_size()} tokens, vocab_size asks for {config.vocab_size}; "
            "lower vocab_size or give more text"
        )
    fast: Any = PreTrainedTokenizerFast
    special = {"eos_token": END_OF_TURN, "pad_token": CONTROL_TOKENS[0]}
    fast(tokenizer_object=tokenizer, chat_template=CHAT_TEMPLATE, **special).save_pretrained(str(folder))


def _without_tags(texts: Iterable[str]) -> Iterator[str]:
    """The text between the added tokens: training would split the tags themselves into pieces and waste merges."""
    tags = re.compile("|".join(re.escape(token) for token in (*CONTROL_TOKENS, *TAG_TOKENS)))
    for text in texts:
        yield from (part for part in tags.split(text) if part)
