"""One process of the pool: reads pairs of answers as JSON lines, writes what math_verify says of them.

Run as a program; knows nothing of the package, so that it starts with math_verify alone.

Values are looked at before math_verify is asked: it rounds to six decimals, so that pi/2^99 would equal pi/2^98, and
takes milliseconds to find that two expressions differ, where one point shows it.
"""

import json
import logging
import re
import resource
import signal
import sys
from functools import lru_cache
from typing import Any

_READY = json.dumps({"ready": True})
_DIGITS = 60
_DECIMAL = re.compile(r"\s*[-+]?\d*\.(\d+)\s*")
# Symbols and numbers; commands and text are none.
_TOKEN = re.compile(r"\\(?:text|mathrm|mbox|operatorname|begin|end)\s*\{[^{}]*\}|\\[a-zA-Z]+|(?P<token>\d+|[a-zA-Z])")
# Where two expressions are compared: a small and a large value a symbol, all of them different.
_POINTS = ((1.37, 0.61), (17.3, 2.9))


@lru_cache(maxsize=512)
def _parse(answer: str) -> Any:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    # Its own time-out is a signal that a long multiplication never hears; the parent's clock holds instead.
    configs = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())
    return parse(rf"$\boxed{{{answer}}}$", configs, fallback_mode="no_fallback", parsing_timeout=None)


def _compare(gold: str, answer: str, min_digits: int | None) -> dict[str, str]:
    from math_verify import verify

    gold, answer = _told_apart(gold, answer)
    golds = _with_imaginary_unit(_parse(gold))
    if not golds:
        return {"outcome": "gold_unparseable"}
    answers = _with_imaginary_unit(_parse(answer))
    if not answers:
        return {"outcome": "answer_unparseable"}
    for parsed, outcome in ((golds[0], "gold_unparseable"), (answers[0], "answer_unparseable")):
        if _is_undefined(parsed):
            return {"outcome": outcome, "detail": "undefined"}
    told = None if "%" in gold + answer else _by_value(golds[0], answers[0], _Rounding(gold, answer, min_digits))
    is_equal = verify(golds, answers, timeout_seconds=None, raise_on_error=True) if told is None else told
    for text, outcome in ((gold, "gold_unparseable"), (answer, "answer_unparseable")):
        if is_equal and _is_read_in_part(text):
            return {"outcome": outcome, "detail": "only a part of it was read"}
    return {"outcome": "equal" if is_equal else "different", "method": "math_verify" if told is None else "value"}


def _with_imaginary_unit(parsed: list[Any]) -> list[Any]:
    r"""The parser takes `i` for a symbol, so that e^{i\pi} would not be -1."""
    from sympy import Expr, I  # type: ignore[import-untyped]

    units = [{s: I for s in found.free_symbols if s.name == "i"} if isinstance(found, Expr) else {} for found in parsed]
    return [found.subs(unit) if unit else found for found, unit in zip(parsed, units, strict=True)]


def _told_apart(gold: str, answer: str) -> tuple[str, str]:
    """The parser folds case: where one text holds `R` beside `r`, the large one gets a letter that is free."""
    letters = [{found["token"] for found in _TOKEN.finditer(text) if found["token"]} for text in (gold, answer)]
    both = sorted(upper for each in letters for upper in each if upper.isupper() and upper.lower() in each)
    used = {token.lower() for each in letters for token in each}
    new = dict(zip(dict.fromkeys(both), (free for free in "uvwpqabchkgjlmnorstxyz" if free not in used), strict=False))
    gold, answer = (_TOKEN.sub(lambda found: new.get(found["token"] or "", found[0]), text) for text in (gold, answer))
    return gold, answer


def _is_read_in_part(text: str) -> bool:
    """Whether the parser leaves out the first or the last symbol or number: what it then calls equal need not be."""
    tokens = [found for found in _TOKEN.finditer(text) if found["token"]]
    # Two changes: one alone may leave the value as it is, as binom(5, 3) is binom(5, 2).
    return any(
        all(_parse(_changed(text, token, step)) == _parse(text) for step in (1, 4))
        for token in (tokens[:1] + tokens[-1:])
    )


def _changed(text: str, token: re.Match[str], step: int) -> str:
    old = token["token"]
    new = f"({old}+{6 + step})" if old.isalpha() else old[:-1] + str((int(old[-1]) + step) % 10)
    return text[: token.start()] + new + text[token.end() :]


def _is_undefined(parsed: Any) -> bool:
    """Division by zero, or an equation that says nothing (`N = n`: the parser folds case)."""
    from sympy import Expr, false, nan, true, zoo

    return parsed in (true, false) or (isinstance(parsed, Expr) and bool(parsed.has(nan, zoo)))


class _Rounding:
    """How far a decimal may be from the exact value: half of its last digit, if it shows enough digits."""

    def __init__(self, gold: str, answer: str, min_digits: int | None) -> None:
        found = [_DECIMAL.fullmatch(text.strip().strip("$")) for text in (gold, answer)]
        is_one = (found[0] is None) != (found[1] is None)
        self.decimals = next((len(match[1]) for match in found if match), None) if is_one and min_digits else None
        self.min_digits = min_digits or 0

    def allows(self, left: Any, right: Any) -> bool:
        if self.decimals is None:
            return False
        is_shown = min(abs(left), abs(right)) * 10**self.decimals >= 10 ** (self.min_digits - 1) - 1
        return bool(is_shown and abs(left - right) * 10**self.decimals <= 0.5)


def _by_value(gold: Any, answer: Any, rounding: _Rounding) -> bool | None:
    """Equal or not by value, where values can tell; None: only algebra can."""
    from sympy import Expr, Float

    if not (isinstance(gold, Expr) and isinstance(answer, Expr)):
        return None
    symbols = sorted(gold.free_symbols | answer.free_symbols, key=str)
    tolerance = 1e-12 if gold.has(Float) or answer.has(Float) else 10.0 ** (15 - _DIGITS)
    if symbols:
        return False if all(_differ_at(gold, answer, symbols, point, tolerance) for point in _POINTS) else None
    left, right = _value(gold), _value(answer)
    if left is None or right is None:
        return None
    return bool(abs(left - right) <= tolerance * max(abs(left), abs(right))) or rounding.allows(left, right)


def _value(expression: Any) -> Any:
    from sympy import I

    value = expression.evalf(_DIGITS)
    if not value.is_number or value.is_finite is not True or value.has(I) != expression.has(I):
        return None
    real, imaginary = value.as_real_imag()
    return value if real.is_Float or real.is_Integer or imaginary.is_Float else None


def _differ_at(gold: Any, answer: Any, symbols: list[Any], point: tuple[float, float], tolerance: float) -> bool:
    from sympy import Rational

    first, step = (Rational(str(number)) for number in point)
    values = {symbol: first + step * index for index, symbol in enumerate(symbols)}
    left, right = _value(gold.subs(values)), _value(answer.subs(values))
    if left is None or right is None:
        return False
    return bool(abs(left - right) > max(tolerance, 1e-9) * max(abs(left), abs(right)))


def _answer(line: str) -> dict[str, str]:
    job = json.loads(line)
    try:
        # Default action of the alarm: the kernel ends an orphan, whatever it computes, when no parent is left to.
        signal.alarm(job["orphan_s"])
        return _compare(job["gold"], job["answer"], job["min_digits"]) | {"id": job["id"]}
    except (Exception, RecursionError) as error:
        return {"outcome": "crash", "detail": f"{type(error).__name__}: {error}"[:300], "id": job["id"]}
    finally:
        signal.alarm(0)


def _main() -> None:
    memory_bytes = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable(logging.CRITICAL)
    replies, sys.stdout = sys.stdout, sys.stderr
    # Imports, and builds the grammar's tables, so that the first job is not charged for it.
    _compare("x+1", "1+x", 6)
    print(_READY, file=replies, flush=True)
    for line in sys.stdin:
        print(json.dumps(_answer(line)), file=replies, flush=True)


if __name__ == "__main__":
    _main()
