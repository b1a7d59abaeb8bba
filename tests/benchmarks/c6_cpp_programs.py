"""C6: 40 C++ programs, compiled and run once, against plain `g++ -O2` and the program started by hand.

The cache of executables is empty in each run; the precompiled header is there, as on any machine after the first
program. The peer has no jail, and its compiler no limits.
"""

from __future__ import annotations

import itertools
import subprocess
import tempfile
from pathlib import Path

from infra.sandbox.cpp import CppConfig
from infra.sandbox.limits import Ending, Language, Limits, Program
from infra.sandbox.sandbox import Sandbox
from tests.benchmarks.__main__ import Contest
from tests.benchmarks.c5_python_programs import on_all_cores

NUM_PROGRAMS = 40
STDIN = "200\n" + " ".join(str((number * 7919) % 10007) for number in range(200)) + "\n"
HEAD = "#include <bits/stdc++.h>\nusing namespace std;\n"
BODIES = (
    "sort(v.begin(), v.end()); long long s = 0; for (int i = 0; i < n; i += 1 + K % 3) s += v[i]; cout << s;",
    "map<int, int> m; for (int x : v) m[x % K]++; for (auto [a, b] : m) cout << a << ':' << b << ' ';",
    "priority_queue<int> q(v.begin(), v.end()); for (int i = 0; i < 5; i++) { cout << q.top() % K << ' '; q.pop(); }",
    "vector<int> d; for (int x : v) { auto it = lower_bound(d.begin(), d.end(), x); if (it == d.end()) d.push_back(x);"
    " else *it = x; } cout << d.size() + K;",
)


def sources() -> list[str]:
    """Programs as contests have them: all of the standard library included."""
    main = "int main() {{ int n; cin >> n; vector<int> v(n); for (auto& x : v) cin >> x; {} cout << endl; }}\n"
    bodies = [BODIES[number % len(BODIES)].replace("K", str(7 + number)) for number in range(NUM_PROGRAMS)]
    return [HEAD + main.format(body) for body in bodies]


def contest() -> Contest:
    """The contest; both sides give what the programs print."""
    programs, number = sources(), itertools.count()
    folder = tempfile.TemporaryDirectory(prefix="posttrain-c6-")
    sandbox = Sandbox(cache=Path(folder.name))

    def jailed(source: str) -> str:
        done = sandbox.run(Program(source, Language.CPP), STDIN, Limits())
        assert done.outcome is Ending.FINISHED, done
        return done.stdout

    def ours() -> object:
        for path in (Path(folder.name) / "executables").glob("*"):
            path.unlink()
        return on_all_cores(jailed, programs)

    def plain(source: str) -> str:
        binary = Path(folder.name) / f"plain-{next(number)}"
        command = ["g++", "-O2", f"-std={CppConfig().standard}", "-x", "c++", "-", "-o", str(binary)]
        subprocess.run(command, input=source, text=True, check=True)
        return subprocess.run([str(binary)], input=STDIN, capture_output=True, text=True, check=True).stdout

    return Contest(
        "C6 C++ programs",
        "programs",
        NUM_PROGRAMS,
        ours,
        {"g++ -O2 and run, no jail": lambda: on_all_cores(plain, programs)},
        lambda: on_all_cores(jailed, programs),
        "running what is compiled already",
        runs=3,
    )
