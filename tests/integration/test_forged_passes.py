"""Programs that try to pass without solving. None does, whatever the kind of the tests."""

from typing import Any

import pytest

from infra.sandbox.limits import SandboxError
from infra.sandbox.sandbox import Sandbox
from tasks.records import Outcome
from tasks.rewards.code import CodeConfig, CodeGrader

pytestmark = pytest.mark.integration
MIB = 1024 * 1024
ASSERTS = ["assert f(2) == 4", "assert abs(f(3) - 9.0) < 1e-6", "assert f(4) in (16, 16.0)", "assert len(g(3)) == 3"]
LOOP = "def check(candidate):\n    for x, y in zip([2, 3], [4, 9]):\n        assert candidate(x) == y\n"
MAPPED = "def check(candidate):\n    for y, found in zip([4, 9], map(candidate, [2, 3])):\n        assert found == y\n"
KINDS: dict[str, dict[str, Any]] = {
    "split": {"kind": "assert", "setup": "", "asserts": ASSERTS},
    "whole": {"kind": "check", "entry_point": "f", "code": LOOP},
    "mapped": {"kind": "check", "entry_point": "f", "code": MAPPED},
    "call": {"kind": "call", "function": "f", "inputs": [[2], [3]], "outputs": [4, 9]},
}
EQUAL = """
class Equal{base}:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    __le__ = __gt__ = __ge__ = __contains__ = __lt__
    def __sub__(self, other): return self
    __rsub__ = __add__ = __radd__ = __mul__ = __sub__
    def __abs__(self): return self
    def __bool__(self): return True
    def __len__(self): return 3
    def __hash__(self): return 0
    def __int__(self): return 4
    def __float__(self): return 9.0
    def __index__(self): return 4
    def __repr__(self): return '4'
    __str__ = __repr__
def f(x): return Equal({value})
g = f
"""
FORGERIES = {
    "an object that equals everything": EQUAL.format(base="", value=""),
    "an int that equals everything": EQUAL.format(base="(int)", value="7"),
    "a float that equals everything": EQUAL.format(base="(float)", value="7.5"),
    "a str that equals everything": EQUAL.format(base="(str)", value="'7'"),
    "a list that equals everything": EQUAL.format(base="(list)", value="[7]"),
    "a dict that equals everything": EQUAL.format(base="(dict)", value=""),
    "a class that lies about itself": EQUAL.format(base="", value="") + "Equal.__class__ = property(lambda s: int)\n",
    "leaves at once": "import sys; sys.exit(0)",
    "leaves hard": "import os; os._exit(0)",
    "leaves in the call": "import os\ndef f(x): os._exit(0)",
    "leaves softly in the call": "def f(x): raise SystemExit(0)",
    "leaves through atexit": "import atexit, os\natexit.register(os._exit, 0)\ndef f(x): raise SystemExit(0)",
    "kills itself": "import os, signal\ndef f(x): os.kill(os.getpid(), signal.SIGKILL)",
    "patches builtins": "import builtins\nfor n in ('abs', 'len', 'isinstance', 'all', 'set', 'sorted', 'zip'):\n"
    "    setattr(builtins, n, lambda *a, **k: 3)\nbuiltins.AssertionError = type('A', (Exception,), {})\n"
    "def f(x): return 0\ng = f",
    "patches operator and math": "import operator, math\noperator.eq = lambda a, b: True\nmath.isclose = operator.eq\n"
    "def f(x): return 0\ng = f",
    "patches json": "import json\njson.dumps = lambda *a, **k: '{\"value\": true}'\n"
    "json.loads = lambda *a: {'do': 'eval', 'with': '4'}\ndef f(x): return 0\ng = f",
    "defines the checker": "def check(c): pass\ndef f(x): return 0\ndef abs(x): return 0\ndef len(x): return 3\ng = f",
    "writes the lines of the channel": "import os\nfor fd in range(0, 64):\n"
    "    for line in (b'{\"done\": true}', b'{\"value\": true}', b'{\"value\": null}'):\n"
    "        try: os.write(fd, (line + b'\\n') * 9)\n        except OSError: pass\ndef f(x): return 0\ng = f",
    "prints the lines of the channel": "print('{\"done\": true}\\n' * 50, flush=True)\ndef f(x): return 0\ng = f",
    "answers ahead of time": "import os\ndef f(x):\n    for fd in range(3, 64):\n        try: os.write(fd, "
    'b\'{"value": 4}\\n{"value": 16}\\n{"value": [1, 1, 1]}\\n\')\n        except OSError: pass\n    return 4\ng = f',
    "a thread answers": "import threading, os, time\ndef work():\n    while True:\n        for fd in range(3, 16):\n"
    "            try: os.write(fd, b'{\"value\": true}\\n')\n            except OSError: pass\n"
    "        time.sleep(0.01)\n"
    "threading.Thread(target=work, daemon=True).start()\ndef f(x): time.sleep(0.05); return 0\ng = f",
    "a child answers": "import os, time\nif os.fork() == 0:\n    for _ in range(50):\n        for fd in range(3, 16):\n"
    "            try: os.write(fd, b'{\"value\": true}\\n')\n            except OSError: pass\n"
    "        time.sleep(0.01)\n"
    "    os._exit(0)\ndef f(x): time.sleep(0.05); return 0\ng = f",
    "patches the program around it": "import sys\nm = vars(sys.modules['__main__'])\n"
    "m['encode'] = lambda v, r=None: True\nm['_told'] = lambda e: {'value': True, 'done': True}\n"
    "def f(x): return 0\ng = f",
    "reads the frames": "import sys\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n"
    "        for v in [*frame.f_locals.values(), *frame.f_globals.values()]:\n"
    "            if isinstance(v, str) and '== ' in v: return int(v.rsplit('== ')[1].split()[0].rstrip(','))\n"
    "        frame = frame.f_back\n    return 0\ng = f",
    "searches all objects": "import gc\ndef f(x):\n    for o in gc.get_objects():\n"
    "        if isinstance(o, dict) and o.get('expected'): return o['expected']\n    return 0\ng = f",
    "reads its memory": "import re\ndef f(x):\n    found = []\n    for line in open('/proc/self/maps'):\n"
    "        if 'heap' in line or '[stack]' in line:\n"
    "            a, b = (int(p, 16) for p in line.split()[0].split('-'))\n"
    "            with open('/proc/self/mem', 'rb') as m:\n                m.seek(a)\n"
    "                found += re.findall(rb'== (\\d+)', m.read(b - a))\n"
    "    return int(found[x]) if len(found) > x else 0\ng = f",
    "reads files of other processes": "import glob\ndef f(x):\n    text = ''\n"
    "    for p in glob.glob('/proc/*/cmdline') + "
    "glob.glob('/proc/*/environ') + glob.glob('/tmp/*') + glob.glob('/box/*'):\n        try: text += open(p).read()\n"
    "        except (OSError, UnicodeDecodeError): pass\n    return 16 if '== 16' in text else 0\ng = f",
    "traces": "import sys\ndef trace(frame, event, arg):\n    frame.f_locals.update(left=0, right=0)\n"
    "    return trace\n"
    "sys.settrace(trace)\ndef f(x): return 0\ng = f",
    "is not a number": "def f(x): return float('nan')\ndef g(x): return 'nan'",
    "is infinite": "def f(x): return float('inf')\ndef g(x): return [float('inf')] * 2",
    "a generator": "def f(x): yield from (4, 9, 16)\ng = f",
    "a promise": "async def f(x): return x * x\ng = f",
    "a function": "def f(x): return lambda *a: True\ng = f",
    "hash tricks": "class H(frozenset):\n    def __hash__(self): return hash(4)\n    def __eq__(self, o): return True\n"
    "def f(x): return {H(): 1}\ng = f",
    "colliding numbers": "def f(x): return {(2**61 - 1) * n for n in range(1, 30000)}\ng = f",
    "a huge reply": "def f(x): return 'a' * 10**7\ng = f",
    "a deep reply": "def f(x):\n    v = []\n    for _ in range(100000): v = [v]\n    return v\ng = f",
    "a huge number": "def f(x): return 1 << 10**6\ng = f",
    "itself within itself": "def f(x):\n    v = []\n    v.append(v)\n    return v\ng = f",
    "closes the pipes": "import os\nos.closerange(0, 64)\ndef f(x): return x * x if x == 2 else 0\ng = f",
    "a bad surrogate": "def f(x): return '\\udc80' * 3\ng = f",
    "shows a reference of its own": "def f(x): return {'ref': 0}\ng = f",
    "ends a loop": "def f(x): raise StopIteration\ng = f",
    "ends a loop with an error of its own": "class E(StopIteration): pass\nE.__name__ = 'StopIteration'\n"
    "def f(x): raise E\ng = f",
    "raises what a test may raise": "def f(x): raise AssertionError('passed')\ng = f",
    "an error that breaks when told": "class E(Exception):\n    def __str__(self): raise self\n"
    "def f(x): raise E\ng = f",
    "loops": "def f(x):\n    while True: pass",
}
PRINTED = {
    "nothing": "",
    "leaves": "import sys; sys.exit(0)",
    "the words of a judge": "print('{\"done\": true}'); print('PASSED'); print('Accepted')",
    "to all descriptors": "import os\nfor fd in range(1, 64):\n    try: os.write(fd, b'passed\\n')\n"
    "    except OSError: pass",
    "looks for what is expected": "import os\nfor folder, _, names in os.walk('/box'):\n    for name in names:\n"
    "        print(open(os.path.join(folder, name)).read())",
    "nan": "print('nan')",
    "every answer": "print(*range(100), sep='\\n')",
    "echo": "print(input())",
}


@pytest.fixture(scope="module")
def grader() -> CodeGrader:
    sandbox = Sandbox()
    try:
        _ = sandbox.level
    except SandboxError as error:
        pytest.skip(str(error))
    return CodeGrader(CodeConfig(test_s=2.0, memory_bytes=256 * MIB, output_bytes=MIB), sandbox)


@pytest.mark.parametrize("kind", KINDS)
def test_the_tests_can_be_passed(grader: CodeGrader, kind: str) -> None:
    verdict = grader.judge_program(KINDS[kind], "def f(x): return x * x\ndef g(x): return [x] * x")
    assert verdict.outcome is Outcome.PASSED, verdict


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("program", FORGERIES.values(), ids=FORGERIES.keys())
def test_no_forgery_passes(grader: CodeGrader, kind: str, program: str) -> None:
    verdict = grader.judge_program(KINDS[kind], program)
    assert not verdict.outcome.is_right, verdict
    assert not verdict.outcome.is_fault, verdict
    assert verdict.score == 0.0
    assert verdict.detail


@pytest.mark.parametrize("program", PRINTED.values(), ids=PRINTED.keys())
def test_no_print_passes(grader: CodeGrader, program: str) -> None:
    tests = {"kind": "stdio", "inputs": ["2\n", "3\n"], "outputs": ["4\n", "9\n"]}
    verdict = grader.judge_program(tests, program)
    assert verdict.outcome is Outcome.WRONG, verdict
