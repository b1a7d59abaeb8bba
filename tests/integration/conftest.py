"""The integration suite's options: `--thorough` adds what takes minutes more (`make thorough`); `--artifacts DIR`."""

from __future__ import annotations

from pathlib import Path

import pytest

ARTIFACTS = Path(__file__).resolve().parents[2] / ".pytest_artifacts"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--thorough", action="store_true", help="also run the tests that take minutes each")
    parser.addoption("--artifacts", type=Path, default=ARTIFACTS, help="folder for what tests leave to be looked at")


# The files that take longest, longest first: with workers side by side none of them is left for the end.
LONGEST = (
    "test_stack", "test_smoke", "test_browser", "test_training", "test_s3", "test_semantic_model",
    "test_filter_real_data", "test_math_hostile", "test_hostile_programs", "test_vllm_server", "test_docker_pool",
    "test_sandbox_docker", "test_llm_chaos", "test_mlflow_order", "test_bad_input", "test_code_benchmarks",
    "test_resume", "test_real_sample",
)  # fmt: skip


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
    if config.getoption("--thorough"):
        return
    skipped = pytest.mark.skip(reason="takes minutes; run `make thorough`")
    for item in items:
        if item.get_closest_marker("thorough"):
            item.add_marker(skipped)


@pytest.fixture(scope="session")
def artifacts(pytestconfig: pytest.Config) -> Path:
    """Where tests leave what a person may look at: screenshots."""
    folder: Path = pytestconfig.getoption("--artifacts")
    return folder
