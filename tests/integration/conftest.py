"""The integration suite's option: `--thorough` adds what takes minutes more (`make thorough`)."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--thorough", action="store_true", help="also run the tests that take minutes each")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--thorough"):
        return
    skipped = pytest.mark.skip(reason="takes minutes; run `make thorough`")
    for item in items:
        if item.get_closest_marker("thorough"):
            item.add_marker(skipped)
