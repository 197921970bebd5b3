"""What is broken on purpose is there to be broken."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MUTATIONS = tomllib.loads((ROOT / "tools/mutations.toml").read_text(encoding="utf-8"))["mutation"]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation["change"][:60])
def test_what_is_replaced_stands_once_in_its_file(mutation: dict[str, str]) -> None:
    text = (ROOT / mutation["file"]).read_text(encoding="utf-8")
    assert text.count(mutation["old"]) == 1
    assert (ROOT / mutation["tests"].partition("::")[0].split()[0]).exists()


def test_each_mutation_stands_on_the_page_about_reliability() -> None:
    page = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    assert [each["change"] for each in MUTATIONS if f"| {each['hazard']} | {each['change']} | `" not in page] == []
