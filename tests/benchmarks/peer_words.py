"""Words for datatrove without spaCy: split at spaces, the cheapest there is, which counts in its favour."""

from __future__ import annotations

from typing import Any


def split_tokenizer() -> Any:
    """A tokenizer of datatrove's kind."""
    from datatrove.utils.word_tokenizers import WordTokenizer

    class SplitTokenizer(WordTokenizer):  # type: ignore[misc]
        def word_tokenize(self, text: str) -> list[str]:
            return text.split()

        def sent_tokenize(self, text: str) -> list[str]:
            return [text]

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            return [(0, len(text))]

    return SplitTokenizer()
