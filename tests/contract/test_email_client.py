"""One suite over the clients and their fakes: a caller's test says about the fake what is true of the service."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sred_email_client import (
    Attachment,
    EmailClient,
    EmailError,
    EmailKind,
    EmailNotFoundError,
    EmailStatus,
    FailedPreconditionError,
    IdempotencyKeyReusedError,
    InvalidRequestError,
    OutgoingEmail,
    Priority,
    SendResult,
)


def welcome(key: str, **fields: Any) -> Any:
    return {
        "idempotency_key": key,
        "kind": EmailKind.WELCOME,
        "to": "ada@example.com",
        "subject": "Welcome",
        "html": "<p>Hello</p>",
        **fields,
    }


def fields_of(error: InvalidRequestError) -> set[str]:
    return {violation.field for violation in error.violations}


async def test_a_new_email_is_accepted(client: EmailClient, key: str) -> None:
    before = datetime.now(UTC)
    result = await client.send(**welcome(key))
    assert uuid.UUID(result.email_id)
    assert result.status is EmailStatus.QUEUED
    assert not result.deduplicated
    assert abs(result.accepted_at - before) < timedelta(seconds=30)


async def test_the_same_key_and_content_is_the_same_email(client: EmailClient, key: str) -> None:
    first = await client.send(**welcome(key))
    again = await client.send(**welcome(key))
    assert (again.email_id, again.accepted_at) == (first.email_id, first.accepted_at)
    assert again.deduplicated


@pytest.mark.parametrize(
    "change",
    [
        {"expire_at": datetime.now(UTC) + timedelta(hours=2)},
        {"expire_at": datetime(2020, 1, 1, tzinfo=UTC)},
        {"priority": Priority.HIGH},
        {"to": ["ada@example.com"]},
        {"kind": "welcome"},
    ],
)
async def test_what_is_no_content_does_not_make_another_email(
    client: EmailClient, key: str, change: dict[str, Any]
) -> None:
    first = await client.send(**welcome(key, expire_at=datetime.now(UTC) + timedelta(hours=1)))
    again = await client.send(**welcome(key, **change))
    assert (again.email_id, again.deduplicated) == (first.email_id, True)


@pytest.mark.parametrize(
    "change",
    [
        {"subject": "Welcome!"},
        {"to": "grace@example.com"},
        {"priority": Priority.LOW},
        {"tags": {"campaign": "spring"}},
        {"attachments": [Attachment("a.txt", b"a")]},
    ],
)
async def test_the_same_key_with_other_content_is_refused(
    client: EmailClient, key: str, change: dict[str, Any]
) -> None:
    first = await client.send(**welcome(key))
    with pytest.raises(IdempotencyKeyReusedError) as refused:
        await client.send(**welcome(key, **change))
    assert refused.value.email_id == first.email_id
    assert (await client.get(first.email_id)).subject == "Welcome"


async def test_everything_that_an_email_may_have_is_taken(client: EmailClient, key: str) -> None:
    result = await client.send(
        **welcome(
            key,
            to=["ada@example.com", "Grace <grace@example.com>"],
            cc="c@example.com",
            bcc=("b@example.com",),
            reply_to="r@example.com",
            from_address="Acme <hello@acme.example>",
            text="Hello",
            headers={"X-Campaign": "spring"},
            tags={"campaign": "spring"},
            attachments=[Attachment("logo.png", b"\x89PNG", "image/png", "logo")],
            priority="low",
        )
    )
    email = await client.get(result.email_id)
    assert email.from_address == "Acme <hello@acme.example>"
    assert email.priority is Priority.LOW


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"idempotency_key": "k" * 257}, "idempotency_key"),
        ({"idempotency_key": "grüße"}, "idempotency_key"),
        ({"kind": "NONSENSE"}, "kind"),
        ({"kind": EmailKind.UNKNOWN}, "kind"),
        ({"to": []}, "to"),
        ({"to": ["a@example.com"] * 51}, "to"),
        ({"to": "nobody"}, "to[0]"),
        ({"subject": ""}, "inline.subject"),
        ({"subject": "a\r\nBcc: x@example.com"}, "inline.subject"),
        ({"html": ""}, "inline.html"),
        ({"tags": {"email_id": "1"}}, 'tags["email_id"]'),
        ({"attachments": [Attachment("", b"a")]}, "attachments[0].filename"),
        ({"attachments": [Attachment("a.txt", b"")]}, "attachments[0].content"),
        ({"expire_at": datetime(2020, 1, 1, tzinfo=UTC)}, "expire_at"),
        ({"expire_at": datetime(2030, 1, 1)}, "expire_at"),  # noqa: DTZ001 - that is what is bad
    ],
)
async def test_a_bad_field_is_named_and_nothing_is_stored(
    client: EmailClient, key: str, change: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        await client.send(**welcome(key, **change))
    assert fields_of(refused.value) == {field}
    assert field in str(refused.value)
    with pytest.raises(EmailNotFoundError):
        await client.get(idempotency_key=key)


async def test_an_email_is_found_by_its_id_and_by_its_key(client: EmailClient, key: str) -> None:
    sent = await client.send(**welcome(key))
    email = await client.get(sent.email_id)
    assert email == await client.get(idempotency_key=key)
    assert (email.email_id, email.idempotency_key) == (sent.email_id, key)
    assert (email.kind, email.priority, email.status) == (EmailKind.WELCOME, Priority.HIGH, EmailStatus.QUEUED)
    assert (email.to, email.subject, email.attempts) == (("ada@example.com",), "Welcome", 0)
    assert (email.delivery, email.sent_at, email.send_at, email.next_attempt_at) == (None, None, None, None)
    assert email.from_address
    assert email.created_at == sent.accepted_at


async def test_an_unknown_email_is_not_found(client: EmailClient) -> None:
    for asked in (client.get(str(uuid.uuid4())), client.get(idempotency_key="no"), client.cancel(str(uuid.uuid4()))):
        with pytest.raises(EmailNotFoundError):
            await asked


async def test_an_id_that_is_none_is_refused(client: EmailClient) -> None:
    for asked in (client.get("no-uuid"), client.cancel("no-uuid")):
        with pytest.raises(InvalidRequestError) as refused:
            await asked
        assert fields_of(refused.value) == {"email_id"}


async def test_an_email_that_waits_can_be_cancelled_once(client: EmailClient, key: str) -> None:
    sent = await client.send(**welcome(key))
    assert (await client.cancel(sent.email_id)).status is EmailStatus.CANCELLED
    with pytest.raises(FailedPreconditionError) as refused:
        await client.cancel(sent.email_id)
    assert refused.value.reason == "HAS_ENDED"
    assert (await client.get(sent.email_id)).status is EmailStatus.CANCELLED


async def test_many_emails_have_their_outcomes_each_on_its_own_in_order(client: EmailClient, key: str) -> None:
    emails = [
        OutgoingEmail(**welcome(f"{key}-1")),
        OutgoingEmail(**welcome(f"{key}-2", to=())),
        OutgoingEmail(**welcome(f"{key}-3")),
        OutgoingEmail(**welcome(f"{key}-1")),
        OutgoingEmail(**welcome(f"{key}-3", subject="Other")),
        OutgoingEmail(**welcome("")),
    ]
    first, no_recipient, third, again, reused, no_key = await client.send_many(emails)
    assert isinstance(first, SendResult)
    assert isinstance(third, SendResult)
    assert isinstance(again, SendResult)
    assert (again.email_id, again.deduplicated) == (first.email_id, True)
    assert third.email_id != first.email_id
    assert isinstance(no_recipient, InvalidRequestError)
    assert fields_of(no_recipient) == {"to"}
    assert isinstance(reused, IdempotencyKeyReusedError)
    assert isinstance(no_key, EmailError)


async def test_no_emails_have_no_outcomes(client: EmailClient) -> None:
    assert await client.send_many([]) == []


async def test_a_watch_tells_the_present_state_then_what_happens_and_goes_on_after_a_token(
    client: EmailClient, key: str
) -> None:
    sent = await client.send(**welcome(key))
    watch = client.watch(sent.email_id)
    first = await anext(watch)
    await client.cancel(sent.email_id)
    second = await anext(watch)
    await watch.aclose()
    assert [(each.email_id, each.status) for each in (first, second)] == [
        (sent.email_id, EmailStatus.QUEUED),
        (sent.email_id, EmailStatus.CANCELLED),
    ]
    again = client.watch(sent.email_id, resume_token=first.resume_token)
    assert (await anext(again)).status is EmailStatus.CANCELLED
    await again.aclose()


async def test_a_watch_of_an_unknown_email_or_with_a_bad_token_is_refused(client: EmailClient) -> None:
    with pytest.raises(EmailNotFoundError):
        await anext(client.watch(str(uuid.uuid4())))
    with pytest.raises(InvalidRequestError) as refused:
        await anext(client.watch(resume_token="nonsense"))
    assert fields_of(refused.value) == {"resume_token"}


async def test_an_email_can_be_scheduled_thirty_days_ahead_at_most(client: EmailClient, key: str) -> None:
    due = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    email = await client.get((await client.send(**welcome(key, send_at=due))).email_id)
    assert (email.status, email.send_at, email.next_attempt_at) == (EmailStatus.SCHEDULED, due, due)
    with pytest.raises(InvalidRequestError) as refused:
        await client.send(**welcome(f"{key}-late", send_at=due + timedelta(days=30)))
    assert fields_of(refused.value) == {"send_at"}


async def test_a_template_is_the_same_email_by_its_id_and_variables(client: EmailClient, key: str) -> None:
    made: Any = {"kind": "WELCOME", "to": "ada@example.com", "template": "welcome"}
    variables = {"start_url": "https://app.example.com/", "name": "Ada"}
    first = await client.send(idempotency_key=key, variables=variables, **made)
    again = await client.send(idempotency_key=key, variables=dict(reversed(variables.items())), **made)
    assert again.email_id == first.email_id
    with pytest.raises(IdempotencyKeyReusedError):
        await client.send(idempotency_key=key, variables={**variables, "name": "Grace"}, **made)
