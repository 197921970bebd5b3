"""``sred-email dlq``, ``stats``, ``pause``, ``erase`` and ``audit``, against a consumer in this process."""

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from typer.testing import CliRunner, Result

from sred.email.v1 import operations_service_pb2 as pb
from sred.email.v1.email_pb2 import DeadLetter, DeadLetterReason
from sred.email.v1.operations_service_pb2_grpc import (
    EmailOperationsServiceServicer,
    add_EmailOperationsServiceServicer_to_server,
)
from sred_email_operator.__main__ import app

NOON = Timestamp(seconds=1_750_000_000)


REFUSED = pb.DeadLetterGroup(
    reason=DeadLetterReason.DEAD_LETTER_REASON_REJECTED, error_group="422 No such\x1b[2J planet."
)
GROUPS = [
    pb.DeadLetterGroupStats(group=REFUSED, letters=1000, more=True, oldest_failed_at=NOON, latest_failed_at=NOON),
    pb.DeadLetterGroupStats(
        group=pb.DeadLetterGroup(reason=DeadLetterReason.DEAD_LETTER_REASON_POISON), letters=1, oldest_failed_at=NOON
    ),
]


class ConsumerDouble(EmailOperationsServiceServicer):
    """Has as many dead letters as it is told; remembers what it was asked."""

    def __init__(self) -> None:
        self.address = ""
        self.letters = 1200
        self.asked: list[Any] = []
        self.listed = pb.ListDeadLettersRequest()
        self.interrupts_after = self.fails_after = 0

    def ListDeadLetters(self, request: Any, context: Any) -> pb.ListDeadLettersResponse:  # noqa: ARG002, N802
        self.listed = request
        return pb.ListDeadLettersResponse(dead_letters=[DeadLetter(failed_at=NOON)] if self.letters else [])

    def ListDeadLetterGroups(self, request: Any, context: Any) -> pb.ListDeadLetterGroupsResponse:  # noqa: ARG002, N802
        return pb.ListDeadLetterGroupsResponse(groups=GROUPS)

    def ReplayDeadLetters(self, request: Any, context: Any) -> pb.ReplayDeadLettersResponse:  # noqa: ARG002, N802
        self.asked.append(request)
        if len(self.asked) == self.interrupts_after:
            signal.raise_signal(signal.SIGINT)
        if request.ids.values:
            return pb.ReplayDeadLettersResponse(skipped=len(request.ids.values))
        done = min(self.letters, request.limit)
        self.letters -= done
        return pb.ReplayDeadLettersResponse(replayed=done, skipped=2, remaining=self.letters)

    def DiscardDeadLetters(self, request: Any, context: Any) -> pb.DiscardDeadLettersResponse:  # noqa: N802
        self.asked.append(request)
        if self.fails_after and len(self.asked) > self.fails_after:
            context.abort(grpc.StatusCode.INTERNAL, "no more")
        done = min(self.letters, request.limit or len(request.ids.values))
        self.letters -= done
        return pb.DiscardDeadLettersResponse(discarded=done, remaining=0 if request.ids.values else self.letters)

    def ResolveDeadLetters(self, request: Any, context: Any) -> pb.ResolveDeadLettersResponse:  # noqa: ARG002, N802
        self.asked.append(request)
        return pb.ResolveDeadLettersResponse(resolved=len(request.ids.values))

    def EraseRecipient(self, request: Any, context: Any) -> pb.EraseRecipientResponse:  # noqa: ARG002, N802
        self.asked.append(request)
        return pb.EraseRecipientResponse(erased=2, deferred=1)

    def PauseDelivery(self, request: Any, context: Any) -> pb.PauseDeliveryResponse:  # noqa: ARG002, N802
        self.asked.append(request)
        return pb.PauseDeliveryResponse()

    def GetQueueStats(self, request: Any, context: Any) -> pb.GetQueueStatsResponse:  # noqa: ARG002, N802
        return pb.GetQueueStatsResponse(
            lanes=[
                pb.LaneStats(priority=1, waiting=7),  # type: ignore[arg-type]
                pb.LaneStats(priority=3, paused=True, pause_reason="twice", paused_since=NOON),  # type: ignore[arg-type]
            ],
            dispatch_since=NOON,
            dispatch_state=pb.DISPATCH_STATE_MISCONFIGURED,
            dispatch_reason="the key is revoked\x1b[2J",
            dead_letters=3,
        )

    def ListAuditEntries(self, request: Any, context: Any) -> pb.ListAuditEntriesResponse:  # noqa: ARG002, N802
        first = int(request.page_token or 0)
        entries = [pb.AuditEntry(action=f"DEED {n}") for n in range(first, min(first + request.page_size, 600))]
        end = first + len(entries)
        return pb.ListAuditEntriesResponse(entries=entries, next_page_token=str(end) if end < 600 else "")


@pytest.fixture
def consumer() -> Iterator[ConsumerDouble]:
    """A consumer that listens."""
    double = ConsumerDouble()
    server = grpc.server(ThreadPoolExecutor(2))
    add_EmailOperationsServiceServicer_to_server(double, server)
    double.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield double
    server.stop(None)


def run(consumer: ConsumerDouble, *words: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(app, [*words, "--address", consumer.address], input=answer)


def test_all_letters_are_replayed_in_chunks(consumer: ConsumerDouble) -> None:
    result = run(consumer, "dlq", "replay", "--all", "--yes", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"replayed": 1200, "skipped": 2, "remaining": 0})
    assert [request.limit for request in consumer.asked] == [500, 500, 500]
    assert {request.failed_until.ToJsonString() for request in consumer.asked} == {NOON.ToJsonString()}


def test_groups_of_letters_have_names_by_which_they_are_listed_and_sent_again(consumer: ConsumerDouble) -> None:
    shown = run(consumer, "dlq", "groups").stdout.splitlines()
    assert shown[0].split() == ["group", "letters", "oldest", "newest", "reason:", "error"]
    name, letters, *_ = shown[1].split()
    assert letters == ">1000"
    assert shown[1].endswith("REJECTED: 422 No such\\x1b[2J planet.")
    assert shown[2].endswith("POISON: no error")
    line = json.loads(run(consumer, "dlq", "groups", "--json").stdout.splitlines()[0])
    assert (line["name"], line["group"]["reason"], line["letters"]) == (name, "REJECTED", 1000)
    assert run(consumer, "dlq", "list", "--group", name).exit_code == 0
    assert (consumer.listed.reason, consumer.listed.error_group) == (REFUSED.reason, REFUSED.error_group)
    result = run(consumer, "dlq", "replay", "--group", name, "--json")
    assert json.loads(result.stdout)["replayed"] == 1200
    assert {(request.group.error_group, request.failed_until.seconds) for request in consumer.asked} == {
        (REFUSED.error_group, NOON.seconds)
    }


def test_on_a_narrow_terminal_rows_are_cut_but_no_error_of_a_group(
    consumer: ConsumerDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"FORCE_COLOR": "1", "NO_COLOR": "1", "TERM": "xterm", "COLUMNS": "50"}.items():
        monkeypatch.setenv(name, value)
    shown = run(consumer, "dlq", "groups").stdout
    assert "…" not in shown
    assert "No such" in shown
    assert "planet." in shown
    assert "…" in run(consumer, "dlq", "list").stdout


def test_throwing_a_group_away_is_asked_with_its_number_and_its_error(consumer: ConsumerDouble) -> None:
    refused = run(consumer, "dlq", "discard", "--group", name_of_refused(consumer), answer="n\n")
    assert "Throw away more than 1000 dead letters (REJECTED: 422 No such\\x1b[2J planet.)" in refused.stderr
    assert consumer.asked == []


def test_a_group_that_is_not_there_is_a_failure_and_nothing_is_done(consumer: ConsumerDouble) -> None:
    for words in (("replay",), ("discard", "--yes"), ("list",)):
        result = run(consumer, "dlq", *words, "--group", "ffffffff")
        assert (result.exit_code, consumer.asked, result.stdout) == (1, [], "")
        assert "`sred-email dlq groups` shows" in result.stderr


def name_of_refused(consumer: ConsumerDouble) -> str:
    return str(json.loads(run(consumer, "dlq", "groups", "--json").stdout.splitlines()[0])["name"])


def test_many_ids_are_cut_into_calls(consumer: ConsumerDouble) -> None:
    result = run(consumer, "dlq", "discard", *[f"id-{n}" for n in range(700)], "--yes", "--json")
    assert json.loads(result.stdout) == {"discarded": 700, "remaining": 0}
    assert [len(request.ids.values) for request in consumer.asked] == [500, 200]


def test_ids_that_cannot_be_replayed_are_a_failure(consumer: ConsumerDouble) -> None:
    result = run(consumer, "dlq", "replay", "one")
    assert result.exit_code == 1
    assert "none of them" in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("dlq", "replay", "--all"),
        ("dlq", "discard", "--all"),
        ("dlq", "discard", "--reason", "REJECTED"),
        ("dlq", "discard", "one"),
        ("dlq", "discard", "--group", "75d4948d"),
        ("dlq", "resolve", "one", "--delivered"),
        ("erase", "ada@example.com"),
    ],
)
def test_what_cannot_be_taken_back_is_asked_first(consumer: ConsumerDouble, words: tuple[str, ...]) -> None:
    for answer in ("n\n", "", None):
        refused = run(consumer, *words, answer=answer)
        assert (refused.exit_code, consumer.asked) == (1, [])
        assert "nothing was done" in refused.stderr
    assert run(consumer, *words, answer="y\n").exit_code == 0
    assert consumer.asked
    assert run(consumer, *words, "--yes", "--json").exit_code == 0


@pytest.mark.parametrize(
    "words",
    [
        ("dlq", "replay"),
        ("dlq", "discard", "--all", "--reason", "POISON"),
        ("dlq", "replay", "one", "--all"),
        ("dlq", "replay", "--group", "75d4948d", "--reason", "REJECTED"),
        ("dlq", "list", "--group", "75d4948d", "--reason", "REJECTED"),
        ("dlq", "replay", "--reason", "BORED"),
        ("dlq", "resolve", "one"),
        ("pause", "--lane", "FAST"),
        ("erase",),
    ],
)
def test_what_is_not_clear_is_wrong_usage(consumer: ConsumerDouble, words: tuple[str, ...]) -> None:
    result = run(consumer, *words)
    assert (result.exit_code, consumer.asked) == (2, [])
    assert result.stderr


def test_a_resolution_says_what_and_how_it_is_known(consumer: ConsumerDouble) -> None:
    run(consumer, "dlq", "resolve", "one", "two", "--not-delivered", "--note", "asked her", "--yes")
    (request,) = consumer.asked
    assert (list(request.ids.values), request.delivered, request.note) == (["one", "two"], False, "asked her")


def test_an_erasure_tells_what_has_to_wait(consumer: ConsumerDouble) -> None:
    result = run(consumer, "erase", "ada@example.com", "--yes")
    assert result.stdout == "2 erased, 1 deferred\n"
    assert "when it has ended" in result.stderr


def test_one_lane_is_paused_with_a_reason(consumer: ConsumerDouble) -> None:
    result = run(consumer, "pause", "--lane", "low", "--reason", "twice", "--json")
    assert json.loads(result.stdout) == {"paused": ["LOW"]}
    assert (consumer.asked[0].priority, consumer.asked[0].reason) == (3, "twice")


def test_the_state_is_told_with_its_reason_and_cannot_steer_the_terminal(consumer: ConsumerDouble) -> None:
    result = run(consumer, "stats")
    assert "MISCONFIGURED: the key is revoked\\x1b[2J" in result.stdout
    assert "since         2025-06-15 15:06:40 UTC\n" in result.stdout
    assert "  paused since 2025-06-15 15:06:40 UTC: twice\n" in result.stdout
    assert json.loads(run(consumer, "stats", "--json").stdout)["dispatch_state"] == "MISCONFIGURED"


def test_the_audit_is_listed_over_its_pages(consumer: ConsumerDouble) -> None:
    lines = run(consumer, "audit", "--limit", "550", "--json").stdout.splitlines()
    assert len(lines) == 550
    assert json.loads(lines[-1])["action"] == "DEED 549"


@pytest.mark.parametrize("words", [(), ("dlq",), ("suppressions",), ("template",)])
def test_no_summary_in_the_help_is_cut_on_a_terminal_of_80_columns(words: tuple[str, ...]) -> None:
    _, _, commands = CliRunner().invoke(app, [*words, "--help"], terminal_width=80).stdout.partition("Commands:")
    assert commands
    assert "..." not in commands


def test_ctrl_c_lets_the_call_under_way_end_and_says_how_many_are_done(consumer: ConsumerDouble) -> None:
    consumer.interrupts_after = 2
    result = run(consumer, "dlq", "replay", "--all", "--yes")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "sred-email: interrupted: 1000 replayed, 200 left. Run it again for the rest\n"
    assert len(consumer.asked) == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_failed_call_says_how_many_were_done_before_it(consumer: ConsumerDouble) -> None:
    consumer.fails_after = 2
    result = run(consumer, "dlq", "discard", "--all", "--yes")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        "1000 discarded before the call that failed: run it again for the rest",
        "sred-email: INTERNAL: no more",
    ]
