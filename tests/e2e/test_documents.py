"""The documents for callers do what they say: their Python runs, on the running pair."""

from pathlib import Path

import pytest

from support.snippets import run_document
from support.world import World

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("page", ["docs/guide-for-callers.md", "shared/client/README.md"])
async def test_the_python_of_a_page_runs(world: World, page: str) -> None:
    ingress, _ = await world.start_pair()
    text = (ROOT / page).read_text(encoding="utf-8")
    names = await run_document(text, page, replace={"localhost:50051": ingress.address})
    assert names["client"]
