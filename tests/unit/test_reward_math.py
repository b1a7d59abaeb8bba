"""Math answers: what is decided by text and exact numbers, and what math_verify adds. Traps of ground.md § 6 first."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.row_cache import RowCache
from infra.store import Store
from tasks.records import Outcome
from tasks.rewards.math import MathConfig, MathVerifier
from tasks.rewards.math_number import TooLargeError, parse_number
from tasks.rewards.math_parts import Open, Ruling
from tasks.rewards.math_policy import Policy
from tasks.rewards.math_rules import decide

RIGHT, WRONG = Outcome.EQUAL, Outcome.DIFFERENT

# gold, answer, outcome: all without algebra.
DECIDED = [
    # traps
    ("1331 and 1728", "1728", WRONG),
    (r"1331\text{ and }1728", "1728, 1331", RIGHT),
    ("5 cm", "5 m", WRONG),
    (r"5\text{ cm}", r"5\mathrm{cm}", RIGHT),
    (r"5\text{ cm}", "5", RIGHT),
    ("5 m", "500 cm", RIGHT),
    (r"3 \text{ cm}^2", r"3 \text{ cm}^3", WRONG),
    (r"12 \text{ square inches}", r"12 \text{ inches}^2", RIGHT),
    ("1/2^{99}", "1/2^{98}", WRONG),
    ("1/2^{99}", r"\frac{1}{2^{99}}", RIGHT),
    ("1/2004!", "1/2006!", WRONG),
    (r"50\%", "50", RIGHT),
    (r"50\%", "0.5", RIGHT),
    ("0.5", "50%", RIGHT),
    (r"50\%", r"0.5\%", WRONG),
    (r"7.41\%", "7.41", RIGHT),
    (r"7.41\%", "7.42", WRONG),
    ("1011_2", "1011", WRONG),
    ("1011_2", "1011_3", WRONG),
    ("1011_2", "1011_{2}", RIGHT),
    ("1011_2", r"1011_{\text{2}}", RIGHT),
    (r"3\times10^8", "3e8", RIGHT),
    (r"3\times 10^{8}", "300000000", RIGHT),
    (r"3\cdot10^{-2}", "0.03", RIGHT),
    ("1/3", "0.333333", RIGHT),
    ("1/3", "0.3333", WRONG),
    ("0.333333", "1/3", RIGHT),
    ("2/3", "0.666667", RIGHT),
    ("2/3", "0.666666", WRONG),
    ("1<x<2", "(1,2)", RIGHT),
    ("(1,2)", "1<x<2", RIGHT),
    (r"1\le x<2", "[1,2)", RIGHT),
    (r"x\in[0,1)", "[0, 1)", RIGHT),
    (r"x \geq 3", r"[3,\infty)", RIGHT),
    (r"(-\infty, 3)", "x<3", RIGHT),
    ("1<x<2", "[1,2]", WRONG),
    ("9^{9^{9^{9}}}", "5", Outcome.GOLD_UNPARSEABLE),
    ("5", "9^{9^{9^{9}}}", Outcome.ANSWER_UNPARSEABLE),
    ("5", "((9**9)**9)**9**9", Outcome.ANSWER_UNPARSEABLE),
    ("5", "99999!", Outcome.ANSWER_UNPARSEABLE),
    ("x", "x^{9^{9^{9}}}", Outcome.ANSWER_UNPARSEABLE),
    ("5", "{" * 200 + "5" + "}" * 200, Outcome.ANSWER_UNPARSEABLE),
    ("9^{9^{9^{9}}}", "9^{9^{9^{9}}}", RIGHT),
    # numbers
    ("025", "25", RIGHT),
    ("142.0", "142", RIGHT),
    ("1,234", "1234", RIGHT),
    ("1{,}234", "1234", RIGHT),
    (r"32,\!348", "32348", RIGHT),
    ("1,234", "1235", WRONG),
    ("-5", "\u22125", RIGHT),
    ("0", "-0", RIGHT),
    (".5", r"\frac{1}{2}", RIGHT),
    (r"\frac12", "0.5", RIGHT),
    (r"\dfrac{3}{4}", r"\tfrac{3}{4}", RIGHT),
    (r"-\frac{1}{2}", r"\frac{-1}{2}", RIGHT),
    (r"1\frac{1}{2}", r"\frac{3}{2}", RIGHT),
    ("1 1/2", "3/2", RIGHT),
    ("1 1/2", "11/2", WRONG),
    ("2^{10}", "1024", RIGHT),
    ("2^{2004}", "4^{1002}", RIGHT),
    ("2^{2004}", "4^{1003}", WRONG),
    ("10!", "3628800", RIGHT),
    (r"\sqrt{16}", "4", RIGHT),
    (r"3 \div 4", "0.75", RIGHT),
    ("2(3+4)", "14", RIGHT),
    ("3.14", "22/7", WRONG),
    ("336^\\circ", "336", RIGHT),
    (r"90^{\circ}", r"90\text{ degrees}", RIGHT),
    (r"\$5", "5 dollars", RIGHT),
    (r"\$32,\!348", "32348", RIGHT),
    ("7", "7.", RIGHT),
    ("7", "x = 7", RIGHT),
    ("7", "$7$", RIGHT),
    ("7", r"\(7\)", RIGHT),
    ("7", "8", WRONG),
    # words
    (r"\text{east}", "East", RIGHT),
    (r"\text{Friday}", r"\text{Saturday}", WRONG),
    ("Yes", "no", WRONG),
    ("no solution", r"\text{No solution}", RIGHT),
    # lists and tuples
    (r"\{1,2,3\}", "3, 2, 1", RIGHT),
    ("1,2", "1,3", WRONG),
    ("1,1,2", "1,2,2", WRONG),
    ("(1,2)", "(2,1)", WRONG),
    (r"\left( \frac12, 3 \right)", "(0.5,3)", RIGHT),
    ("(1,2]", "(1,2)", WRONG),
    (r"\sqrt{2},\sqrt{3}", r"\sqrt{3},\sqrt{2}", RIGHT),
    (r"\pm 2", "2,-2", RIGHT),
    (r"\pm 2", "2", WRONG),
    ("x=1 or x=2", "2, 1", RIGHT),
    ("x=1,y=2", "y=2,x=1", RIGHT),
    ("x=1,y=2", "x=2,y=1", WRONG),
    ("x=1,y=2", "(1,2)", RIGHT),
    (r"(1,2)\cup(3,4)", r"(3,4)\cup(1,2)", RIGHT),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\3\end{pmatrix}", WRONG),
]

# gold, answer, outcome: by math_verify.
ALGEBRA = [
    ("x^2+1", "1+x^2", RIGHT),
    ("x^2+1", "x^2-1", WRONG),
    (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt2}", RIGHT),
    (r"2\pi", "6.28", WRONG),
    ("(x+1)(x-1)", "x^2-1", RIGHT),
]


@pytest.mark.parametrize(("gold", "answer", "outcome"), DECIDED)
def test_decided_without_algebra(gold: str, answer: str, outcome: Outcome) -> None:
    ruling = decide(gold, answer, Policy())
    assert isinstance(ruling, Ruling)
    assert ruling.outcome is outcome


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    with MathVerifier(MathConfig(timeout_s=30.0), num_processes=1) as verifier:
        yield verifier


@pytest.mark.parametrize(("gold", "answer", "outcome"), ALGEBRA)
def test_decided_by_math_verify(verifier: MathVerifier, gold: str, answer: str, outcome: Outcome) -> None:
    verdict = verifier.compare(gold, answer)
    assert verdict.outcome is outcome
    assert verdict.method in {"math_verify", "value"}


def test_scores_follow_outcomes(verifier: MathVerifier) -> None:
    pairs = [("5", r"\boxed{5}"), ("5", r"\boxed{6}"), ("5", "five"), ("5", r"<think>\boxed{5}"), ("", r"\boxed{5}")]
    verdicts = verifier.judge_all([*pairs, ("5", r"\boxed{" + "1+" * 900 + "1}")])
    assert [v.outcome for v in verdicts] == [
        Outcome.EQUAL, Outcome.DIFFERENT, Outcome.ANSWER_MISSING, Outcome.ANSWER_MISSING, Outcome.GOLD_UNPARSEABLE,
        Outcome.ANSWER_UNPARSEABLE,
    ]  # fmt: skip
    assert [v.score for v in verdicts] == [1.0, 0.0, 0.0, 0.0, None, 0.0]
    assert [v.extracted for v in verdicts[:3]] == ["5", "6", None]


def test_two_boxes_are_not_a_set(verifier: MathVerifier) -> None:
    assert verifier.judge("3,4", r"\boxed{3} and \boxed{4}").outcome is Outcome.DIFFERENT
    assert verifier.judge("4", r"\boxed{3}, no: \boxed{4}").outcome is Outcome.EQUAL


def test_processes_start_only_for_algebra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.rewards.math_pool._Worker", None)  # starting one would raise
    with MathVerifier(MathConfig()) as verifier:
        assert verifier.compare("1/2", "0.5").outcome is Outcome.EQUAL


def test_cache_keeps_findings_but_no_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = RowCache(Store(str(tmp_path / "store"), local=tmp_path / "local"), "verdicts", tmp_path)
    with MathVerifier(MathConfig(timeout_s=30.0), num_processes=1, cache=cache) as verifier:
        assert verifier.compare("x+y", "y+x").outcome is Outcome.EQUAL
        assert verifier.compare("x+y", r"\begin").outcome in {Outcome.ANSWER_UNPARSEABLE, Outcome.DIFFERENT}
    monkeypatch.setattr("tasks.rewards.math_pool._Worker", None)
    with MathVerifier(MathConfig(), num_processes=1, cache=cache) as verifier:
        assert verifier.compare("x+y", "y+x").outcome is Outcome.EQUAL
    with MathVerifier(MathConfig(version=99), num_processes=1, cache=cache) as verifier, pytest.raises(TypeError):
        verifier.compare("x+y", "y+x")


@given(st.integers(-(10**9), 10**9), st.integers(1, 10**6))
def test_fractions_in_every_spelling_are_exact(top: int, bottom: int) -> None:
    value = Fraction(top, bottom)
    for text in (f"{top}/{bottom}", rf"\frac{{{top}}}{{{bottom}}}", f"({top})/({bottom})"):
        assert parse_number(text).value == value
    assert decide(f"{top}/{bottom}", f"{top + 1}/{bottom}", Policy()) == (Outcome.DIFFERENT, "numeric", "")


@given(st.text(alphabet=r"0123456789+-*/^(){}!. \fracsqt,%xy<=", max_size=40))
def test_any_text_is_decided_fast_or_left(text: str) -> None:
    ruling = decide("12", text, Policy())
    assert isinstance(ruling, Open) or isinstance(ruling.outcome, Outcome)


@pytest.mark.parametrize("text", ["9^{9^{9}}", "10^{1000000}", "20000!", "3!!!!", "9^9^9^9"])
def test_large_numbers_are_refused_before_they_are_built(text: str) -> None:
    with pytest.raises(TooLargeError):
        parse_number(text)
