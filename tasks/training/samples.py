"""A dialog to learn from, and the tokens that a trainer sees of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from pydantic import Field

from infra.config import Config
from tasks.records import Domain, Message


class Sample(Config):
    """One row of an SFT data set; the last message is the assistant's, and it alone is learned."""

    id: str
    query_id: str
    source: str
    domain: Domain
    messages: tuple[Message, ...] = Field(min_length=2, description="the dialog; its last turn is the assistant's")

    @property
    def response(self) -> str:
        """Text of the turn that is learned, think part included."""
        return self.messages[-1].content


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """Prompt tokens are read, completion tokens are scored (SFT: learned; GRPO: reinforced)."""

    prompt_ids: Sequence[int]
    completion_ids: Sequence[int]

    @property
    def num_tokens(self) -> int:
        """Tokens of prompt and completion."""
        return len(self.prompt_ids) + len(self.completion_ids)


def tokenize_sample(sample: Sample, tokenizer: Any) -> TokenSequence:
    """Everything before the final assistant turn as prompt; that turn with its end token as completion.

    Args:
        tokenizer: a transformers tokenizer with a chat template and an end-of-sequence token.

    Raises:
        ValueError: the last message is not the assistant's, or an earlier one follows no user turn.
    """
    if sample.messages[-1].role != "assistant":
        raise ValueError(f"sample {sample.id} ends with a {sample.messages[-1].role} turn; it must end with assistant")
    history = [message.model_dump() for message in sample.messages[:-1]]
    prompt = tokenizer.apply_chat_template(history, add_generation_prompt=True, tokenize=False)
    return TokenSequence(
        prompt_ids=tokenizer(prompt, add_special_tokens=False)["input_ids"],
        completion_ids=tokenizer(sample.response + tokenizer.eos_token, add_special_tokens=False)["input_ids"],
    )


def tokenize_samples(samples: Iterable[Sample], tokenizer: Any) -> list[TokenSequence]:
    """The samples' tokens, in order."""
    return [tokenize_sample(sample, tokenizer) for sample in samples]


def corpus_texts(samples: Iterable[Sample]) -> Iterator[str]:
    """The texts a tokenizer is trained on: roles as the chat template writes them, and contents.

    Samples of one query share their prompt; it is counted once for each run of them.
    """
    for _, same_query in groupby(samples, key=lambda sample: sample.query_id):
        for number, sample in enumerate(same_query):
            turns = sample.messages if number == 0 else sample.messages[-1:]
            for message in turns:
                yield f"{message.role}\n"
                yield message.content
