"""docs/reliability.md and docs/postgresql.md name the tests that hold their sentences: each must be there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("page", ["reliability.md", "postgresql.md"])
def test_every_test_that_the_page_names_is_there(page: str) -> None:
    named = set(re.findall(r"\btest_[a-z0-9_]{12,}\b(?!\.py)", (ROOT / "docs" / page).read_text()))
    files = (ROOT / "tests").rglob("test_*.py")
    there = {name for file in files for name in re.findall(r"def (test_\w+)", file.read_text())}
    assert named
    assert named - there == set()


def test_every_file_that_the_page_names_is_there() -> None:
    named = set(
        re.findall(r"\b((?:crash|integration|unit|e2e)/[\w/]+\.py)", (ROOT / "docs" / "reliability.md").read_text())
    )
    assert named
    assert {name for name in named if not (ROOT / "tests" / name).exists()} == set()
