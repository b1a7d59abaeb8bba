"""Other wordings of the same question, and the canonical form in which the solvers read every one of them."""

import re
from random import Random

# plain words of the templates → what a rewording says instead
REWORDINGS = {
    "start with": "begin with",
    "take": "pick",
    "compute": "calculate",
    "result": "outcome",
    "get": "obtain",
    "solve": "resolve",
    "find": "determine",
    "let": "suppose",
    "larger": "bigger",
    "smaller": "lesser",
    "convert": "change",
    "are in": "are within",
}
_PLAIN = {variant: plain for plain, variant in REWORDINGS.items()}
_VARIANT = re.compile(rf"\b({'|'.join(_PLAIN)})\b")
_COURTESY = re.compile(r"^(please|say) ")
_QUESTION_WORDS = ("what", "which", "how")


def canonical(text: str) -> str:
    """Lower case, single spaces, plain words: equal for a question and for all its rewordings."""
    squeezed = _COURTESY.sub("", " ".join(text.lower().split()))
    return _VARIANT.sub(lambda match: _PLAIN[match[1]], squeezed)


def reword(text: str, rng: Random, num_changes: int) -> str:
    """The same question with words changed: template words first, then a courteous opening; numbers stay."""
    candidates = [plain for plain in REWORDINGS if re.search(rf"\b{plain}\b", text, re.IGNORECASE)]
    chosen = rng.sample(candidates, min(num_changes, len(candidates)))
    for plain in chosen:
        text = _replace_words(text, plain, REWORDINGS[plain])
    return text if len(chosen) == num_changes else _courteous(text)


def _replace_words(text: str, plain: str, variant: str) -> str:
    text = re.sub(rf"\b{plain}\b", variant, text)
    return re.sub(rf"\b{plain.capitalize()}\b", variant.capitalize(), text)


def _courteous(text: str) -> str:
    opening = "Say" if text.lower().startswith(_QUESTION_WORDS) else "Please"
    return f"{opening} {text[0].lower()}{text[1:]}"
