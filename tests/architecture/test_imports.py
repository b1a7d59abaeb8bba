"""Who may import whom: the contracts hold on the tree, and each of them catches what it forbids."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("flows", "tasks", "infra")
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")
LAYERS = "flows, then phases, then what phases share, then records, then infra"


class Planted(NamedTuple):
    """An import that a contract forbids."""

    contract: str
    file: str
    line: str

    @property
    def imports(self) -> str:
        """The module that the line imports."""
        words = self.line.split()
        return words[1] if words[0] == "from" else words[-1]


PLANTED = (
    Planted(LAYERS, "infra/planted.py", "import tasks.records"),
    Planted(LAYERS, "tasks/filter/planted.py", "import tasks.ingest.config"),
    Planted(LAYERS, "tasks/training/planted.py", "import tasks.ingest.config"),
    Planted(LAYERS, "tasks/procedural/planted.py", "import tasks.generation.policy"),
    Planted(LAYERS, "tasks/records.py", "import tasks.procedural.config"),
    Planted(LAYERS, "tasks/ingest/planted.py", "import flows.recipe"),
    Planted("MLflow only in infra.lineage", "infra/store.py", "import mlflow"),
    Planted(
        "Prefect only in flows, and in the modules of infra that run flows and the stack",
        "tasks/filter/steps.py",
        "from prefect import task",
    ),
    Planted(
        "vLLM is a process and HTTP; only its own extension imports it", "tasks/generation/planted.py", "import vllm"
    ),
    Planted(
        "torch and deepspeed only where models train or score texts",
        "tasks/filter/planted.py",
        "def f(): import torch",
    ),
    Planted(
        "torch and deepspeed only where models train or score texts",
        "flows/planted.py",
        "import deepspeed",
    ),
    Planted(
        "transformers only where models train or score texts, or tokenize",
        "tasks/verify/planted.py",
        "from transformers import AutoTokenizer",
    ),
)


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [LINT_IMPORTS, "--no-cache", "--no-logo", "--config", "pyproject.toml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def contracts() -> set[str]:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return {contract["name"] for contract in config["tool"]["importlinter"]["contracts"]}


def test_the_tree_keeps_every_contract() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in contracts():
        assert f"{name} KEPT" in done.stdout


def test_every_contract_has_a_planted_violation() -> None:
    assert {planted.contract for planted in PLANTED} == contracts()


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: f"{planted.file}: {planted.line}")
def test_a_planted_violation_breaks_its_contract_and_is_named(tmp_path: Path, planted: Planted) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / planted.file).open("a") as file:
        file.write(f"\n{planted.line}\n")
    done = lint(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{planted.contract} BROKEN" in done.stdout
    assert f"{planted.file.removesuffix('.py').replace('/', '.')} -> {planted.imports}" in done.stdout
