"""The metrics of the running services are those that docs/metrics.md tells of."""

import re
from pathlib import Path

import pytest
from e2e.test_delivery_truth import start
from prometheus_client.parser import text_string_to_metric_families

from support.world import Service, World

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "metrics.md").read_text()
ROW = re.compile(r"^\| `(?P<name>\w+)` \| (?P<type>\w+) \| (?P<labels>.*?) ?\| ", re.MULTILINE)


def documented(heading: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Type and labels of each metric under a heading of the page."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return {
        row["name"]: (row["type"], frozenset(re.findall(r"`(\w+)`", row["labels"]))) for row in ROW.finditer(section)
    }


async def shown(service: Service) -> dict[str, tuple[str, frozenset[str] | None]]:
    """Type and labels of each of our metrics that a service shows; labels None: it has no value yet."""
    found: dict[str, tuple[str, frozenset[str] | None]] = {}
    for family in text_string_to_metric_families((await service.get("/metrics"))[1]):
        if family.name.startswith("sred_email"):
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = [frozenset(sample.labels) - {"le"} for sample in family.samples]
            assert len(set(labels)) <= 1, name
            found[name] = (family.type, labels[0] if labels else None)
    return found


@pytest.mark.parametrize(("kind", "heading"), [("ingress", "Ingress"), ("consumer", "Consumer")])
async def test_the_page_tells_of_each_metric_what_the_service_shows(world: World, kind: str, heading: str) -> None:
    service = await start(world) if kind == "ingress" else await world.start("consumer")
    told = documented(heading) | documented("Both services")
    seen = await shown(service)
    assert set(seen) == set(told)
    for name, (type_, labels) in seen.items():
        assert type_ == told[name][0], name
        assert labels in (None, told[name][1]), name
