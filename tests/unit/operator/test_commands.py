"""The commands of ``sred-email``, against an ingress in this process."""

import json
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.code_pb2 import ALREADY_EXISTS, FAILED_PRECONDITION, NOT_FOUND, UNAVAILABLE
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from typer.testing import CliRunner, Result
from unit.operator.ingress_double import EMAIL_ID, IngressDouble, email

from sred.email.v1.email_pb2 import Attachment, Email, EmailKind, EmailStatus, Priority
from sred_email_operator.__main__ import app, main

NOBODY = "127.0.0.1:1"
SEND = ("send", "--kind", "welcome", "--to", "ada@example.com", "--subject", "Welcome")
RETRYING = EmailStatus.EMAIL_STATUS_RETRYING


def run(*words: str, address: str = NOBODY, stdin: str | bytes | None = None, **env: str) -> Result:
    result = CliRunner().invoke(
        app,
        words,
        input=stdin,
        env={"SRED_EMAIL_INGRESS_ADDRESS": address, "SRED_EMAIL_CONSUMER_ADDRESS": NOBODY, **env},
    )
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    assert "\x1b" not in result.output
    return result


def test_send_hands_over_every_option(ingress: IngressDouble, tmp_path: Path) -> None:
    html, pdf = tmp_path / "body.html", tmp_path / "invoice.pdf"
    html.write_text("<p>Grüße</p>", encoding="utf-8")
    pdf.write_bytes(b"%PDF\x00")
    result = run(
        *("send", "--kind", "password-reset", "--priority", "LOW", "--from", "Acme <hello@acme.example>"),
        *("--to", "ada@example.com", "--to", "grace@example.com", "--cc", "c@example.com", "--bcc", "b@example.com"),
        *("--reply-to", "r@example.com", "--subject", "Reset", "--html", f"@{html}", "--text", "-"),
        *("--tag", "campaign=spring", "--header", "X-Thing=a=b", "--attach", str(pdf), "--key", "reset-1"),
        address=ingress.address,
        stdin="Grüße",
    )
    assert result.exit_code == 0
    (sent,) = ingress.sent
    assert sent.idempotency_key == "reset-1"
    assert (sent.kind, sent.priority) == (EmailKind.EMAIL_KIND_PASSWORD_RESET, Priority.PRIORITY_LOW)
    assert sent.from_address == "Acme <hello@acme.example>"
    assert (list(sent.to), list(sent.cc)) == (["ada@example.com", "grace@example.com"], ["c@example.com"])
    assert (list(sent.bcc), list(sent.reply_to)) == (["b@example.com"], ["r@example.com"])
    assert (sent.inline.subject, sent.inline.html, sent.inline.text) == ("Reset", "<p>Grüße</p>", "Grüße")
    assert dict(sent.headers) == {"X-Thing": "a=b"}
    assert dict(sent.tags) == {"campaign": "spring"}
    attachment = Attachment(filename="invoice.pdf", content_type="application/pdf", content=b"%PDF\x00")
    assert list(sent.attachments) == [attachment]


def test_send_tells_people_the_id_the_status_and_the_key(ingress: IngressDouble) -> None:
    result = run(*SEND, "--html", "<p>Hello</p>", "--key", "welcome-ada", address=ingress.address)
    assert result.exit_code == 0
    assert result.stdout.split() == [
        *("email_id", EMAIL_ID, "status", "QUEUED", "deduplicated", "no"),
        *("accepted_at", "2025-06-15", "15:06:40.123", "UTC", "idempotency_key", "welcome-ada"),
    ]
    assert result.stderr == ""


def test_send_makes_a_key_if_none_is_given_and_prints_it(ingress: IngressDouble) -> None:
    result = run(*SEND, "--html", "<p>Hello</p>", "--json", address=ingress.address)
    assert result.exit_code == 0
    key = ingress.sent[0].idempotency_key
    assert key
    assert key in result.stderr
    assert json.loads(result.stdout) == {
        "email_id": EMAIL_ID,
        "status": "QUEUED",
        "deduplicated": False,
        "accepted_at": "2025-06-15T15:06:40.123Z",
        "idempotency_key": key,
    }


def test_a_key_that_a_script_left_empty_is_never_replaced_by_another(ingress: IngressDouble) -> None:
    run(*SEND, "--html", "<p>Hello</p>", "--key", "", address=ingress.address)
    assert ingress.sent[0].idempotency_key == ""


def test_a_refused_send_shows_each_bad_field_on_its_own_line(ingress: IngressDouble) -> None:
    violations = [
        BadRequest.FieldViolation(field="to[0]", description="is no email address"),
        BadRequest.FieldViolation(field="inline.subject", description="contains \x1b[31m control characters"),
    ]
    ingress.refuse_with(BadRequest(field_violations=violations))
    result = run(*SEND, "--html", "<p>Hello</p>", "--key", "k", "--json", address=ingress.address)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "sred-email: INVALID_ARGUMENT: the request is bad",
        "  to[0]: is no email address",
        "  inline.subject: contains \\x1b[31m control characters",
    ]


def test_a_key_used_before_shows_the_reason(ingress: IngressDouble) -> None:
    ingress.refuse_with(ErrorInfo(reason="IDEMPOTENCY_KEY_REUSED"), code=ALREADY_EXISTS, message="use a new key")
    result = run(*SEND, "--html", "<p>Hello</p>", "--key", "k", address=ingress.address)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "sred-email: ALREADY_EXISTS: use a new key",
        "  reason: IDEMPOTENCY_KEY_REUSED",
    ]


def test_a_service_that_cannot_now_says_when_to_come_again(ingress: IngressDouble) -> None:
    later = RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000))
    ingress.refuse_with(later, code=UNAVAILABLE, message="PostgreSQL is away")
    result = run("status", EMAIL_ID, address=ingress.address)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "sred-email: UNAVAILABLE: PostgreSQL is away",
        "  may be repeated after 1.5 s",
    ]


def test_details_that_cannot_be_read_do_not_hide_the_reason(ingress: IngressDouble) -> None:
    ingress.refuse_with(BadRequest(), code=NOT_FOUND, message="no such email")
    assert ingress.refusal is not None
    ingress.refusal.details[0].value = b"\xff"
    result = run("status", EMAIL_ID, address=ingress.address)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == ["sred-email: NOT_FOUND: no such email"]


def test_send_wait_answers_when_the_email_has_ended(ingress: IngressDouble) -> None:
    ingress.states = [email(EmailStatus.EMAIL_STATUS_QUEUED), grpc.StatusCode.UNAVAILABLE, email()]
    result = run(*SEND, "--html", "<p>Hello</p>", "--key", "k", "--wait", "--json", address=ingress.address)
    assert result.exit_code == 0
    shown = json.loads(result.stdout)
    assert (shown["status"], shown["email_id"], shown["deduplicated"]) == ("SUCCESS", EMAIL_ID, False)
    assert [request.email_id for request in ingress.asked] == [EMAIL_ID] * 3


@pytest.mark.parametrize("status", ["FAILED", "CANCELLED", "EXPIRED", "SUPPRESSED"])
def test_send_wait_fails_if_the_email_ended_otherwise(ingress: IngressDouble, status: str) -> None:
    ingress.states = [email(EmailStatus.Value(f"EMAIL_STATUS_{status}"), last_error="mailbox\nunknown")]
    result = run(*SEND, "--html", "<p>Hello</p>", "--key", "k", "--wait", address=ingress.address)
    assert result.exit_code == 1
    assert status in result.stdout
    assert result.stderr.splitlines() == [f"sred-email: the email ended {status}", "  mailbox\\nunknown"]


def test_send_wait_gives_up_on_a_service_that_stays_away(ingress: IngressDouble) -> None:
    ingress.states = [grpc.StatusCode.UNAVAILABLE]
    result = run(
        *(*SEND, "--html", "<p>Hello</p>", "--key", "k", "--wait", "--timeout", "0.2"), address=ingress.address
    )
    assert result.exit_code == 1
    assert "UNAVAILABLE" in result.stderr


def test_status_shows_people_every_field(ingress: IngressDouble) -> None:
    result = run("status", EMAIL_ID, address=ingress.address)
    assert result.exit_code == 0
    assert ingress.asked[0].email_id == EMAIL_ID
    lines = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines()}
    assert [field.name for field in Email.DESCRIPTOR.fields if field.name not in lines] == []
    assert lines["status"] == ["SUCCESS"]
    assert lines["delivery"] == ["DELIVERED"]
    assert lines["attempts"] == ["1"]
    assert lines["created_at"] == ["2025-06-15", "15:06:40.123", "UTC"]
    assert lines["sent_at"] == lines["last_error"] == ["-"]
    assert "grace@example.com" in result.stdout


def test_status_prints_json_with_the_names_of_the_contract(ingress: IngressDouble) -> None:
    ingress.states = [email(RETRYING, last_error="timeout")]
    result = run("status", EMAIL_ID, "--json", address=ingress.address)
    assert result.exit_code == 0
    shown = json.loads(result.stdout)
    assert shown["status"] == "RETRYING"
    assert shown["kind"] == "WELCOME"
    assert shown["priority"] == "HIGH"
    assert shown["to"] == ["ada@example.com", "grace@example.com"]
    assert shown["created_at"] == "2025-06-15T15:06:40.123Z"
    assert shown["provider_message_id"] == ""
    assert shown["last_error"] == "timeout"


def test_status_finds_an_email_by_its_key(ingress: IngressDouble) -> None:
    result = run("status", "--key", "welcome-ada", address=ingress.address)
    assert result.exit_code == 0
    assert ingress.asked[0].idempotency_key == "welcome-ada"


def test_status_of_an_unknown_email_fails_with_the_reason(ingress: IngressDouble) -> None:
    ingress.refuse_with(code=NOT_FOUND, message="no such email")
    result = run("status", EMAIL_ID, address=ingress.address)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == ["sred-email: NOT_FOUND: no such email"]


def test_cancel_shows_people_the_email_as_it_is_from_then_on(ingress: IngressDouble) -> None:
    result = run("cancel", EMAIL_ID, address=ingress.address)
    assert result.exit_code == 0
    assert [request.email_id for request in ingress.cancelled] == [EMAIL_ID]
    lines = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines()}
    assert (lines["email_id"], lines["status"]) == ([EMAIL_ID], ["CANCELLED"])
    assert result.stderr == ""


def test_cancel_prints_json_with_the_names_of_the_contract(ingress: IngressDouble) -> None:
    result = run("cancel", EMAIL_ID, "--json", address=ingress.address)
    assert result.exit_code == 0
    shown = json.loads(result.stdout)
    assert (shown["email_id"], shown["status"], shown["kind"]) == (EMAIL_ID, "CANCELLED", "WELCOME")


def test_cancel_of_what_cannot_be_cancelled_fails_with_the_reason(ingress: IngressDouble) -> None:
    ingress.refuse_with(ErrorInfo(reason="BEING_SENT"), code=FAILED_PRECONDITION, message="it is being sent now")
    result = run("cancel", EMAIL_ID, "--json", address=ingress.address)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "sred-email: FAILED_PRECONDITION: it is being sent now",
        "  reason: BEING_SENT",
    ]


def test_texts_of_others_cannot_steer_the_terminal(ingress: IngressDouble) -> None:
    ingress.states = [email(RETRYING, last_error="\x1b]0;title\x07 [bold]not markup[/bold] \u202e")]
    result = run("status", EMAIL_ID, address=ingress.address)
    assert "\\x1b]0;title\\x07 [bold]not markup[/bold] \\u202e" in result.stdout


@pytest.mark.parametrize("words", [("status", EMAIL_ID), ("cancel", EMAIL_ID), (*SEND, "--html", "<p>Hello</p>")])
def test_nobody_there_fails_and_says_at_which_address(words: tuple[str, ...]) -> None:
    result = run(*words)
    assert result.exit_code == 1
    assert f"UNAVAILABLE: nobody answers at {NOBODY}" in result.stderr
    assert result.stdout == ""


def test_the_address_option_wins_over_the_environment(ingress: IngressDouble) -> None:
    assert run("status", EMAIL_ID, "--address", ingress.address, address=NOBODY).exit_code == 0


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((), "Usage"),
        (("nonsense",), "nonsense"),
        (("status",), "--key"),
        (("status", EMAIL_ID, "--key", "k"), "--key"),
        (("cancel",), "EMAIL_ID"),
        (("cancel", EMAIL_ID, "another"), "another"),
        (("status", EMAIL_ID, "--nonsense"), "--nonsense"),
        (("status", EMAIL_ID, "--timeout", "0"), "--timeout"),
        (("send",), "--kind"),
        ((*SEND, "--kind", "nonsense"), "EMAIL_CONFIRMATION"),
        ((*SEND, "--kind", "unspecified"), "EMAIL_CONFIRMATION"),
        ((*SEND, "--priority", "nonsense"), "HIGH, NORMAL, LOW"),
        ((*SEND, "--tag", "nonsense"), "NAME=VALUE"),
        ((*SEND, "--header", "A=1", "--header", "A=2"), "twice"),
        ((*SEND, "--html", "@/no/such/file"), "--html"),
        ((*SEND, "--html", "-", "--text", "-"), "stdin"),
        ((*SEND, "--attach", "/no/such/file"), "--attach"),
        ((*SEND, "--template", "welcome"), "--subject"),
        ((*SEND, "--variables", "{}"), "--template"),
        (("send", "--kind", "welcome", "--to", "a@b.c", "--template", "t", "--variables", "nonsense"), "is no JSON"),
        (("send", "--kind", "welcome", "--to", "a@b.c", "--template", "t", "--variables", "[1]"), "an object"),
    ],
)
def test_wrong_usage_is_exit_code_2_with_the_reason_on_stderr(words: tuple[str, ...], reason: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert result.stdout == ""


def test_a_body_that_is_not_utf_8_is_wrong_usage(tmp_path: Path) -> None:
    body = tmp_path / "body.html"
    body.write_bytes(b"\xff")
    result = run(*SEND, "--html", f"@{body}")
    assert result.exit_code == 2
    assert "--html" in result.stderr


def test_a_template_is_sent_with_what_it_is_told(ingress: IngressDouble, tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    told.write_text('{"name": "Ada", "used": 3}')
    for variables in ('{"name": "Ada", "used": 3}', f"@{told}"):
        words = ("send", "--kind", "welcome", "--to", "a@example.com", "--template", "welcome")
        assert run(*words, "--variables", variables, address=ingress.address).exit_code == 0
        content = ingress.sent[-1].template
        assert (content.template_id, dict(content.variables)) == ("welcome", {"name": "Ada", "used": 3})


@pytest.mark.parametrize(
    "words",
    [
        ("send", "--file", "NOWHERE"),
        (*SEND, "--html", "@NOWHERE"),
        (*SEND, "--attach", "NOWHERE"),
        ("send", "--kind", "welcome", "--to", "a@example.com", "--template", "welcome", "--variables", "@NOWHERE"),
        ("template", "preview", "welcome", "--vars", "NOWHERE"),
    ],
)
def test_a_file_that_is_not_there_is_named_with_the_remedy(words: tuple[str, ...], tmp_path: Path) -> None:
    nowhere, folder = tmp_path / "nowhere.txt", tmp_path
    for file, reason in ((nowhere, f"there is no file {nowhere}: check its name"), (folder, f"{folder} is a folder")):
        result = run(*(word.replace("NOWHERE", str(file)) for word in words))
        assert result.exit_code == 2
        assert reason in result.stderr.replace("\n", " ")
        assert "Errno" not in result.stderr


def test_help_names_the_commands_and_each_gives_an_example() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for command in ("send", "status", "list", "watch", "cancel"):
        assert command in result.stdout
        assert f"Example:\n    sred-email {command} " in run(command, "--help").stdout


def test_version_is_printed() -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("sred-email ")


@pytest.mark.parametrize("kind", ["welcome", "WELCOME", "email_kind_welcome", "EMAIL_KIND_WELCOME"])
def test_kinds_may_be_written_in_several_ways(ingress: IngressDouble, kind: str) -> None:
    run(*SEND, "--kind", kind, "--html", "<p>Hello</p>", address=ingress.address)
    assert ingress.sent[0].kind == EmailKind.EMAIL_KIND_WELCOME


@pytest.mark.parametrize(
    ("words", "exit_code", "reason"),
    [(["status", "\udcff"], 2, "not UTF-8"), (["status"], 2, "--key"), (["--version"], 0, "")],
)
def test_the_program_ends_with_the_code_and_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], exit_code: int, reason: str
) -> None:
    monkeypatch.setattr("sys.argv", ["sred-email", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == exit_code
    assert reason in capsys.readouterr().err


def test_even_a_bug_ends_in_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["sred-email", "status", EMAIL_ID])
    monkeypatch.setattr("sred_email_operator.commands.status.dispatch_service", lambda _: 1 / 0)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "sred-email: this is a bug: ZeroDivisionError: division by zero\n"
