"""Tests are split into what is asked and what is expected; expected values never are part of a question."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tasks.rewards.code_split import SplitTest
from tasks.rewards.code_tests import BadTestsError, CallPlan, StatementPlan, WholeTest, plan_tests


def plan(*asserts: str, setup: str = "") -> StatementPlan:
    found = plan_tests({"kind": "assert", "setup": setup, "asserts": list(asserts)})
    assert isinstance(found, StatementPlan)
    return found


def asks(*asserts: str, setup: str = "") -> list[str]:
    """Questions of split tests, with the set-up that goes into the jail in front of them."""
    found = plan(*asserts, setup=setup)
    assert found.is_split, found
    before = {at for test in found.tests if isinstance(test, SplitTest) for at in test.before}
    return [*(found.setup[at] for at in sorted(before)), *(ask for test in found.tests for ask in test.asks)]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("assert f(1) == 2", ["f(1)"]),
        ("assert 2 == f(1)", ["f(1)"]),
        ("assert f(1, k=[2]) == {'a': 1}, 'told'", ["f(1, k=[2])"]),
        ("assert f(g(1)) == 2", ["f(g(1))"]),
        ("assert set(f(1)) == {1, 2}", ["f(1)"]),
        ("assert set(f(1)) == set([1, 2])", ["f(1)"]),
        ("assert sorted(f(1)) == [1, 2]", ["f(1)"]),
        ("assert len(f(1)) == 3", ["f(1)"]),
        ("assert abs(f(1) - 2) < 1e-6", ["f(1)"]),
        ("assert math.isclose(f(1), 2.5, rel_tol=0.1)", ["f(1)"]),
        ("assert round(f(1), 2) == 0.33", ["f(1)"]),
        ("assert f(1) is None", ["f(1)"]),
        ("assert f(1) is True", ["f(1)"]),
        ("assert not f(1)", ["f(1)"]),
        ("assert f(1)", ["f(1)"]),
        ("assert 1 < f(1) <= 3", ["f(1)"]),
        ("assert f(1) != 3 and f(2) == [1, (2, 3)]", ["f(1)", "f(2)"]),
        ("assert f(1) in (1, 2)", ["f(1)"]),
        ("assert f(1)[0] == float('inf')", ["f(1)[0]"]),
        ("assert f(1)['k'] == 'v'", ["f(1)['k']"]),
        ("assert f(1).val == 3", ["f(1).val"]),
        ("assert isinstance(f(1), int)", ["f(1)"]),
        ("assert f(1) == [0] * 3 + [1]", ["f(1)"]),
        ("assert f(10**9 + 7) == 2**10", ["f(10 ** 9 + 7)"]),
        ("assert all(f(i) == i * i for i in range(2))", ["f(0)", "f(1)"]),
        ("assert all(f(x) == y for x, y in [(1, 2), (3, 4)])", ["f(1)", "f(3)"]),
        ("assert any([f(x) for x in (1, 2)])", ["f(1)", "f(2)"]),
        ("assert Solution().two(n=[1], k=2) == [0]", ["Solution().two(n=[1], k=2)"]),
        ("assert Stack(3).push(4).top() == 4", ["Stack(3).push(4).top()"]),
        ("assert is_same_list(f(list_node([1, 2])), list_node([2, 3]))", ["list_values(f(list_node([1, 2])))"]),
        ("assert is_same_tree(f(1), tree_node([1, None, None]))", ["tree_values(f(1))"]),
        ("assert sum(10, 15) == 6", ["sum(10, 15)"]),  # the program defines it
        ("assert gcd(10, 15) == 5", ["gcd(10, 15)"]),
    ],
)
def test_only_calls_go_inside(source: str, asked: list[str]) -> None:
    assert asks(source) == asked


@pytest.mark.parametrize(
    "source",
    [
        "assert f(1) == g(1)",
        "assert tuple(f(1)) == tuple(f(2))",
        "assert f(1).startswith('secret')",  # the argument is what is expected
        "assert f(4) == comb(4, 2)",  # the program could define comb
        "assert f(1) == sys.getsizeof(1)",
        "assert f(1) == sum(i for i in range(3))",
        "assert (lambda x: x == 2)(f(1))",
        "for x in range(3):\n    assert f(x) == x",
        "try:\n    f(-1)\n    assert False\nexcept ValueError:\n    pass",
    ],
)
def test_what_does_not_come_apart_stays_whole(source: str) -> None:
    found = plan(source)
    assert not found.is_split
    assert all(isinstance(test, WholeTest) for test in found.tests)


def test_variables_of_the_tests_are_put_in_their_place() -> None:
    setup = "given, wanted = 1, 2\nx = [1, 2]\ncase = {'in': 3, 'out': 'secret'}"
    assert asks("assert f(x) == [2]", setup=setup) == ["f([1, 2])"]
    assert asks("assert f(case['in']) == case['out']", setup=setup) == ["f(3)"]
    assert asks("assert all(f(c[0]) == c[-1] for c in cases)", setup="cases = [(1, 'secret'), (2, 'other')]") == [
        "f(1)",
        "f(2)",
    ]
    assert not plan("assert f(case.get('in')) == case['out']", setup=setup).is_split
    assert asks("x = 1", "assert f(x) == 1", "x = 2", "assert f(x) == 4") == ["f(1)", "f(2)"]


def test_set_up_goes_inside_only_where_an_input_needs_it() -> None:
    setup = "import math\nsecret = 'expected'\ndef build(n):\n    return [n]\nclass Unused:\n    pass"
    assert asks("assert f(build(2)) == secret", setup=setup) == ["def build(n):\n    return [n]", "f(build(2))"]
    assert asks("s = Stack()\ns.push(3)\nassert s.top() + 1 == 4") == ["s = Stack()", "s.push(3)", "s.top()"]
    assert asks("root = Node(1)\nroot.left = Node(2)\nassert depth(root) == 2")[:2] == [
        "root = Node(1)",
        "root.left = Node(2)",
    ]
    assert asks("x = [2, 1]", "assert f(x) is None", "assert x == [1, 2]") == ["x = [2, 1]", "f(x)", "x"]


@pytest.mark.parametrize(
    "setup",
    [
        "def ok(x, wanted):\n    return f(x) == wanted\nr = ok(1, 'secret')",
        "r = f(1) == 'secret'",
        "r = max(f(1), 'secret')",
    ],
)
def test_set_up_that_may_hold_what_is_expected_stays_outside(setup: str) -> None:
    assert not plan("assert r", setup=setup).is_split


def test_checking_functions_are_written_out() -> None:
    code = "METADATA = {}\ndef check(candidate):\n    n = 3\n    assert candidate(n) == 9\n    assert True\n    print\n"
    found = plan_tests({"kind": "check", "entry_point": "square", "code": code})
    assert isinstance(found, StatementPlan)
    assert found.is_split
    assert [test.asks for test in found.tests if isinstance(test, SplitTest)] == [["square(3)"]]
    assert asks("check(Solution().two)", setup="def check(c):\n    assert c(n=1) == 2") == ["Solution().two(n=1)"]


def test_a_loop_stays_whole_beside_asserts_that_do_not() -> None:
    code = "def check(c):\n    import random\n    assert c(1) == 1\n    for x in range(3):\n        assert c(x) == x\n"
    found = plan_tests({"kind": "check", "entry_point": "f", "code": code})
    assert isinstance(found, StatementPlan)
    first, second = found.tests
    assert isinstance(first, SplitTest)
    assert isinstance(second, WholeTest)
    assert second.source.startswith("import random\nfor x in range(3):")


@pytest.mark.parametrize(
    "body",
    ["assert c(1) == 1\n    return", "c = 3\n    assert c == 3", "def inner():\n        assert c(1) == 1\n    inner()"],
)
def test_a_checking_function_of_its_own_scope_stays_whole(body: str) -> None:
    found = plan_tests({"kind": "check", "entry_point": "f", "code": f"def check(c):\n    {body}\n"})
    assert isinstance(found, StatementPlan)
    assert [type(test) for test in found.tests] == [WholeTest]


LENIENT = "def check(c):\n    for x in range(3):\n        c(x)\n    return c(1) == 1"
CALL = {"kind": "call", "function": "f", "inputs": [[1]], "outputs": [1]}


@pytest.mark.parametrize(
    ("tests", "reason"),
    [
        (None, "known kind"),
        ({}, "known kind"),
        ({"kind": "odd"}, "'odd'; known are assert: asserts"),
        ({"kind": "assert", "setup": "", "asserts": []}, "no tests"),
        ({"kind": "assert", "asserts": ["assert f(1) =="]}, "not Python"),
        ({"kind": "assert", "asserts": "assert f(1)"}, "list of texts"),
        ({"kind": "assert", "asserts": ["assert True", "assert 1 == 1"]}, "asks anything"),
        ({"kind": "assert", "asserts": ["f = 3"]}, "asks anything"),
        ({"kind": "check", "entry_point": "f", "code": "x = 1"}, "no `check`"),
        ({"kind": "check", "entry_point": "f", "code": "def check(c):\n    assert True"}, "asks anything"),
        ({"kind": "check", "code": "def check(c): pass"}, "`entry_point`"),
        ({"kind": "stdio", "inputs": [], "outputs": []}, "0 inputs"),
        ({"kind": "stdio", "inputs": ["1"], "outputs": []}, "1 inputs and 0 outputs"),
        ({"kind": "stdio", "inputs": [1], "outputs": ["1"]}, r"inputs\[0\] is not a str"),
        ({**CALL, "outputs": []}, "1 inputs and 0 outputs"),
        ({**CALL, "inputs": [1]}, r"inputs\[0\] is not a list"),
        ({**CALL, "function": ""}, "`function`"),
        ({**CALL, "function": "f(1)"}, "`Class.name`"),
        ({**CALL, "function": "A().b.c"}, "`Class.name`"),
        ({**CALL, "function": "A.f", "class": "B"}, "`Class.name`"),
        ({"kind": "assert", "asserts": ["f(2) == 4"]}, "can never fail"),
        ({"kind": "assert", "asserts": ["assert (f(2) == 4, 'told')"]}, "asserts a tuple"),
        ({"kind": "assert", "asserts": ["assert f(1) == 1", "self.assertEqual(f(2), 99)"]}, "is no assert"),
        ({"kind": "assert", "asserts": ["assert f(1) == 1", "verify(f(2), 99)"]}, "is no assert"),
        (
            {"kind": "assert", "setup": "import numpy as np", "asserts": ["np.testing.assert_equal(f(2), 9)"]},
            "no assert",
        ),
        ({"kind": "assert", "setup": "t = T()", "asserts": ["t.assertEqual(Solution().f(2), 99)"]}, "is no assert"),
        ({"kind": "assert", "setup": LENIENT, "asserts": ["assert f(1) == 1", "check(f)"]}, "asserts nothing"),
        ({"kind": "check", "entry_point": "f", "code": "def check(c):\n    return c(1) == 1"}, "asserts nothing"),
    ],
)
def test_tests_that_are_missing_or_broken_are_told(tests: dict[str, Any] | None, reason: str) -> None:
    with pytest.raises(BadTestsError, match=reason):
        plan_tests(tests)


def test_threads_may_read_tests_side_by_side() -> None:
    tests = {"kind": "assert", "asserts": [f"assert f([{x}, [[[{x}]]]]) == {{{x}: [{x}]}}" for x in range(30)]}
    with ThreadPoolExecutor(4) as threads:
        plans = list(threads.map(plan_tests, [tests] * 40))
    assert {len(found.tests) for found in plans} == {30}


@pytest.mark.parametrize("told", ["Solution.two", "Solution().two"])
def test_a_function_may_be_told_with_its_class(told: str) -> None:
    found = plan_tests({**CALL, "function": told})
    assert isinstance(found, CallPlan)
    assert (found.owner, found.function) == ("Solution", "two")


@pytest.mark.parametrize(
    "source", ["s = S()\ns.push(1)", "s = []\ns.append(f(2))", "insert(r, Node(3))", "s = f(1)\nprint(f(2))"]
)
def test_calls_that_prepare_for_an_assert_are_no_tests(source: str) -> None:
    assert len(plan(*source.split("\n"), "assert f(1) == 1").tests) == 1


def test_a_checking_function_may_leave_failing_to_another() -> None:
    setup = "def same(a, b):\n    assert a == b\ndef check(c):\n    for x in range(3):\n        same(c(x), x)"
    assert plan("check(f)", setup=setup).tests
