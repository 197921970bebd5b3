"""The fakes, as far as they can do what the service cannot: be looked into, fail, and let things happen."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sred_email_client import (
    Attachment,
    DeliveryState,
    EmailClient,
    EmailKind,
    EmailStatus,
    FailedPreconditionError,
    InvalidRequestError,
    OutgoingEmail,
    SyncEmailClient,
    UnavailableError,
)
from sred_email_client.testing import FakeEmailClient, FakeMailbox, FakeSyncEmailClient

WELCOME: Any = {"idempotency_key": "k", "kind": "welcome", "to": "a@example.com", "subject": "Hi", "text": "Hi"}


async def test_the_mailbox_holds_each_email_once_as_it_was_sent() -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    async with FakeEmailClient() as client:
        for _ in range(2):
            await client.send(
                **WELCOME,
                cc=["c@example.com"],
                tags={"a": "b"},
                attachments=[Attachment("a.txt", b"a")],
                expire_at=soon,
            )
        await client.send(
            idempotency_key="t", kind="WELCOME", to="b@example.com", template="welcome", variables={"n": 1}
        )
    written, made = client.mailbox.sent
    assert written == OutgoingEmail(
        idempotency_key="k",
        kind=EmailKind.WELCOME,
        to=("a@example.com",),
        subject="Hi",
        text="Hi",
        cc=("c@example.com",),
        tags={"a": "b"},
        attachments=(Attachment("a.txt", b"a"),),
        expire_at=soon,
    )
    assert (made.template, made.variables) == ("welcome", {"n": 1})


async def test_a_fake_fails_as_often_as_it_is_told() -> None:
    async with FakeEmailClient() as client:
        client.mailbox.fail(UnavailableError("away"), times=2)
        with pytest.raises(UnavailableError):
            await client.send(**WELCOME)
        (outcome,) = await client.send_many([OutgoingEmail(**WELCOME)])
        assert isinstance(outcome, UnavailableError)
        assert not (await client.send(**WELCOME)).deduplicated


def test_a_fake_fails_until_it_recovers() -> None:
    client = FakeSyncEmailClient()
    client.mailbox.fail(UnavailableError("away"))
    for _ in range(3):
        with pytest.raises(UnavailableError):
            client.get(idempotency_key="k")
    client.mailbox.recover()
    client.send(**WELCOME)
    assert len(client.mailbox.sent) == 1


async def test_what_happens_to_an_email_is_seen_by_get_and_watch() -> None:
    async with FakeEmailClient() as client:
        sent = await client.send(**WELCOME)
        watch = client.watch(sent.email_id)
        assert (await anext(watch)).status is EmailStatus.QUEUED
        next_event = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0)
        client.mailbox.end(sent.email_id, delivery=DeliveryState.DELIVERED)
        event = await next_event
        await watch.aclose()
        assert (event.status, event.delivery) == (EmailStatus.SUCCESS, DeliveryState.DELIVERED)
        email = await client.get(sent.email_id)
        assert email.status.has_ended
        assert email.sent_at is not None
        with pytest.raises(FailedPreconditionError):
            await client.cancel(sent.email_id)


async def test_a_fake_watch_goes_on_after_its_token() -> None:
    async with FakeEmailClient() as client:
        first = await client.send(**WELCOME)
        client.mailbox.end(first.email_id, EmailStatus.RETRYING, reason="timeout")
        client.mailbox.end(first.email_id)
        watch = client.watch(resume_token="1")
        reasons = [(await anext(watch)).reason, (await anext(watch)).reason]
        await watch.aclose()
        assert reasons == ["timeout", ""]
        with pytest.raises(InvalidRequestError, match="resume_token"):
            await anext(client.watch(resume_token="nonsense"))


def test_a_fake_is_a_client_for_the_type_checker_and_shares_its_mailbox() -> None:
    mailbox = FakeMailbox()
    clients: tuple[EmailClient, SyncEmailClient] = FakeEmailClient(mailbox), FakeSyncEmailClient(mailbox)
    with FakeSyncEmailClient(mailbox) as client:
        sent = client.send(**WELCOME)
        mailbox.end(sent.email_id)
        assert next(client.watch(sent.email_id)).status is EmailStatus.SUCCESS
    assert all(len(each.mailbox.sent) == 1 for each in clients if hasattr(each, "mailbox"))


async def test_a_scheduled_email_waits_for_its_time() -> None:
    async with FakeEmailClient() as client:
        due = datetime.now(UTC) + timedelta(days=1)
        sent = await client.send(**WELCOME, send_at=due)
        email = await client.get(sent.email_id)
        assert (email.status, email.send_at, email.next_attempt_at) == (EmailStatus.SCHEDULED, due, due)
        with pytest.raises(InvalidRequestError, match="send_at"):
            await client.send(**{**WELCOME, "idempotency_key": "k2"}, send_at=due + timedelta(days=30))
