"""docs/runbook.md has a word about all that can be wrong, and names nothing that is not there."""

import re
from pathlib import Path

import pytest

from sred.email.v1 import email_pb2, operations_service_pb2
from sred_email_ingress.recovery.passes import Mended

ROOT = Path(__file__).resolve().parents[3]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
METRICS = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE))
STATES = [n.removeprefix("DISPATCH_STATE_") for n in operations_service_pb2.DispatchState.keys()[1:]]
REASONS = [n.removeprefix("DEAD_LETTER_REASON_") for n in email_pb2.DeadLetterReason.keys()[1:]]


@pytest.mark.parametrize("state", [state for state in STATES if state != "RUNNING"])
def test_each_state_in_which_delivery_stands_has_its_section(state: str) -> None:
    assert f"\n### {state}\n" in RUNBOOK


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_of_a_dead_letter_has_its_row(reason: str) -> None:
    assert f"\n| {reason} | " in RUNBOOK


@pytest.mark.parametrize("found", Mended)
def test_each_finding_of_the_reconciler_is_explained(found: Mended) -> None:
    assert re.search(rf"^\| [^|]*\b{found.value}\b", RUNBOOK, re.MULTILINE)


def test_every_metric_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"\bsred_email_\w+", RUNBOOK))
    assert named
    assert named - METRICS == set()


def test_every_event_of_the_log_that_the_page_tells_of_is_logged_somewhere() -> None:
    table = RUNBOOK.split("## The log", 1)[1]
    named = {
        event for row in re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE) for event in re.findall(r"`(\w+)`", row)
    }
    source = "".join(file.read_text() for file in (ROOT / "services").rglob("src/**/*.py"))
    assert len(named) > 10
    assert {event for event in named if f'"{event}"' not in source} == set()
