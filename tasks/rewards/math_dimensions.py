"""Units of measurement: their dimension and scale, so that `5 m` is `500 cm`, and `5 cm` is not `5 m`."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

# Dimension → unit → how many of the dimension's base unit. One name a dimension: derived ones are products of these.
_TABLE: dict[str, dict[str, str]] = {
    "length": {
        "nm": "1/1000000000", "um": "1/1000000", "mm": "1/1000", "cm": "1/100", "dm": "1/10",
        "m": "1", "km": "1000", "inch": "127/5000", "foot": "381/1250", "yard": "1143/1250", "mile": "201168/125",
        "angstrom": "1/10000000000",
    },
    "mass": {"ug": "1/1000000", "mg": "1/1000", "g": "1", "kg": "1000", "tonne": "1000000", "pound": "45359237/100000",
             "ounce": "45359237/1600000"},
    "time": {"ns": "1/1000000000", "us": "1/1000000", "ms": "1/1000", "s": "1", "min": "60", "h": "3600",
             "day": "86400", "week": "604800"},
    "year": {"year": "1"},  # no fixed number of days
    "month": {"month": "1"},
    "money": {"cent": "1/100", "dollar": "1"},
    "current": {"mA": "1/1000", "A": "1"},
    "temperature": {"K": "1"},
    "amount": {"mmol": "1/1000", "mol": "1", "kmol": "1000"},
    "angle": {"degree": "1"},
    "radian": {"rad": "1"},  # pi degrees are no fraction of it
}  # fmt: skip
# Unit → what it is in the units above; scale first.
_DERIVED: dict[str, tuple[str, dict[str, int]]] = {
    "ml": ("1", {"cm": 3}), "l": ("1", {"dm": 3}), "cc": ("1", {"cm": 3}),
    "N": ("1", {"kg": 1, "m": 1, "s": -2}), "kN": ("1000", {"kg": 1, "m": 1, "s": -2}),
    "mJ": ("1/1000", {"kg": 1, "m": 2, "s": -2}), "J": ("1", {"kg": 1, "m": 2, "s": -2}),
    "kJ": ("1000", {"kg": 1, "m": 2, "s": -2}), "MJ": ("1000000", {"kg": 1, "m": 2, "s": -2}),
    "W": ("1", {"kg": 1, "m": 2, "s": -3}), "kW": ("1000", {"kg": 1, "m": 2, "s": -3}),
    "MW": ("1000000", {"kg": 1, "m": 2, "s": -3}),
    "Pa": ("1", {"kg": 1, "m": -1, "s": -2}), "kPa": ("1000", {"kg": 1, "m": -1, "s": -2}),
    "MPa": ("1000000", {"kg": 1, "m": -1, "s": -2}), "bar": ("100000", {"kg": 1, "m": -1, "s": -2}),
    "atm": ("101325", {"kg": 1, "m": -1, "s": -2}),
    "C": ("1", {"A": 1, "s": 1}), "V": ("1", {"kg": 1, "m": 2, "s": -3, "A": -1}),
    "mV": ("1/1000", {"kg": 1, "m": 2, "s": -3, "A": -1}), "kV": ("1000", {"kg": 1, "m": 2, "s": -3, "A": -1}),
    "Hz": ("1", {"s": -1}), "kHz": ("1000", {"s": -1}), "MHz": ("1000000", {"s": -1}), "GHz": ("1000000000", {"s": -1}),
    "mph": ("1", {"mile": 1, "h": -1}), "eV": ("1", {"eV_": 1}), "keV": ("1000", {"eV_": 1}),
    "MeV": ("1000000", {"eV_": 1}), "F": ("1", {"F_": 1}), "cal": ("1", {"cal_": 1}), "kcal": ("1000", {"cal_": 1}),
}  # fmt: skip
_SAME = {
    "millimeter": "mm", "millimetre": "mm", "centimeter": "cm", "centimetre": "cm", "meter": "m", "metre": "m",
    "kilometer": "km", "kilometre": "km", "nanometer": "nm", "gram": "g", "kilogram": "kg", "milligram": "mg",
    "second": "s", "sec": "s", "minute": "min", "hour": "h", "hr": "h", "liter": "l", "litre": "l", "milliliter": "ml",
    "mL": "ml", "L": "l", "deg": "degree", "inches": "inch", "in": "inch", "feet": "foot", "ft": "foot",
    "yd": "yard", "mi": "mile",
    "lb": "pound", "oz": "ounce", "joule": "J", "newton": "N", "watt": "W", "volt": "V", "ampere": "A", "amp": "A",
    "kelvin": "K", "pascal": "Pa", "hertz": "Hz", "coulomb": "C", "radian": "rad", "mole": "mol", "usd": "dollar",
    "yr": "year", "d": "day", "wk": "week", "sq": "square", "kilojoule": "kJ", "kilowatt": "kW",
}  # fmt: skip
_ENDINGS = re.compile(r"(?<=[a-z]{2})(?<!ss)s$")
_TOKEN = re.compile(r"(?P<word>[a-zA-Z]+)(?:\^\{?(?P<exponent>[-+]?\d)\}?)?|(?P<mark>[/·*]|\\cdot|\\times)|[ .]")


class Unit(NamedTuple):
    """A product of base units: its scale, and the exponent of each dimension."""

    scale: Fraction
    dimensions: frozenset[tuple[str, int]]


def parse_unit(text: str) -> Unit | None:
    """Meaning of `cm^2`, `square inches`, `kg m/s^2`, `miles per hour`; None where a word is no unit of measurement.

    >>> parse_unit("cm^3") == parse_unit("mL"), parse_unit("apples"), parse_unit("cm") == parse_unit("m")
    (True, None, False)
    """
    scale, dimensions = Fraction(1), dict[str, int]()
    sign = power = 1
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            return None
        position = token.end()
        word = singular(token["word"]) if token["word"] else ""
        if token["mark"] == "/" or word == "per":
            sign = -1
        elif word in {"square", "cubic"}:
            power = 2 if word == "square" else 3
        elif word:
            base = _base(word)
            if base is None:
                return None
            exponent = sign * power * int(token["exponent"] or 1)
            scale *= base.scale**exponent
            for name, count in base.dimensions:
                dimensions[name] = dimensions.get(name, 0) + count * exponent
            power = 1
    found = frozenset((name, count) for name, count in dimensions.items() if count)
    return Unit(scale, found) if found else None


def singular(word: str) -> str:
    """A unit's own spelling of a word: `metres` and `meter` are `m`."""
    for spelled in (word, word.lower(), _ENDINGS.sub("", word), _ENDINGS.sub("", word.lower())):
        if spelled in _SAME:
            return _SAME[spelled]
        if spelled in _BASES:
            return spelled
    return word


def _base(word: str) -> Unit | None:
    if word in _BASES:
        return _BASES[word]
    if word not in _DERIVED:
        return None
    scale, parts = _DERIVED[word]
    factor, dimensions = Fraction(scale), dict[str, int]()
    for name, exponent in parts.items():
        unit = _BASES.get(name)
        factor *= unit.scale**exponent if unit else 1
        dimension = next(iter(unit.dimensions))[0] if unit else name
        dimensions[dimension] = dimensions.get(dimension, 0) + exponent
    return Unit(factor, frozenset(dimensions.items()))


_BASES = {
    name: Unit(Fraction(scale), frozenset({(dimension, 1)}))
    for dimension, units in _TABLE.items()
    for name, scale in units.items()
}
