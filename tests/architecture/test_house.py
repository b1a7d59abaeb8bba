"""The house rules that a machine can check."""

from __future__ import annotations

import ast
import subprocess
from functools import cache
from pathlib import Path

import pytest
from pydantic import BaseModel

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("flows", "tasks", "infra")
TOP_LEVEL = {
    ".ci", ".dockerignore", ".gitignore", "CHANGELOG.md", "LICENSE", "Makefile", "README.md", "constraints.txt",
    "deployments", "docker", "flows", "infra", "pyproject.toml", "tasks", "tests",
}  # fmt: skip
BANNED_NAMES = {"utils", "util", "helpers", "helper", "manager", "common", "misc", "data"}
MAX_LINES = 400
READS_ENVIRONMENT = {"infra/runtime.py"}


@cache
def files() -> tuple[Path, ...]:
    """What is in the repository or will be with the next commit."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout, so what belongs to the tree is not known")
    return tuple(path for name in done.stdout.split("\0") if name and (path := Path(name)) and (ROOT / path).exists())


def modules() -> list[Path]:
    return [path for path in files() if path.suffix == ".py" and path.parts[0] in PACKAGES]


def tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def test_the_top_level_holds_what_the_architecture_names() -> None:
    assert {path.parts[0] for path in files()} <= TOP_LEVEL


def test_no_file_is_too_long_to_read() -> None:
    long = {
        str(path): lines
        for path in files()
        if path.suffix == ".py" and (lines := len((ROOT / path).read_text(encoding="utf-8").splitlines())) > MAX_LINES
    }
    assert long == {}, "split at the seam between two ideas"


def test_modules_are_named_for_what_they_hold() -> None:
    parts = {part for path in modules() for part in (*path.parts[:-1], path.stem)}
    assert parts & BANNED_NAMES == set()


def test_folders_that_are_no_packages_stay_so() -> None:
    """A package there would shadow a real one: `docker`, or `tasks` as `tests/tasks`."""
    assert [path for path in files() if path.name == "__init__.py" and path.parts[0] not in PACKAGES] == []


def test_a_package_file_holds_a_docstring_only() -> None:
    for path in modules():
        if path.name == "__init__.py":
            body = tree(path).body
            assert len(body) == 1, f"{path}: a docstring, nothing else"
            assert ast.get_docstring(tree(path)), f"{path}: say in one line what the package is for"


def test_every_module_says_what_it_is_for() -> None:
    assert [str(path) for path in modules() if not ast.get_docstring(tree(path))] == []


def test_only_runtime_reads_the_environment() -> None:
    readers = {path.as_posix() for path in modules() if any(_reads_environment(node) for node in ast.walk(tree(path)))}
    assert readers <= READS_ENVIRONMENT


def _reads_environment(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv", "putenv"}


def test_every_config_field_has_a_description() -> None:
    """It is the form that people fill in; a name that says all is no exception in a recipe."""
    from flows.recipe import Recipe

    assert sorted(_silent_fields(Recipe, set())) == []


def _silent_fields(model: type[BaseModel], seen: set[type]) -> set[str]:
    from infra.config import _models_in

    if model in seen:
        return set()
    seen.add(model)
    silent: set[str] = set()
    for name, field in model.model_fields.items():
        if not field.description:
            silent.add(f"{model.__name__}.{name}")
        for inner in _models_in(field.annotation):
            silent |= _silent_fields(inner, seen)
    return silent
