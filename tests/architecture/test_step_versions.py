"""A step's result is found again by name, version, config and inputs; so changed code needs a new version.

A pin hashes the module of a step and every module below `tasks` that it imports, directly or through others: a helper
that changes is a step that changes. Infra is left out: it places results and does not make them.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PINS = Path(__file__).with_name("step_versions.json")
REFRESH = "python -m pytest tests/architecture/test_step_versions.py --refresh-pins"


class Pin(NamedTuple):
    """What was declared, and what the code was then."""

    version: int
    sha256: str


def test_changed_code_has_a_new_version(request: pytest.FixtureRequest) -> None:
    steps = registered_steps()
    if request.config.getoption("--refresh-pins", default=False):
        PINS.write_text(json.dumps({name: pin._asdict() for name, pin in steps.items()}, indent=1) + "\n")
    pinned = {name: Pin(**pin) for name, pin in json.loads(PINS.read_text()).items()} if PINS.exists() else {}
    told = complaints(pinned, steps)
    assert not told, "\n".join(told)


def registered_steps() -> dict[str, Pin]:
    """Every step of the pipeline; importing the whole DAG declares them."""
    import flows.post_train  # noqa: F401
    from infra.step import REGISTRY

    modules = {name: step.inner.__module__ for name, step in sorted(REGISTRY.items())}
    return {
        name: Pin(REGISTRY[name].version, code_of(module, ROOT))
        for name, module in modules.items()
        if module.startswith("tasks.")
    }


def code_of(module: str, root: Path) -> str:
    """SHA-256 over the source of a module and of all modules below `tasks` that it reaches."""
    sources: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = root / f"{name.replace('.', '/')}.py"
        if name in sources or not path.is_file():
            continue
        sources[name] = path.read_text(encoding="utf-8")
        waiting += [each for each in imports_of(sources[name]) if each.startswith("tasks.")]
    return hashlib.sha256(json.dumps(sorted(sources.items())).encode()).hexdigest()


def imports_of(source: str) -> Iterator[str]:
    """Modules that a source imports anywhere; `from a import b` may mean the module a or the module a.b."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def complaints(pinned: Mapping[str, Pin], steps: Mapping[str, Pin]) -> list[str]:
    """One sentence a step that is out of step with its pin."""
    found = []
    for name in sorted(pinned.keys() | steps.keys()):
        old, new = pinned.get(name), steps.get(name)
        if old == new:
            continue
        if old is None or new is None or old.version != new.version:
            found.append(f"step {name} is new, gone or of a new version: pin it by `{REFRESH}`")
        else:
            found.append(
                f"the code of step {name} changed and its version did not, so old results would be taken for new ones: "
                f"bump `version` in its @step; if its results stay as they are, refresh the pin by `{REFRESH}`"
            )
    return found


def test_every_kind_of_difference_is_told_with_the_remedy() -> None:
    pinned = {"same": Pin(1, "a"), "changed": Pin(1, "a"), "bumped": Pin(1, "a"), "gone": Pin(1, "a")}
    steps = {"same": Pin(1, "a"), "changed": Pin(1, "b"), "bumped": Pin(2, "b"), "new": Pin(1, "a")}
    told = complaints(pinned, steps)
    assert [sentence.split(" step ")[-1].split(" ")[0] for sentence in told[1:2]] == ["changed"]
    assert [" bump `version` " in sentence for sentence in told] == [False, True, False, False]
    assert all(REFRESH in sentence for sentence in told)


def test_a_change_far_below_a_step_changes_its_pin(tmp_path: Path) -> None:
    (tmp_path / "tasks/phase").mkdir(parents=True)
    (tmp_path / "tasks/shared").mkdir()
    step, middle, far = (tmp_path / f"tasks/{name}.py" for name in ("phase/steps", "phase/rules", "shared/text"))
    step.write_text("from tasks.phase import rules\n")
    middle.write_text("def f():\n    import tasks.shared.text\n")
    far.write_text("x = 1\n")
    (tmp_path / "tasks/phase/other.py").write_text("y = 1\n")
    before = code_of("tasks.phase.steps", tmp_path)
    (tmp_path / "tasks/phase/other.py").write_text("y = 2\n")
    assert code_of("tasks.phase.steps", tmp_path) == before
    far.write_text("x = 2\n")
    assert code_of("tasks.phase.steps", tmp_path) != before
