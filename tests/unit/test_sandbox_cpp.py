"""C++ without a compiler: which sources take the precompiled header, and what the cache of executables gives out."""

from pathlib import Path

import pytest

from infra.sandbox.binaries import BinaryCache
from infra.sandbox.cpp import takes_header
from infra.sandbox.limits import MIB


@pytest.mark.parametrize(
    ("source", "takes"),
    [
        ("#include <bits/stdc++.h>\nint main() {}", True),
        ("  # include <vector>\nint main() {}", True),
        ("#include <vector>\n#define int long long\n", True),
        ("#define int long long\n#include <vector>\n", False),
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
