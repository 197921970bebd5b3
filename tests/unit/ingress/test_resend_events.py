"""What the provider's events say, as this system understands it."""

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from sred_email_core.email_send_log.webhook_events import WebhookEvent
from sred_email_ingress.webhooks.resend_events import BadEventError, parse_event

EMAIL_ID = "019a9c2e-7d40-7000-8000-2f3b1c5d7e90"
MESSAGE_ID = "56761188-7520-42d8-8898-ff6fc54ce618"


def parsed(kind: str = "email.delivered", told: dict[str, Any] | None = None, **data: Any) -> WebhookEvent | None:
    values: dict[str, Any] = {
        "email_id": MESSAGE_ID,
        "to": ["ada@example.com"],
        "from": "Acme <hello@acme.example>",
        "tags": {"email_id": EMAIL_ID, "kind": "WELCOME"},
        **data,
    }
    body = {"type": kind, "created_at": "2026-11-22T23:41:12.126Z", "data": values, **(told or {})}
    return parse_event("msg-1", json.dumps(body).encode())


def event(kind: str = "email.delivered", **data: Any) -> WebhookEvent:
    found = parsed(kind, **data)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("kind", "delivery"),
    [
        ("email.sent", "SENT"),
        ("email.delivery_delayed", "DELAYED"),
        ("email.delivered", "DELIVERED"),
        ("email.failed", "DELIVERY_FAILED"),
        ("email.suppressed", "DELIVERY_FAILED"),
        ("email.bounced", "BOUNCED"),
        ("email.complained", "COMPLAINED"),
    ],
)
def test_each_event_tells_a_delivery_state(kind: str, delivery: str) -> None:
    found = event(kind)
    assert found.delivery == delivery
    assert (found.svix_id, found.email_id, found.provider_message_id) == ("msg-1", uuid.UUID(EMAIL_ID), MESSAGE_ID)
    assert found.occurred_at == datetime(2026, 11, 22, 23, 41, 12, 126000, tzinfo=UTC)


@pytest.mark.parametrize(
    "kind", ["email.opened", "email.clicked", "email.scheduled", "contact.created", "something.new"]
)
def test_other_events_say_nothing_here(kind: str) -> None:
    assert parsed(kind) is None


@pytest.mark.parametrize(
    "tags", [{"email_id": EMAIL_ID}, [{"name": "kind", "value": "X"}, {"name": "email_id", "value": EMAIL_ID}]]
)
def test_tags_come_as_a_map_or_as_pairs(tags: object) -> None:
    assert event(tags=tags).email_id == uuid.UUID(EMAIL_ID)


@pytest.mark.parametrize("tags", [None, {}, {"email_id": "no uuid"}, {"email_id": 5}, [], "text", [5], [{"name": []}]])
def test_without_our_tag_the_providers_id_remains(tags: object) -> None:
    found = event(tags=tags)
    assert (found.email_id, found.provider_message_id) == (None, MESSAGE_ID)


def test_a_permanent_bounce_suppresses_the_one_address_that_it_names() -> None:
    bounce = {"type": "Permanent", "subType": "General", "message": "No such user."}
    found = event("email.bounced", bounce=bounce, to=["Ada <ADA@example.com>"])
    assert (found.suppress, found.suppress_reason) == ("ada@example.com", "BOUNCED")
    assert found.detail == "Permanent: General: No such user."


@pytest.mark.parametrize(
    "bounce", [{"type": "Transient"}, {"type": "Undetermined"}, {}, None, "Permanent", {"type": None}]
)
def test_a_bounce_that_may_pass_suppresses_nobody(bounce: object) -> None:
    found = event("email.bounced", bounce=bounce)
    assert (found.delivery, found.suppress, found.suppress_reason) == ("BOUNCED", None, None)


def test_a_complaint_suppresses_the_one_address_that_it_names() -> None:
    found = event("email.complained")
    assert (found.suppress, found.suppress_reason) == ("ada@example.com", "COMPLAINED")


@pytest.mark.parametrize("to", [["a@example.com", "b@example.com"], [], None, [5], "no address", ["no address"]])
@pytest.mark.parametrize("kind", ["email.bounced", "email.complained"])
def test_hazard_27_of_several_recipients_none_is_guessed(kind: str, to: object) -> None:
    found = event(kind, to=to, bounce={"type": "Permanent"})
    assert (found.suppress, found.suppress_reason) == (None, None)


@pytest.mark.parametrize("kind", ["email.delivered", "email.failed", "email.suppressed", "email.sent"])
def test_nothing_else_suppresses(kind: str) -> None:
    assert event(kind, bounce={"type": "Permanent"}).suppress is None


def test_the_providers_words_are_kept_for_people() -> None:
    assert event("email.failed", failed={"reason": "reached_daily_quota"}).detail == "reached_daily_quota"
    suppressed = {"type": "OnAccountSuppressionList", "message": "It bounced."}
    assert event("email.suppressed", suppressed=suppressed).detail == "OnAccountSuppressionList: It bounced."
    assert event("email.delivered").detail is None


def test_what_postgresql_cannot_hold_is_left_out() -> None:
    found = event("email.bounced", bounce={"message": "a\0b\ud800" + "x" * 5000}, email_id="\0id")
    assert found.detail is not None
    assert found.detail.startswith("ab?x")
    assert len(found.detail) <= 1000
    assert found.provider_message_id == "id"


@pytest.mark.parametrize("created_at", [None, 5, "yesterday", "2026-13-01T00:00:00Z", "0001-01-01T00:00:00+23:00"])
def test_a_time_that_is_none_is_left_out(created_at: object) -> None:
    found = parsed(told={"created_at": created_at})
    assert found is not None
    assert found.occurred_at is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"[]",
        b"5",
        b"{}",
        b'{"type": 5}',
        b'{"type": "email.sent"}',
        b'{"type": "email.sent", "data": []}',
        b'{"type": "email.sent", "data": {}}',
        b'{"type": "email.sent", "data": {"email_id": 5, "tags": {}}}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_what_is_no_event_is_refused(body: bytes) -> None:
    with pytest.raises(BadEventError):
        parse_event("msg-1", body)
