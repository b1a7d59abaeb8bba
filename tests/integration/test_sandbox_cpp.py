"""C++: compiled apart, kept by content, and never blamed for what the machine lacks."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.sandbox import cpp
from infra.sandbox.cpp import CppConfig
from infra.sandbox.jail import JailEndedError
from infra.sandbox.limits import MIB, Ending, Language, Limits, Program, SandboxError
from infra.sandbox.sandbox import Sandbox

pytestmark = pytest.mark.integration
LIMITS = Limits(wall_s=5.0, cpu_s=2, memory_bytes=256 * MIB)
ADD = Program('extern "C" int printf(const char*, ...);\nint main() { printf("%d", 1 + 2); }', Language.CPP)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def sandbox(cache: Path) -> Iterator[Sandbox]:
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler")
    sandbox = Sandbox(cpp=CppConfig(optimisation="-O0", standard="c++17"), cache=cache)
    try:
        _ = sandbox.level
    except SandboxError as error:
        pytest.skip(str(error))
    yield sandbox
    sandbox.close()


def test_program_runs_and_its_executable_is_kept(sandbox: Sandbox, cache: Path) -> None:
    assert sandbox.run(ADD, "", LIMITS).stdout == "3"
    assert len(list((cache / "executables").iterdir())) == 1
    assert sandbox.run(ADD, "", LIMITS).stdout == "3"


def test_header_is_made_once_and_names_that_clash_with_it_compile(sandbox: Sandbox, cache: Path) -> None:
    source = "#include <iostream>\nusing namespace std;\nint count = 3;\nint main() { cin >> count; cout << count; }"
    assert sandbox.run(Program(source, Language.CPP), "7", LIMITS).stdout == "7"
    made = list((cache / "header").iterdir())
    assert len(made) == 1
    assert sorted(path.name for path in made[0].iterdir()) == ["stdc++.h", "stdc++.h.gch"]


def test_compile_error_has_what_the_compiler_said(sandbox: Sandbox) -> None:
    broken = Program("int main() { return x; }", Language.CPP)
    found = sandbox.run(broken, "", LIMITS)
    assert found.outcome is Ending.COMPILE_ERROR
    assert "was not declared" in found.stderr
    with pytest.raises(JailEndedError, match="compile_error"), sandbox.open(broken, LIMITS):
        pass


def test_conversation_with_a_compiled_program(sandbox: Sandbox) -> None:
    source = "#include <iostream>\nint main() { int n; while (std::cin >> n) std::cout << n + 1 << std::endl; }"
    with sandbox.open(Program(source, Language.CPP), LIMITS) as jail:
        assert [jail.ask(str(number), 2.0) for number in (1, 41)] == ["2", "42"]


def test_missing_compiler_is_told(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, tmp_path: Path) -> None:
    monkeypatch.setattr(cpp.shutil, "which", lambda *_, **__: None)
    found = Sandbox(cache=tmp_path)
    monkeypatch.setattr(found, "_jails", sandbox._jails)
    done = found.run(ADD, "", LIMITS)
    assert done.outcome is Ending.SANDBOX_FAILURE
    assert "apt-get install g++" in done.stderr
