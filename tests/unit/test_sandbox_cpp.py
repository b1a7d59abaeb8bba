"""C++: which sources take the precompiled header, and what the cache of executables gives out."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from infra.sandbox.binaries import BinaryCache
from infra.sandbox.cpp import takes_header
from infra.sandbox.header import precompiled_header
from infra.sandbox.limits import MIB, Ending, Language, Limits, Program, SandboxError
from infra.sandbox.sandbox import Sandbox


@pytest.mark.parametrize(
    ("source", "takes"),
    [
        ("#include <bits/stdc++.h>\nint main() {}", True),
        ("// A solution.\n  # include <vector>\n/* all\nof it */ #include <bits/stdc++.h>\nint main() {}", True),
        ('#pragma GCC optimize("O3")\n#include <bits/stdc++.h>\n', True),
        ("#include <bits/stdc++.h>\n#define int long long\n", True),
        ("#define int long long\n#include <bits/stdc++.h>\n", False),
        ("#include <vector>\nint main() { std::map<int, int> m; }", False),
        ("std::vector<int> v;\n#include <bits/stdc++.h>\n", False),
        ("#if 0\n#include <bits/stdc++.h>\n#endif\n", False),
        ("/*\n#include <bits/stdc++.h>\n*/", False),
        ("// \\\n#include <bits/stdc++.h>\n", False),
        ("/* " * 200_000, False),
        ('#include "mine.h"\nint main() {}', False),
        ("#include <sys/mman.h>\nint main() {}", False),
        ("int main() {}", False),
    ],
)
def test_header_serves_sources_that_it_does_not_change(source: str, takes: bool) -> None:
    assert takes_header(source) is takes


def test_executable_is_kept_and_checked(tmp_path: Path) -> None:
    kept = BinaryCache(tmp_path, MIB)
    assert kept.get("key") is None
    kept.put("key", b"binary")
    assert kept.get("key") == b"binary"
    (tmp_path / "key").write_bytes((tmp_path / "key").read_bytes()[:-1] + b"x")
    assert kept.get("key") is None
    assert not (tmp_path / "key").exists()


def test_executable_under_another_key_is_not_taken(tmp_path: Path) -> None:
    kept = BinaryCache(tmp_path, MIB)
    kept.put("one", b"binary")
    (tmp_path / "one").rename(tmp_path / "two")
    assert kept.get("two") is None


def test_cache_has_a_size(tmp_path: Path) -> None:
    kept = BinaryCache(tmp_path, 3000)
    for number in range(10):
        kept.put(str(number), bytes(900))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3000
    assert kept.get("9") == bytes(900)
    assert kept.get("0") is None


def test_cache_without_a_place_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    kept = BinaryCache(tmp_path / "file" / "folder", MIB)
    kept.put("key", b"binary")
    assert kept.get("key") is None


def test_full_cache_keeps_nothing_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "no space left on device")

    kept = BinaryCache(tmp_path, MIB)
    monkeypatch.setattr(Path, "rename", refuse)
    kept.put("key", b"binary")
    assert list(tmp_path.iterdir()) == []


def test_executable_that_cannot_be_marked_as_used_is_given_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise OSError(errno.EROFS, "read-only file system")

    kept = BinaryCache(tmp_path, MIB)
    kept.put("key", b"binary")
    monkeypatch.setattr(os, "utime", refuse)
    assert kept.get("key") == b"binary"


def test_header_without_a_place_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert precompiled_header(Path("/usr/bin/g++"), (), (), tmp_path / "file" / "folder") is None


def test_header_on_a_full_disk_is_done_without_and_a_broken_compiler_told(tmp_path: Path) -> None:
    gxx = tmp_path / "g++"
    gxx.write_text('#!/bin/sh\ncase "$*" in *-fsyntax-only*) exit 0;; esac\necho full >&2\nexit 1\n', encoding="utf-8")
    gxx.chmod(0o755)
    assert precompiled_header(gxx, (), (), tmp_path / "header") is None
    assert list((tmp_path / "header").iterdir()) == []
    gxx.write_text("#!/bin/sh\necho broken >&2\nexit 1\n", encoding="utf-8")
    with pytest.raises(SandboxError, match="broken"):
        precompiled_header(gxx, (), (), tmp_path / "header")


def test_cpp_runs_without_a_cache_and_has_no_more_names_than_it_asks_for(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sandbox = Sandbox(cache=tmp_path / "file" / "folder")
    try:
        _ = sandbox.level
    except SandboxError as error:
        pytest.skip(str(error))
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler")
    source = '#include <cstdio>\nint main() {{ {} puts("1"); }}'
    assert sandbox.run(Program(source.format(""), Language.CPP), "", Limits()).stdout == "1\n"
    found = sandbox.run(Program(source.format("std::map<int, int> m;"), Language.CPP), "", Limits())
    assert found.outcome is Ending.COMPILE_ERROR
    sandbox.close()
