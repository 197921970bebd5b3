"""``sred-email send --file``, against an ingress in this process."""

import json
from pathlib import Path

import pytest
from google.rpc.code_pb2 import INVALID_ARGUMENT
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status
from typer.testing import CliRunner, Result
from unit.operator.ingress_double import IngressDouble

from sred.email.v1.email_pb2 import EmailKind, Priority
from sred_email_client import build_idempotency_key
from sred_email_operator.__main__ import app

CSV = """\
to,subject,html,tags.campaign,cc
ada@example.com,Hello Ada,"<p>Two
lines</p>",spring,
Grace <grace@example.com>,Hello Grace,<p>One</p>,spring,c@example.com;d@example.com
"""


def run(ingress: IngressDouble, *words: str, stdin: str | bytes | None = None) -> Result:
    result = CliRunner().invoke(app, ["send", *words], input=stdin, env={"SRED_EMAIL_INGRESS_ADDRESS": ingress.address})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def keys(ingress: IngressDouble) -> list[str]:
    return [sent.idempotency_key for sent in ingress.sent]


def test_every_row_of_a_csv_file_is_an_email(ingress: IngressDouble, tmp_path: Path) -> None:
    file = tmp_path / "emails.csv"
    file.write_text("\ufeff" + CSV, encoding="utf-8")
    result = run(ingress, "--file", str(file), "--kind", "system-notification", "--key", "spring", "--priority", "low")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "2 of 2 accepted\n", "")
    ada, grace = ingress.sent
    assert (ada.inline.subject, ada.inline.html, dict(ada.tags)) == (
        "Hello Ada",
        "<p>Two\nlines</p>",
        {"campaign": "spring"},
    )
    assert (list(grace.to), list(grace.cc)) == (["Grace <grace@example.com>"], ["c@example.com", "d@example.com"])
    assert (ada.kind, ada.priority) == (EmailKind.EMAIL_KIND_SYSTEM_NOTIFICATION, Priority.PRIORITY_LOW)
    assert grace.idempotency_key == build_idempotency_key("SYSTEM_NOTIFICATION", "grace@example.com", "spring")


def test_the_same_file_under_the_same_name_has_the_same_keys(ingress: IngressDouble) -> None:
    for _ in range(2):
        run(ingress, "--file", "-", "--kind", "WELCOME", "--key", "spring", stdin=CSV)
    run(ingress, "--file", "-", "--kind", "WELCOME", "--key", "autumn", stdin=CSV)
    first, second, third = keys(ingress)[:2], keys(ingress)[2:4], keys(ingress)[4:]
    assert first == second
    assert not set(first) & set(third)


@pytest.mark.parametrize("separator", ["\n", ",\n"])
def test_json_holds_emails_as_the_contract_names_them(ingress: IngressDouble, tmp_path: Path, separator: str) -> None:
    (tmp_path / "a.pdf").write_bytes(b"%PDF")
    emails = [
        {"idempotency_key": "1", "kind": "WELCOME", "to": ["ada@example.com"], "subject": "Hi", "text": "Hi",
         "attachments": ["a.pdf"], "headers": {"X-Thing": "1"}, "expire_at": "2030-01-31T08:00:00+01:00"},
        {"key": "2", "from": "Acme <a@acme.example>", "kind": "WELCOME", "to": "b@example.com", "subject": "Hi",
         "text": "Hi"},
    ]  # fmt: skip
    written = separator.join(map(json.dumps, emails))
    file = tmp_path / "emails"
    file.write_text(f"[{written}]" if "," in separator else written, encoding="utf-8")
    assert run(ingress, "--file", str(file)).exit_code == 0
    assert keys(ingress) == ["1", "2"]
    first, second = ingress.sent
    assert (first.attachments[0].filename, first.attachments[0].content_type) == ("a.pdf", "application/pdf")
    assert first.headers["X-Thing"] == "1"
    assert first.expire_at.ToJsonString() == "2030-01-31T07:00:00Z"
    assert second.from_address == "Acme <a@acme.example>"


def test_json_tells_what_became_of_each(ingress: IngressDouble) -> None:
    result = run(ingress, "--file", "-", "--kind", "WELCOME", "--key", "spring", "--json", stdin=CSV)
    told = json.loads(result.stdout)
    assert (told["accepted"], told["deduplicated"]) == (2, 0)
    assert [each["line"] for each in told["emails"]] == [2, 4]
    assert told["emails"][0]["status"] == "QUEUED"
    assert told["emails"][0]["idempotency_key"] == keys(ingress)[0]


def test_refused_emails_are_named_by_their_lines_and_the_others_are_sent(ingress: IngressDouble) -> None:
    bad = Status(code=INVALID_ARGUMENT, message="1 field is bad")
    bad.details.add().Pack(
        BadRequest(field_violations=[BadRequest.FieldViolation(field="to[0]", description="is no address")])
    )
    ingress.refused_members = {"Hello Grace": bad}
    result = run(ingress, "--file", "-", "--kind", "WELCOME", "--key", "spring", stdin=CSV)
    assert result.exit_code == 1
    assert result.stdout == "1 of 2 accepted\n"
    assert result.stderr.splitlines() == [
        "sred-email: 1 of 2 emails were not accepted; run it again when that is mended, nothing is sent twice",
        "  line 4: to[0]: is no address",
    ]


def test_a_service_that_is_away_is_not_asked_for_all_the_rest(ingress: IngressDouble) -> None:
    ingress.address = "127.0.0.1:1"
    rows = "".join(f"a{number}@example.com\n" for number in range(201))
    words = ("--kind", "WELCOME", "--subject", "Hi", "--text", "Hi", "--key", "spring", "--timeout", "0.1")
    result = run(ingress, "--file", "-", *words, stdin="to\n" + rows)
    assert result.exit_code == 1
    assert "200 of 201 emails were not accepted, and 1 after them were not tried" in result.stderr
    assert "line 2: UNAVAILABLE: " in result.stderr


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("to,colour\nada@example.com,red\n", 1, "'colour' is no field"),
        ("to,subject\nada@example.com,Hi,more\n", 2, "more fields"),
        ('to,subject\n"ada@example.com\n', 2, "unexpected end"),
        ('{"to": "ada@example.com"}\nnonsense\n', 2, "no JSON"),
        ('{"to": "ada@example.com", "kind": "x"}\n', 1, "kind"),
        ('[{"to": "ada@example.com"},\n\n{"to": }]', 3, "no JSON"),
        ("[1]", 1, "no JSON object"),
        ('{"to": "ada@example.com", "send_at": "tomorrow"}', 1, "tomorrow"),
        ('{"to": "ada@example.com", "send_at": "2030-01-01"}', 1, "time zone"),
        ('{"to": "ada@example.com", "attachments": ["/no/such"]}', 1, "/no/such"),
        ('{"to": "ada@example.com", "tags": 1}', 1, "tags"),
        ('{"to": "ada@example.com", "subject.x": 1}', 1, "subject.x"),
        ("to\nnobody\n", 2, "address"),
        ('{"to": 5}', 1, "to"),
        ('{"to": {"a": 1}}', 1, "to"),
        ('{"to": "ada@example.com", "attachments": [5]}', 1, "attachments"),
        ('{"to": "ada@example.com", "attachments": null}', 1, "attachments"),
        ('{"to": ' + "[" * 100_000, 1, "no JSON"),
        ('[{"to": "ada@example.com"}]\n\n[{"to": "b@example.com"}]', 3, "after the end"),
    ],
)
def test_a_file_with_errors_is_refused_whole_with_the_lines(
    ingress: IngressDouble, text: str, line: int, reason: str
) -> None:
    words = ("--kind", "WELCOME", "--subject", "Hi", "--text", "Hi", "--key", "spring")
    result = run(ingress, "--file", "-", *words, stdin=text)
    assert result.exit_code == 2
    (said,) = (each for each in result.stderr.splitlines() if each.startswith(f"  line {line}: "))
    assert reason in said
    assert ingress.sent == []


def test_json_lines_end_at_line_feeds_alone(ingress: IngressDouble) -> None:
    line = json.dumps({"to": "ada@example.com", "subject": "Hi", "text": "one\u2028two\x85"}, ensure_ascii=False)
    result = run(ingress, "--file", "-", "--kind", "WELCOME", "--key", "spring", stdin=f"{line}\r\n{line}\n")
    assert (result.exit_code, ingress.sent[0].inline.text) == (0, "one\u2028two\x85")


def test_emails_without_keys_need_a_name_for_the_mailing(ingress: IngressDouble) -> None:
    result = run(ingress, "--file", "-", "--kind", "WELCOME", stdin=CSV)
    assert result.exit_code == 2
    assert "--key" in result.stderr
    assert ingress.sent == []


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--file", "/no/such"), "--file"),
        (("--file", "-", "--to", "ada@example.com"), "belong into the file"),
        (("--file", "-", "--wait"), "belong into the file"),
        (("--file", "-", "--html", "-"), "stdin"),
        (("--file", "-"), "--file"),
    ],
)
def test_wrong_usage_is_exit_code_2(ingress: IngressDouble, words: tuple[str, ...], reason: str) -> None:
    result = run(ingress, *words, stdin=b"\xff")
    assert result.exit_code == 2
    assert reason in result.stderr
    assert ingress.sent == []


def test_a_file_without_emails_is_done_at_once(ingress: IngressDouble) -> None:
    assert run(ingress, "--file", "-", stdin="[]").stdout == "0 of 0 accepted\n"
