"""How surprising a text is to a language model, whatever serves it: token ids in, log-probs out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple, Protocol

from tasks.generation.batching import in_batches


class Scorable(NamedTuple):
    """A text, and what a model has read before it: a dialog, and the opening of its reply."""

    messages: Sequence[Mapping[str, str]]
    opening: str
    text: str


class Surprise(NamedTuple):
    """Negative log-likelihood (nats) summed over so many tokens."""

    nll: float
    num_tokens: int


class Unscored(NamedTuple):
    """Why there is no score: it says nothing about the text."""

    why: str


class RefusedTextError(RuntimeError):
    """A model refuses one text for good (it is too long, say); others may pass."""


class TokenModel(Protocol):
    """A causal language model and its tokenizer. Called from as many threads as its owner says."""

    def encode_dialog(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Token ids of a dialog with the generation prompt at its end, by the model's own template."""
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens."""
        ...

    def logprobs(self, context_ids: Sequence[int], text_ids: Sequence[int]) -> list[float]:
        """Natural log-prob of each token of the text, given all before it; the context is not empty.

        Raises:
            RefusedTextError: this text cannot be scored.
        """
        ...


class TokenScoring:
    """Scores texts, each alone, so that no score hangs on what else is in a batch.

    Args:
        model: whose surprise it is.
        prompt_form: `chat` by the model's template, `plain` with blank lines between the turns.
        max_tokens: of a text, from its start.
        num_threads: texts at a time.
    """

    def __init__(
        self, model: TokenModel, prompt_form: Literal["chat", "plain"], max_tokens: int, num_threads: int = 1
    ) -> None:
        self._model, self._prompt_form = model, prompt_form
        self._max_tokens, self._num_threads = max_tokens, num_threads

    def score_all(self, texts: Sequence[Scorable]) -> Iterator[Surprise | Unscored]:
        """Scores in the order of the texts, as they are ready."""
        if self._num_threads == 1:
            yield from map(self.score, texts)
            return
        with ThreadPoolExecutor(self._num_threads, "scoring") as threads:
            for batch in in_batches(texts, 16 * self._num_threads):
                yield from threads.map(self.score, batch)

    def score(self, text: Scorable) -> Surprise | Unscored:
        """The surprise of one text; an empty one has none."""
        try:
            text_ids = self._model.encode(text.text)[: self._max_tokens]
            context_ids = self._context(text.messages) + (self._model.encode(text.opening) if text.opening else [])
            if not text_ids or not context_ids:
                return Unscored("no token to score" if context_ids else "no token before the text")
            return Surprise(-math.fsum(self._model.logprobs(context_ids, text_ids)), len(text_ids))
        except RefusedTextError as error:
            return Unscored(str(error)[:500])

    def _context(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        if self._prompt_form == "chat":
            return self._model.encode_dialog(messages)
        return self._model.encode("\n\n".join([*(message["content"] for message in messages), ""]))
