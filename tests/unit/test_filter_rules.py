"""True and false cases of every rule."""

from typing import Any

import pytest

from tasks.filter import rules
from tasks.filter.config import RulesConfig
from tasks.filter.reasons import DropReason
from tasks.records import Domain, Message, Query


def ask(text: str, **fields: Any) -> Query:
    defaults: dict[str, Any] = {"id": "q", "domain": Domain.MATH, "source": "toy", "answer": "1"}
    return Query(messages=(Message(role="user", content=text),), **(defaults | fields))


HOLDS = {
    rules.find_url: (
        "See https://example.com/page/3.",
        "Read www.example.com/a first.",
        "(ftp://host/file)",
    ),
    rules.find_image: (
        "<image> Compute 3.",
        "Take 3. ![](figure_7.png)",
        "Find it. [asy] draw((0,0)--(1,1)); [/asy]",
        "Use the numbers as shown in the figure.",
        "In the diagram, AB = 3.",
        "The graph of y = f(x) is shown. Find f(1).",
        "What is the area of the figure below?",
        "Use Figure 2 to find x.",
        "Refer to the figure and find x.",
    ),
    rules.find_proof: (
        "Prove that 2 + 2 = 4.",
        "What is m + n? Show that it is 60.",
        "Let $a > 0$. Show that $a + 1 > 1$.",
        "Is it true? Prove or disprove.",
        "Given x, find y and prove that it is the only one.",
        "Write a formal proof of the lemma.",
    ),
    rules.find_multi_part: (
        "(a) Compute 20 plus 6. (b) Take 19. Subtract 1. What do you get?",
        "A car moves.\n(1) Find its speed.\n(2) Find the distance.",
        "i) What is x? ii) What is y?",
        "Part A: Determine x. Part B: Determine y.",
        "1. Evaluate f(1).\n2. Evaluate f(2).",
    ),
    rules.find_incomplete: (
        "Take 18. Subtract 1. Subtract 7.",
        "Compute 15 plus 15, then plus",
        "Take 13. Multiply by 2,",
        "Solve \\begin{cases} x = 1",
    ),
    rules.find_empty: ("?", " … "),
    rules.find_table: (
        "The table below shows the prices of five fruits. Which is the cheapest?",
        "Use the following table to find the mean.",
        "Find the mode of the values in Table 3.",
        "| 3 | 4 |\n|---|---|\n| 5 | 6 |",
    ),
    rules.find_non_text: (
        "What is caf\u00c3\u00a9 au lait?",
        "It\u00e2\u20ac\u2122s 3 o'clock. What is the angle?",
        "What is 2\x00 + 3?",
        "What is \ufffd + 3?",
        "Read " + "iVBORw0KGgo" * 20,
        "\\x89\\x50\\x4e\\x47" * 5,
    ),
}

FAILS = {
    rules.find_url: ("What does www stand for?", "Compare http and https.", "Split user@example.com at the dot."),
    rules.find_image: (
        "Find the image of f under the map.",
        "Figure out how many digits there are.",
        "A six-figure salary is cut by half. What is it?",
        "Count the edges of the graph below a given weight.",
        "How often does the graph of f cross the axis?",
        "Paint a picture with words.",
        "The graph lies above the x-axis. Find a.",
    ),
    rules.find_table: (
        "The table below shows prices.\n| a | b |\n|---|---|\n| 3 | 4 |\nWhat is b?",
        "In the following table \\begin{tabular}{cc} 1 & 2 \\\\ 3 & 4 \\end{tabular} find the sum.",
        "The table shows a, b: 1 2, 3 4, 5 6, 7 8, 9 10, 11 12, 13 14. What is the sum?",
        "Six people sit at a round table. In how many ways?",
        "She sold the table at a loss. How much did she lose, if it was sold for 30?",
        "Make a multiplication table of 7.",
    ),
    rules.find_non_text: (
        "Qu'est-ce que l'été à São Paulo?",
        "Ça va — “naïve” café, 5 €?",
        "求方程的解。",
        "What is ∫ x² dx? Â is a letter of Romanian.",
        "Compute 123456789012345678901234567890 mod 7.",
        "Let a = \\xi and b = \\x.",
    ),
    rules.find_proof: (
        "Find x. Show your work.",
        "It can be shown that x > 0. Find x.",
        "One can prove it by induction, but what is the sum?",
        "Please show all steps.",
        "What percentage is 80 proof whiskey?",
        "Find the largest n; prove your answer.",
    ),
    rules.find_multi_part: (
        "If f(a) = 1 and f(b) = 2, find f(a) + f(b).",
        "Find n such that (a) n is divisible by 5, (b) its digits are equal.",
        "Which is true? (A) x = 1 (B) x = 2",
        "Given the reactions (1) and (2), determine the enthalpy.\n(1) H + Cl = HCl\n(2) 2H + O = H2O",
        "What is x? Give x to 2 decimals.",
        "How many are there? I.e., how many have one digit?",
    ),
    rules.find_incomplete: (
        "Find x.",
        "If x = 2, then 3x =",
        "The capital is ____.",
        "Enter the ordered pair $(m,n).$",
        "Find $p+q.\\,$",
        "Rewrite the function in the form $a + bi$.",
    ),
    rules.find_empty: ("1+1", "Hi"),
}


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, texts in HOLDS.items() for text in texts])
def test_a_rule_holds(rule: rules.Rule, text: str) -> None:
    assert rule(ask(text))


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, texts in FAILS.items() for text in texts])
def test_a_rule_does_not_hold(rule: rules.Rule, text: str) -> None:
    assert rule(ask(text)) is None


def test_two_questions_with_two_labels_are_multi_part() -> None:
    text = "What is the value of a? What is the sum?"
    assert rules.find_multi_part(ask(text, answer="$48$, $384$"))
    assert rules.find_multi_part(ask(text, answer="(48, 384)")) is None
    assert rules.find_multi_part(ask(text, answer="48")) is None


def test_options_are_no_parts_and_no_proofs() -> None:
    text = "Which holds?\n\nA. (a) Find x. (b) Find y.\nB. Prove that x = 1."
    query = ask(text, choices=("p", "q"), answer="A")
    assert rules.find_multi_part(query) is None
    assert rules.find_proof(query) is None


def test_verifiers() -> None:
    assert rules.find_answer_missing(ask("?", answer=" "))
    assert rules.find_answer_missing(ask("?", answer="D", choices=("x", "y")))
    assert rules.find_answer_missing(ask("?", answer="B", choices=("x", "y"))) is None
    assert rules.find_tests_missing(ask("?", tests=None))
    assert rules.find_tests_missing(ask("?", tests={"kind": "assert", "setup": "", "asserts": []}))
    assert rules.find_tests_missing(ask("?", tests={"kind": "stdio", "inputs": [""], "outputs": [""]})) is None
    assert rules.find_tests_missing(ask("?", tests={"kind": "stdio", "inputs": ["1", "2"], "outputs": ["1"]}))
    assert rules.find_tests_missing(ask("?", tests={"kind": "check", "entry_point": "f", "code": " "}))
    assert (
        rules.find_tests_missing(ask("?", tests={"kind": "check", "entry_point": "f", "code": "def check(f): ..."}))
        is None
    )
    assert rules.find_constraints_missing(ask("?", constraints=[{"id": "a:b", "kwargs": {}}])) is None
    assert rules.find_constraints_missing(ask("?"))


def test_policy_decides_per_domain() -> None:
    chat = ask("Prove that cats purr, see https://example.com", domain=Domain.CHAT, answer=None)
    assert list(rules.signals(chat, RulesConfig())) == [DropReason.URL]
    assert rules.signals(chat, RulesConfig(url=())) == {}
    math = chat.model_copy(update={"domain": Domain.MATH})
    found = rules.signals(math, RulesConfig())
    assert list(found) == [DropReason.URL, DropReason.PROOF, DropReason.ANSWER_MISSING]
    assert found[DropReason.URL] == "https://example.com"
    plain = ask("Follow this.", domain=Domain.INSTRUCTION)
    assert rules.signals(plain, RulesConfig()) == {}
    strict = RulesConfig(constraints_missing=(Domain.INSTRUCTION,), max_prompt_chars=5)
    assert list(rules.signals(plain, strict)) == [DropReason.TOO_LONG, DropReason.CONSTRAINTS_MISSING]
