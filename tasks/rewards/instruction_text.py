"""Counting in text as IFEval counts: words, sentences, language. Works without any download."""

from __future__ import annotations

import re
import threading

_WORD = re.compile(r"\w+")
# Where a sentence may end: marks, closing quotes, then space and what may begin a sentence.
_END = re.compile(r"(?<=[.!?…。！？])[\"'”’)\]*_]*(?:\s+|(?<=[。！？]))(?=[\"'“‘(\[*_#\-]*[^\Wa-z_])")
_ABBREVIATION = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|Sr|Jr|St|vs|etc|e\.g|i\.e|cf|No|Inc|Ltd|Co|Corp|Fig|approx|a\.m|p\.m|U\.S|P\.S|P\.P\.S)"
    r"|\b[A-Z]|^\s*\d+)\.$"
)
_loading = threading.Lock()


def count_words(text: str) -> int:
    """Runs of word characters, as IFEval counts them."""
    return len(_WORD.findall(text))


def count_sentences(text: str) -> int:
    """Sentences by marks and capitals, with a list of abbreviations.

    IFEval uses NLTK's punkt model, which has to be downloaded; on running text the two differ in rare cases.
    """
    count, pending = 0, ""
    for piece in _END.split(text.strip()):
        pending = f"{pending} {piece}".strip()
        if pending and not _ABBREVIATION.search(pending):
            count, pending = count + 1, ""
    return count + bool(pending)


def capital_words(text: str) -> int:
    """Words in capitals, single letters such as `I` among them."""
    return sum(token.isupper() for token in re.findall(r"\w+(?:[-'’.]\w+)*", text))


def detect_language(text: str) -> str | None:
    """Two-letter code of the language; None where the text has nothing to tell it by.

    Its sampling is seeded, so a text always gets the same answer.
    """
    import langdetect  # type: ignore[import-untyped]

    # The first call loads the profiles into a global, and the seed is a global too.
    with _loading:
        langdetect.DetectorFactory.seed = 0
        try:
            return str(langdetect.detect(text))
        except langdetect.LangDetectException:
            return None
