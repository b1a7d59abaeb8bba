"""A sandbox whose walls do not stand is refused, by name, unless it is asked for."""

import itertools
import os
import struct
from pathlib import Path

import pytest

from infra.sandbox import sandbox as sandbox_module
from infra.sandbox.limits import Level, Limits, Program, SandboxError
from infra.sandbox.local import LocalJails
from infra.sandbox.sandbox import Sandbox
from infra.sandbox.seccomp import filter_program


def test_level_without_walls_is_refused() -> None:
    with pytest.raises(SandboxError, match=r"limits: .*`no network` is not enforced") as found:
        _ = Sandbox(level=Level.LIMITS).level
    assert str(found.value).startswith("secure sandbox not available: ")
    assert "apt-get install bubblewrap" in str(found.value)
    assert "unsafe = true" in str(found.value)


def test_open_wall_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_module, "open_walls", lambda _: ["memory", "no network"])
    with pytest.raises(SandboxError, match="`memory` is not enforced, `no network` is not enforced"):
        _ = Sandbox().level


def test_open_wall_is_accepted_when_asked_for_and_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_module, "open_walls", lambda _: ["memory"])
    with pytest.warns(UserWarning, match="`memory` is not enforced"):
        assert Sandbox(unsafe=True).level is Level.BUBBLEWRAP


def test_refused_namespaces_leave_a_jail_for_each_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def walls(jails: LocalJails) -> list[str]:
        if jails.is_warm:
            raise SandboxError("no namespaces within the jail")
        return []

    monkeypatch.setattr(sandbox_module, "open_walls", walls)
    assert Sandbox().level is Level.BUBBLEWRAP


@pytest.mark.skipif(os.geteuid() != 0, reason="others fall back to limits")
def test_missing_bubblewrap_is_refused_with_what_is_open(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="own_user: `host files unreadable` is not enforced"):
        _ = Sandbox(bubblewrap=tmp_path / "missing").level


def test_refusal_is_a_failure_of_the_sandbox_not_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_module, "open_walls", lambda _: ["memory"])
    found = Sandbox().run(Program("print(1)"), "", Limits())
    assert found.outcome == "sandbox_failure"
    assert "secure sandbox not available" in found.stderr


def test_filter_jumps_stay_within_it() -> None:
    for machine in ("x86_64", "aarch64"):
        content = filter_program(machine)
        steps = [struct.unpack_from("HBBI", content, at) for at in range(0, len(content), 8)]
        for at, (code, if_true, if_false, _) in enumerate(steps):
            if code in {0x15, 0x35, 0x45}:
                assert at + 1 + max(if_true, if_false) < len(steps)
        assert steps[-1][0] == 0x06
    assert filter_program("another") == b""


def refused_calls(machine: str) -> set[int]:
    """Numbers of the system calls that the filter answers with an error."""
    content = filter_program(machine)
    steps = [struct.unpack_from("HBBI", content, at) for at in range(0, len(content), 8)]
    pairs = itertools.pairwise(steps)
    return {value for (code, _, _, value), (_, _, _, told) in pairs if code == 0x15 and told == 0x0005_0001}


def test_shared_memory_and_mounts_by_descriptor_are_refused() -> None:
    assert {29, 428, 467} <= refused_calls("x86_64")  # shmget, open_tree, open_tree_attr
    assert {194, 428, 467} <= refused_calls("aarch64")
