"""What a line of log is like, and what of an address may stand in one."""

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sred_email_core.logs import mask_address, mask_addresses


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        ("ada@example.com", "a…@example.com"),
        ("a@example.com", "a…@example.com"),
        ("ada.lovelace+news@sub.example.com", "a…@sub.example.com"),
        ('"ada@home"@example.com', '"…@example.com'),
        ("@example.com", "…@example.com"),
        ("no address", "…"),
        ("", "…"),
    ],
)
def test_an_address_shows_its_first_letter_and_its_domain(address: str, masked: str) -> None:
    assert mask_address(address) == masked


@given(local=st.text(min_size=2), domain=st.text(max_size=20).filter(lambda text: "@" not in text))
def test_of_the_local_part_never_more_than_one_character_is_shown(local: str, domain: str) -> None:
    assert mask_address(f"{local}@{domain}") == f"{local[0]}…@{domain}"


@given(st.text().filter(lambda text: "@" not in text))
def test_nothing_is_shown_of_what_is_no_address(text: str) -> None:
    assert mask_address(text) == "…"


def test_addresses_in_the_words_of_others_are_masked() -> None:
    words = "Invalid `to` field: 'ada.l@example.com' <bob@example.org>, and no other."
    assert mask_addresses(words) == "Invalid `to` field: 'a…@example.com' <b…@example.org>, and no other."


_LINES = """
import logging, sys, uuid
import structlog
from sred_email_core.logs import configure_logs
log = structlog.get_logger("ours")
configure_logs("INFO", sys.argv[1], service="consumer")
log.info("sent", ids=[uuid.UUID(int=1)], words="\\udce4", number=2**70)
log.debug("too much")
logging.getLogger("library").warning("foreign %s", 1)
try:
    raise ValueError("bad")
except ValueError:
    log.exception("failed")
"""


def _lines(log_format: str) -> list[str]:
    command = [sys.executable, "-c", _LINES, log_format]
    return subprocess.run(command, capture_output=True, check=True, text=True).stderr.splitlines()  # noqa: S603


def test_each_event_is_one_line_of_json_whatever_it_holds_and_whoever_tells_it() -> None:
    told: list[dict[str, Any]] = [json.loads(line) for line in _lines("json")]
    assert [(line["event"], line["level"]) for line in told] == [
        ("sent", "info"),
        ("foreign 1", "warning"),
        ("failed", "error"),
    ]
    assert all(line["service"] == "consumer" and line["timestamp"].endswith("Z") for line in told)
    assert "ValueError: bad" in told[2]["exception"]
    assert told[0]["words"] == "\udce4"


def test_people_at_a_terminal_get_lines_that_they_can_read() -> None:
    told = "\n".join(_lines("console"))
    assert "sent" in told
    assert "foreign 1" in told
    assert not told.startswith("{")
