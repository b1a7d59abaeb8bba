"""Options of the architecture tests."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--refresh-pins` writes what test_step_versions.py compares with."""
    parser.addoption("--refresh-pins", action="store_true", help="write the steps' source hashes anew")
