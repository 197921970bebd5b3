"""Alerts and dashboard: they ask for metrics that there are, and each alert leads to a place in the runbook."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "deploy" / "observability"
ALERTS = (FOLDER / "alerts.yaml").read_text()
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())
TESTS = (FOLDER / "alerts_test.yaml").read_text()
ROWS = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) ?\| ", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
SERIES = {
    name + suffix
    for name, kind, _ in ROWS
    for suffix in (("_bucket", "_count", "_sum") if kind == "histogram" else ("",))
}


def metrics_in(text: str) -> set[str]:
    return set(re.findall(r"\bsred_email_\w+", text))


def test_alerts_ask_for_metrics_that_there_are() -> None:
    assert metrics_in(ALERTS)
    assert metrics_in(ALERTS) - SERIES == set()


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    queries = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    assert len(queries) > 20
    assert metrics_in(" ".join(queries)) - SERIES == set()
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_each_alert_leads_to_a_heading_of_the_runbook() -> None:
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    alerts = re.findall(r"^ +- alert: (\w+)$", ALERTS, re.MULTILINE)
    linked = re.findall(r"runbook: docs/runbook\.md#(\S+)$", ALERTS, re.MULTILINE)
    assert len(linked) == len(alerts)
    assert set(linked) - anchors == set()


def test_each_alert_is_fired_by_its_test() -> None:
    assert set(re.findall(r"- alert: (\w+)$", ALERTS, re.MULTILINE)) == set(
        re.findall(r"- name: (\w+)$", TESTS, re.MULTILINE)
    )


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool, which comes with Prometheus, is not installed")
@pytest.mark.parametrize("arguments", [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]])
def test_promtool_agrees(arguments: list[str]) -> None:
    result = subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)  # noqa: S603, S607 - ours
    assert result.returncode == 0, result.stdout + result.stderr
