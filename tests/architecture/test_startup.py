"""Planning and `--help` stay quick because nothing heavy is loaded: asserted on modules, never on a clock."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {
    "torch", "transformers", "tokenizers", "deepspeed", "prefect", "mlflow", "vllm", "openai", "math_verify", "sympy",
    "datasets", "pandas", "s3fs", "docker", "fastapi",
}  # fmt: skip
ENTRIES = ("flows.cli", "flows.recipe", "flows.post_train")


def loaded_by(module: str) -> set[str]:
    """Top-level names in `sys.modules` of a fresh interpreter that imported `module`."""
    program = (
        f"import json, sys, {module}; print(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("module", ENTRIES)
def test_importing_what_plan_needs_loads_nothing_heavy(module: str) -> None:
    assert loaded_by(module) & HEAVY == set()


def test_the_check_sees_what_is_loaded() -> None:
    assert {"openai", "json"} <= loaded_by("openai")
