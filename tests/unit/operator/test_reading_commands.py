"""``list``, ``watch`` and the timeline of ``status``, against services in this process."""

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.code_pb2 import INVALID_ARGUMENT, OUT_OF_RANGE
from typer.testing import CliRunner, Result
from unit.operator.ingress_double import EMAIL_ID, NOON, ConsumerDouble, IngressDouble, email

from sred.email.v1.dispatch_service_pb2 import WatchEmailsResponse
from sred.email.v1.email_pb2 import DeliveryState, EmailEvent, EmailKind, EmailStatus
from sred_email_operator.__main__ import app

NOBODY = "127.0.0.1:1"
QUEUED, RETRYING = EmailStatus.EMAIL_STATUS_QUEUED, EmailStatus.EMAIL_STATUS_RETRYING
SUCCESS, FAILED = EmailStatus.EMAIL_STATUS_SUCCESS, EmailStatus.EMAIL_STATUS_FAILED


def run(*words: str, ingress: IngressDouble, consumer: str = NOBODY) -> Result:
    env = {"SRED_EMAIL_INGRESS_ADDRESS": ingress.address, "SRED_EMAIL_CONSUMER_ADDRESS": consumer}
    result = CliRunner().invoke(app, words, env=env)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "\x1b" not in result.output
    return result


def happened(token: str, status: EmailStatus.ValueType, **fields: Any) -> WatchEmailsResponse:
    event = EmailEvent(email_id=EMAIL_ID, status=status, at=NOON, **fields)
    return WatchEmailsResponse(event=event, resume_token=token)


def test_list_hands_over_every_filter(ingress: IngressDouble) -> None:
    result = run(
        *("list", "--status", "failed", "--status", "EMAIL_STATUS_EXPIRED", "--recipient", "ada@example.com"),
        *("--kind", "password-reset", "--after", "2026-03-01", "--before", "2026-03-01T12:30+02:00", "--limit", "7"),
        ingress=ingress,
    )
    assert result.exit_code == 0
    (asked,) = ingress.listed
    assert list(asked.statuses) == [FAILED, EmailStatus.EMAIL_STATUS_EXPIRED]
    assert (asked.recipient, asked.kind) == ("ada@example.com", EmailKind.EMAIL_KIND_PASSWORD_RESET)
    assert asked.created_after.ToDatetime(UTC) == datetime(2026, 3, 1, tzinfo=UTC)
    assert asked.created_before.ToDatetime(UTC) == datetime(2026, 3, 1, 10, 30, tzinfo=UTC)
    assert asked.page_size == 7
    assert result.stdout == ""
    assert result.stderr == "no email is like that\n"


def test_list_takes_a_time_as_so_long_ago(ingress: IngressDouble) -> None:
    run("list", "--after", "90m", ingress=ingress)
    ago = datetime.now(UTC) - ingress.listed[0].created_after.ToDatetime(UTC)
    assert timedelta(minutes=90) <= ago < timedelta(minutes=91)
    assert not ingress.listed[0].HasField("created_before")


def test_list_shows_people_a_table_and_that_there_are_more(ingress: IngressDouble) -> None:
    ingress.emails = [email(), email(RETRYING, subject="Hello \x1b[31m"), email()]
    result = run("list", "--limit", "2", ingress=ingress)
    assert result.exit_code == 0
    head, first, second = result.stdout.splitlines()
    assert head.split() == ["created_at", "email_id", "kind", "status", "delivery", "attempts", "to", "subject"]
    assert first.split() == [
        *("2025-06-15", "15:06:40.123", "UTC", EMAIL_ID, "WELCOME", "SUCCESS", "DELIVERED", "1"),
        *("ada@example.com", "+1", "Welcome"),
    ]
    assert "RETRYING" in second
    assert "Hello \\x1b[31m" in second
    assert result.stderr.startswith("there are more")


def test_list_follows_the_pages_up_to_the_limit_and_prints_an_object_on_each_line(ingress: IngressDouble) -> None:
    ingress.emails = [email(subject=f"subject {n}") for n in range(1300)]
    result = run("list", "--limit", "1200", "--json", ingress=ingress)
    assert result.exit_code == 0
    listed = [json.loads(line) for line in result.stdout.splitlines()]
    assert [one["subject"] for one in listed] == [f"subject {n}" for n in range(1200)]
    assert listed[0]["status"] == "SUCCESS"
    assert listed[0]["created_at"] == "2025-06-15T15:06:40.123Z"
    assert [(asked.page_size, asked.page_token) for asked in ingress.listed] == [(500, ""), (500, "500"), (200, "1000")]
    assert result.stderr == ""


def test_list_that_is_refused_fails_with_the_reason(ingress: IngressDouble) -> None:
    ingress.refuse_with(code=INVALID_ARGUMENT, message="recipient is no address")
    result = run("list", "--recipient", "nobody", ingress=ingress)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == ["sred-email: INVALID_ARGUMENT: recipient is no address"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("list", "--status", "nonsense"), "QUEUED"),
        (("list", "--kind", "nonsense"), "PASSWORD_RESET"),
        (("list", "--after", "yesterday"), "24h"),
        (("list", "--before", "99999999d"), "--before"),
        (("list", "--before", "999999d"), "--before"),
        (("list", "--limit", "0"), "--limit"),
        (("watch", "--timeout", "0"), "--timeout"),
    ],
)
def test_wrong_usage_is_exit_code_2_with_the_reason(
    ingress: IngressDouble, words: tuple[str, ...], reason: str
) -> None:
    result = run(*words, ingress=ingress)
    assert (result.exit_code, result.stdout) == (2, "")
    assert reason in result.stderr


def test_watch_shows_what_happens_line_by_line(ingress: IngressDouble) -> None:
    told = [
        happened("t1", QUEUED),
        happened("t2", RETRYING, attempt=1, reason="no answer\x1b"),
        happened("t3", SUCCESS, attempt=2, provider_message_id="p-1", delivery=DeliveryState.DELIVERY_STATE_SENT),
    ]
    ingress.happenings = [(told, grpc.StatusCode.OUT_OF_RANGE)]
    result = run("watch", EMAIL_ID, ingress=ingress)
    assert [line.split()[2:] for line in result.stdout.splitlines()] == [
        ["UTC", EMAIL_ID, "QUEUED", "-"],
        ["UTC", EMAIL_ID, "RETRYING", "-", "attempt", "1", "no", "answer\\x1b"],
        ["UTC", EMAIL_ID, "SUCCESS", "SENT", "attempt", "2", "p-1"],
    ]
    assert list(ingress.watched[0].email_ids) == [EMAIL_ID]
    assert result.exit_code == 1
    assert result.stderr.splitlines() == ["sred-email: OUT_OF_RANGE: it ends"]


def test_watch_prints_an_object_on_each_line_with_the_token_to_go_on_with(ingress: IngressDouble) -> None:
    ingress.happenings = [([happened("t1", RETRYING, attempt=1)], grpc.StatusCode.OUT_OF_RANGE)]
    result = run("watch", "--json", "--resume-token", "t0", ingress=ingress)
    assert json.loads(result.stdout) == {
        "email_id": EMAIL_ID,
        "status": "RETRYING",
        "delivery": "UNSPECIFIED",
        "at": "2025-06-15T15:06:40.123Z",
        "attempt": 1,
        "reason": "",
        "provider_message_id": "",
        "resume_token": "t1",
    }
    assert ingress.watched[0].resume_token == "t0"


def test_watch_goes_on_after_the_last_event_when_the_service_was_away(ingress: IngressDouble) -> None:
    ingress.happenings = [
        ([], grpc.StatusCode.UNAVAILABLE),
        ([happened("t1", QUEUED)], grpc.StatusCode.UNAVAILABLE),
        ([happened("t2", SUCCESS)], grpc.StatusCode.OUT_OF_RANGE),
    ]
    result = run("watch", ingress=ingress)
    assert [line.split()[4] for line in result.stdout.splitlines()] == ["QUEUED", "SUCCESS"]
    assert [asked.resume_token for asked in ingress.watched] == ["", "begun", "t1"]


def test_watch_gives_up_on_a_service_that_stays_away(ingress: IngressDouble) -> None:
    result = run("watch", "--address", NOBODY, "--timeout", "0.1", ingress=ingress)
    assert result.exit_code == 1
    assert f"nobody answers at {NOBODY}" in result.stderr


def test_watch_that_is_refused_fails_with_the_reason(ingress: IngressDouble) -> None:
    ingress.refuse_with(code=OUT_OF_RANGE, message="the token is too old")
    result = run("watch", "--resume-token", "old", ingress=ingress)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == ["sred-email: OUT_OF_RANGE: the token is too old"]


def test_ctrl_c_ends_watch_with_exit_code_0_and_each_line_is_there_at_once(ingress: IngressDouble) -> None:
    ingress.happenings = [([happened("t1", QUEUED)], None)]
    program = Path(sys.executable).with_name("sred-email")
    with subprocess.Popen(  # noqa: S603 - our own program
        [program, "watch", "--json", "--address", ingress.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    ) as watching:
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline())["resume_token"] == "t1"
        watching.send_signal(signal.SIGINT)
        rest, errors = watching.communicate(timeout=20)
    assert (watching.returncode, rest, errors) == (0, "", "")


def test_status_shows_the_timeline_that_the_consumer_knows(ingress: IngressDouble, consumer: ConsumerDouble) -> None:
    result = run("status", EMAIL_ID, ingress=ingress, consumer=consumer.address)
    assert result.exit_code == 0
    assert consumer.asked[0].email_id == EMAIL_ID
    lines = result.stdout.splitlines()
    begin = next(n for n, line in enumerate(lines) if line.startswith("timeline "))
    assert lines[begin].split() == ["timeline", "2025-06-15", "15:06:40.123", "UTC", "ACCEPTED"]
    assert lines[begin + 1].split()[2:] == [
        *("UTC", "ATTEMPT_FAILED", "attempt", "1", "no\\x1banswer", "by", "consumer-1"),
    ]
    assert lines[begin + 2].split() == ["timeline_is_whole", "yes"]
    as_json = json.loads(run("status", EMAIL_ID, "--json", ingress=ingress, consumer=consumer.address).stdout)
    assert [entry["what"] for entry in as_json["timeline"]] == ["ACCEPTED", "ATTEMPT_FAILED"]
    assert as_json["timeline"][1]["consumer"] == "consumer-1"
    assert as_json["timeline_is_whole"] is True


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"status": QUEUED}, [("ACCEPTED", "")]),
        ({"status": RETRYING, "last_error": "no answer"}, [("ACCEPTED", ""), ("RETRYING", "no answer")]),
        ({"status": FAILED, "last_error": "refused"}, [("ACCEPTED", ""), ("FAILED", "refused")]),
        (
            {"status": SUCCESS, "provider_message_id": "p-1", "sent_at": Timestamp(seconds=1_750_000_001)},
            [("ACCEPTED", ""), ("SENT", "p-1")],
        ),
    ],
)
def test_status_tells_what_the_email_itself_knows_where_the_consumer_does_not_answer(
    ingress: IngressDouble, fields: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    ingress.states = [email(**fields)]
    shown = json.loads(run("status", EMAIL_ID, "--json", ingress=ingress).stdout)
    assert [(entry["what"], entry["detail"]) for entry in shown["timeline"]] == expected
    assert shown["timeline_is_whole"] is False
