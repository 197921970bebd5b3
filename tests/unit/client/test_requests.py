"""What a caller says, as a request; and many of them, as calls."""

from datetime import UTC, datetime
from typing import Any

import pytest
from google.rpc.status_pb2 import Status

from sred.email.v1.email_pb2 import Email as EmailMessage
from sred_email_client import EmailKind, EmailStatus, InvalidRequestError, OutgoingEmail, UnexpectedError
from sred_email_client.conversion import from_email, lookup, to_request
from sred_email_client.many import Outcomes
from sred_email_client.status import error_of_status

WELCOME: Any = {"idempotency_key": "k", "kind": "WELCOME", "to": "a@example.com", "subject": "Hi", "text": "Hi"}


def request(**change: Any) -> Any:
    return to_request(OutgoingEmail(**{**WELCOME, **change}))


@pytest.mark.parametrize(
    "kind", [EmailKind.PASSWORD_RESET, "PASSWORD_RESET", "password-reset", "EMAIL_KIND_PASSWORD_RESET"]
)
def test_kinds_may_be_written_in_several_ways(kind: str) -> None:
    assert request(kind=kind) == request(kind="PASSWORD_RESET")


def test_times_are_moments_whatever_their_zone() -> None:
    moment = datetime(2030, 1, 1, 12, tzinfo=UTC)
    assert request(send_at=moment.astimezone()).send_at.ToDatetime(UTC) == moment
    assert request(send_at=datetime.fromtimestamp(0, UTC)).HasField("send_at")


def test_variables_are_what_json_has() -> None:
    made = request(subject="", text="", template="t", variables={"name": "Ada", "lines": ({"n": 1}, None, True)})
    assert made.template.template_id == "t"
    assert made.template.variables["lines"][0]["n"] == 1
    assert not made.inline.ByteSize()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": 3}, "kind"),
        ({"priority": "urgent"}, "priority"),
        ({"to": [1]}, "to"),
        ({"to": None}, "to"),
        ({"html": "\ud800"}, "inline.html"),
        ({"headers": {"A": 1}}, "headers"),
        ({"template": "t"}, "template"),
        ({"variables": {"a": 1}}, "variables"),
        ({"template": "t", "subject": "", "text": "", "variables": {"when": datetime.now(UTC)}}, "variables"),
        ({"attachments": ["a.txt"]}, "attachments[0]"),
        ({"send_at": "tomorrow"}, "send_at"),
    ],
)
def test_what_cannot_be_written_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        request(**change)
    assert [violation.field for violation in refused.value.violations] == [field]


def test_every_bad_field_is_named_at_once() -> None:
    with pytest.raises(InvalidRequestError) as refused:
        request(idempotency_key="", kind="x", send_at=datetime(2030, 1, 1))  # noqa: DTZ001 - that is what is bad
    assert [violation.field for violation in refused.value.violations] == ["idempotency_key", "kind", "send_at"]


@pytest.mark.parametrize("which", [(None, None), ("id", "key")])
def test_an_email_is_asked_for_by_one_name(which: tuple[str | None, str | None]) -> None:
    with pytest.raises(TypeError, match="either"):
        lookup(*which)


def test_what_a_newer_service_says_is_unknown_not_an_error() -> None:
    email = from_email(EmailMessage(status=99, kind=99))  # type: ignore[arg-type]
    assert (email.status, email.kind) == (EmailStatus.UNKNOWN, EmailKind.UNKNOWN)
    assert isinstance(error_of_status(Status(code=99, message="new")), UnexpectedError)


def test_many_emails_are_shared_out_by_number_and_size() -> None:
    small = [OutgoingEmail(**{**WELCOME, "idempotency_key": str(index)}) for index in range(1001)]
    assert [len(batch.request().requests) for batch in Outcomes(small).batches()] == [1000, 1]
    large = [OutgoingEmail(**{**WELCOME, "text": "x" * (15 << 20)}) for _ in range(3)]
    assert [len(batch.request().requests) for batch in Outcomes(large).batches()] == [2, 1]
