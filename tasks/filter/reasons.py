"""Why a query is dropped."""

from __future__ import annotations

from enum import StrEnum


class DropReason(StrEnum):
    """One word a reason; where several hold, the first in this order names the drop."""

    EMPTY = "empty"
    NON_TEXT = "non_text"
    TOO_LONG = "too_long"
    URL = "url"
    IMAGE = "image"
    TABLE = "table"
    PROOF = "proof"
    MULTI_PART = "multi_part"
    INCOMPLETE = "incomplete"
    ANSWER_MISSING = "answer_missing"
    TESTS_MISSING = "tests_missing"
    CONSTRAINTS_MISSING = "constraints_missing"
    DUPLICATE = "duplicate"
    NEAR_DUPLICATE = "near_duplicate"
    SEMANTIC_DUPLICATE = "semantic_duplicate"
    LEAK_EXACT = "leak_exact"
    LEAK_REWORDED = "leak_reworded"
    LEAK_OVERLAP = "leak_overlap"
    LEAK_TESTS = "leak_tests"
    LEAK_SEMANTIC = "leak_semantic"
