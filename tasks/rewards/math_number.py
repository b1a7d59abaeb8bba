r"""Exact numbers: LaTeX arithmetic on integers, decimals and fractions as `Fraction`, with a bound on the work.

Floats would say that 1/2^{99} equals 1/2^{98}, and a nested power would never return; here both are decided exactly,
or refused before anything large is built.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import NamedTuple

MAX_BITS = 100_000
_MAX_FACTORIAL = 8_000
_MAX_DEPTH = 40
_TOKEN = re.compile(
    r"(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d,])|\d+\.\d+|\d+|\.\d+)(?:[eE](?P<exponent>[+-]?\d{1,6})(?![\w.]))?"
    r"|(?P<name>\\frac|\\times|\\cdot|\\div|\\sqrt)|(?P<mark>[-+*/^(){}!]| )"
)


class NotExactError(ValueError):
    """Not arithmetic on exact numbers."""


class TooLargeError(ValueError):
    """Arithmetic that would build a number of more than `MAX_BITS` bits."""


class Number(NamedTuple):
    """An exact value. `decimals` counts the digits after a decimal point if it was written as one; None: exact."""

    value: Fraction
    decimals: int | None = None


def parse_number(text: str) -> Number:
    """Value of a normalised expression.

    Raises:
        NotExactError: it is not arithmetic on numbers alone.
        TooLargeError: its value, or a part of it, is too large to build.
    """
    plain = re.fullmatch(r"-?\d+", text)
    if plain and len(text) <= MAX_BITS // 4:
        return Number(Fraction(int(text) if len(text) < 4000 else _long_int(text)))
    return _Parser(_tokens(text)).result()


def _long_int(digits: str) -> int:
    # Python refuses to read more than 4300 digits at once.
    sign, digits = (-1, digits[1:]) if digits.startswith("-") else (1, digits)
    value = 0
    for start in range(0, len(digits), 4000):
        chunk = digits[start : start + 4000]
        value = value * 10 ** len(chunk) + int(chunk)
    return sign * value


def _tokens(text: str) -> list[re.Match[str]]:
    tokens, position = [], 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise NotExactError(text)
        tokens.append(found)
        position = found.end()
    return tokens


class _Parser:
    """Recursive descent: sum of products of signed powers, with mixed numbers."""

    def __init__(self, tokens: list[re.Match[str]]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0
        self._decimals: list[int] = []

    def result(self) -> Number:
        if not self._tokens:
            raise NotExactError("")
        value = self._sum()
        if self._at < len(self._tokens):
            raise NotExactError(self._tokens[self._at][0])
        return Number(value, max(self._decimals) if self._decimals else None)

    def _peek(self) -> str:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else ""

    def _take(self, *wanted: str) -> bool:
        while self._peek() == " " and " " not in wanted:
            self._at += 1
        is_there = self._peek() in wanted and self._peek() != ""
        self._at += is_there
        return is_there

    def _sum(self) -> Fraction:
        value = self._product()
        while True:
            if self._take("+"):
                value = _bounded(value + self._product())
            elif self._take("-"):
                value = _bounded(value - self._product())
            else:
                return value

    def _product(self) -> Fraction:
        value = self._signed()
        while True:
            if self._take("*", r"\times", r"\cdot"):
                value = _bounded(value * self._signed())
            elif self._take("/", r"\div"):
                value = _bounded(_divide(value, self._signed()))
            elif self._peek() == "(":
                value = _bounded(value * self._power())
            else:
                return value

    def _signed(self) -> Fraction:
        sign = 1
        while self._peek() in {"+", "-", " "}:
            sign = -sign if self._peek() == "-" else sign
            self._at += 1
        return sign * self._power()

    def _power(self) -> Fraction:
        base = self._factorial()
        if not self._take("^"):
            return base
        return _power(base, self._exponent())

    def _exponent(self) -> Fraction:
        self._deepen()
        value = self._argument(is_signed=True)
        value = _power(value, self._exponent()) if self._take("^") else value
        self._depth -= 1
        return value

    def _deepen(self) -> None:
        # Counts calls within calls, so that no text reaches the interpreter's own limit.
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise TooLargeError("nested too deep")

    def _factorial(self) -> Fraction:
        value = self._atom()
        while self._take("!"):
            if value.denominator != 1 or value < 0:
                raise NotExactError("factorial of a number that is not whole")
            if value > _MAX_FACTORIAL:
                raise TooLargeError(f"{value}!")
            value = _bounded(Fraction(math.factorial(int(value))))
        return value

    def _atom(self) -> Fraction:
        self._take()  # skips spaces
        if self._at >= len(self._tokens):
            raise NotExactError("an operand is missing")
        if self._take("(", "{"):
            return self._nested(")" if self._tokens[self._at - 1][0] == "(" else "}")
        token = self._tokens[self._at]
        if token["number"] is None and token[0] not in {r"\frac", r"\sqrt"}:
            raise NotExactError(token[0])
        self._at += 1
        if token[0] in {r"\frac", r"\sqrt"}:
            self._deepen()
            value = _divide(self._argument(), self._argument()) if token[0] == r"\frac" else _root(self._argument())
            self._depth -= 1
            return _bounded(value)
        return self._mixed(self._literal(token), token)

    def _argument(self, is_signed: bool = False) -> Fraction:
        self._take()
        if self._take("{"):
            return self._nested("}")
        return self._signed() if is_signed and self._peek() in {"-", "("} else self._atom()

    def _nested(self, closing: str) -> Fraction:
        self._deepen()
        value = self._sum()
        if not self._take(closing):
            raise NotExactError("unbalanced")
        self._depth -= 1
        return value

    def _literal(self, token: re.Match[str]) -> Fraction:
        digits = token["number"].replace(",", "")
        if len(digits) > MAX_BITS // 4:
            raise TooLargeError("a number with so many digits")
        whole, _, decimals = digits.partition(".")
        exponent = int(token["exponent"] or 0)
        if decimals:
            self._decimals.append(max(len(decimals) - exponent, 0))
        value = Fraction(_long_int((whole or "0") + decimals), 10 ** len(decimals))
        return _bounded(value * _power(Fraction(10), Fraction(exponent)))

    def _mixed(self, whole: Fraction, token: re.Match[str]) -> Fraction:
        r"""`1\frac{1}{2}` and `1 1/2` are sums, not products."""
        if whole.denominator != 1 or self._at >= len(self._tokens):
            return whole
        rest = [t[0] for t in self._tokens[self._at : self._at + 4]]
        if rest[0] == r"\frac" or (rest[0] == " " and rest[1:2] == [r"\frac"]):
            self._at += 1 + (rest[0] == " ")
            return whole + _divide(self._argument(), self._argument())
        if len(rest) == 4 and rest[0] == " " and rest[2] == "/" and rest[1].isdigit() and rest[3].isdigit():
            self._at += 4
            return whole + _divide(Fraction(int(rest[1])), Fraction(int(rest[3])))
        return whole


def _divide(left: Fraction, right: Fraction) -> Fraction:
    if right == 0:
        raise NotExactError("division by zero")
    return left / right


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _bounded(value: Fraction) -> Fraction:
    if _bits(value) > MAX_BITS:
        raise TooLargeError(f"a number of {_bits(value)} bits")
    return value


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise NotExactError("a root")
    if base == 0 and exponent <= 0:
        raise NotExactError("a power of zero")
    if abs(base) != 1 and base != 0 and abs(exponent) * _bits(base) > MAX_BITS:
        raise TooLargeError("a power of more bits than are built")
    if abs(base) == 1:
        return base if exponent % 2 else Fraction(1)
    return base ** int(exponent)


def _root(value: Fraction) -> Fraction:
    """A square root that is rational."""
    if value < 0:
        raise NotExactError("root of a negative number")
    top, bottom = math.isqrt(value.numerator), math.isqrt(value.denominator)
    if top * top != value.numerator or bottom * bottom != value.denominator:
        raise NotExactError("an irrational root")
    return Fraction(top, bottom)


def equal_numbers(gold: Number, answer: Number, min_digits: int | None) -> bool:
    """Exactly equal; or one is a decimal of at least `min_digits` significant digits that rounds the other."""
    if gold.value == answer.value or min_digits is None:
        return gold.value == answer.value
    return _rounds(gold, answer, min_digits) or _rounds(answer, gold, min_digits)


def _rounds(exact: Number, decimal: Number, min_digits: int) -> bool:
    if decimal.decimals is None or (exact.decimals is not None and exact.decimals <= decimal.decimals):
        return False
    scale = 10**decimal.decimals
    shown = abs(decimal.value * scale)
    return bool(shown >= 10 ** (min_digits - 1)) and abs(exact.value * scale - decimal.value * scale) <= Fraction(1, 2)
