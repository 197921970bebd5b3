"""How the commands print."""

import io
from contextlib import redirect_stdout

import pytest
from rich.console import Console

from sred.email.v1.email_pb2 import DeadLetterReason, Email, EmailStatus
from sred.email.v1.operations_service_pb2 import GetQueueStatsResponse
from sred_email_operator import output


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch, **env: str) -> str:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    with redirect_stdout(terminal):
        output.show(Email(status=EmailStatus.EMAIL_STATUS_SUCCESS), as_json=False)
    return terminal.getvalue()


def test_a_terminal_gets_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[32mSUCCESS" in shown_on_a_terminal(monkeypatch)


def test_no_color_is_respected_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = shown_on_a_terminal(monkeypatch, NO_COLOR="1")
    assert "SUCCESS" in shown
    assert "\x1b[32m" not in shown


def test_a_dumb_terminal_gets_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in shown_on_a_terminal(monkeypatch, TERM="dumb")


def test_json_holds_nested_messages_with_short_enum_values_too() -> None:
    stats = GetQueueStatsResponse()
    stats.lanes.add(priority="PRIORITY_HIGH", waiting=3)
    shown = output.as_dict(stats)
    assert shown["dispatch_state"] == "UNSPECIFIED"
    assert isinstance(shown["lanes"], list)
    assert shown["lanes"][0]["priority"] == "HIGH"


def test_an_enum_value_of_a_later_contract_is_shown_as_its_number() -> None:
    assert output.enum_name(EmailStatus.DESCRIPTOR, 99) == "99"
    assert output.as_dict(Email(status=99))["status"] == 99  # type: ignore[arg-type]


def test_enum_values_are_named_without_their_prefix() -> None:
    assert output.enum_name(DeadLetterReason.DESCRIPTOR, 3) == "OUTCOME_UNKNOWN"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_spinner_shows_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=is_terminal, color_system=None)
    monkeypatch.setattr(output, "console", lambda **_: console)
    with output.spinner("it is on its way") as tell:
        tell("it is \x1bSENDING")
    assert ("it is \\x1bSENDING" in screen.getvalue()) == is_terminal
    assert bool(screen.getvalue()) == is_terminal
