"""What the provider's webhooks say, as this system understands it.

Source: https://resend.com/docs/webhooks/emails/bounced.md and its neighbours; tags come as a map, or as the array of
pairs that they were sent as.
"""

import json
import uuid
from datetime import UTC, datetime

from sred_email_core.addresses import NoAddressError, parse_bare_address
from sred_email_core.email_send_log.webhook_events import WebhookEvent

_DELIVERIES = {
    "email.sent": "SENT",
    "email.delivery_delayed": "DELAYED",
    "email.delivered": "DELIVERED",
    "email.failed": "DELIVERY_FAILED",
    "email.suppressed": "DELIVERY_FAILED",
    "email.bounced": "BOUNCED",
    "email.complained": "COMPLAINED",
}
_LONGEST_ID = 256
_LONGEST_DETAIL = 1000


class BadEventError(ValueError):
    """An authentic event that can't be used; its message says why, and holds nothing of it."""


def parse_event(svix_id: str, body: bytes) -> WebhookEvent | None:
    """Read an authentic event.

    Args:
        svix_id: Of the event.
        body: Of its request.

    Returns:
        What it says about an email; None: nothing that matters here (email.opened, contact.created …).

    Raises:
        BadEventError: It is no event, or does not say of which email.
    """
    try:
        told = json.loads(body)
    except (ValueError, RecursionError) as e:
        raise BadEventError("is no JSON") from e
    kind = told.get("type") if isinstance(told, dict) else None
    if not isinstance(kind, str):
        raise BadEventError("has no type")
    delivery = _DELIVERIES.get(kind)
    if delivery is None:
        return None
    data = told.get("data")
    if not isinstance(data, dict):
        raise BadEventError("has no data")
    email_id, message_id = _tagged_id(data.get("tags")), _text(data.get("email_id"), _LONGEST_ID)
    if email_id is None and message_id is None:
        raise BadEventError("names no email")
    reason = _suppression_reason(delivery, data)
    address = _only_recipient(data.get("to")) if reason else None
    return WebhookEvent(
        svix_id=svix_id,
        delivery=delivery,
        email_id=email_id,
        provider_message_id=message_id,
        occurred_at=_time(told.get("created_at")),
        detail=_detail(kind, data),
        suppress=address,
        suppress_reason=reason if address else None,
    )


def _suppression_reason(delivery: str, data: dict[str, object]) -> str | None:
    """Why the recipient is to get no more email; None: no reason, a bounce that may pass is none."""
    if delivery == "COMPLAINED":
        return "COMPLAINED"
    bounce = data.get("bounce")
    permanent = isinstance(bounce, dict) and str(bounce.get("type")).lower() == "permanent"
    return "BOUNCED" if delivery == "BOUNCED" and permanent else None


def _only_recipient(to: object) -> str | None:
    """The address that an event identifies: of several it does not say which one bounced, and nothing is guessed."""
    named = [to] if isinstance(to, str) else to
    if not isinstance(named, list) or len(named) != 1 or not isinstance(named[0], str):
        return None
    try:
        return parse_bare_address(named[0])
    except NoAddressError:
        return None


def _tagged_id(tags: object) -> uuid.UUID | None:
    if isinstance(tags, list):
        tags = {
            tag.get("name"): tag.get("value") for tag in tags if isinstance(tag, dict) and _is_text(tag.get("name"))
        }
    value = tags.get("email_id") if isinstance(tags, dict) else None
    try:
        return uuid.UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _detail(kind: str, data: dict[str, object]) -> str | None:
    """What the provider says about it, for people."""
    about = data.get(kind.removeprefix("email."))  # bounce, failed, suppressed … under the name of the event, or nearly
    if kind == "email.bounced":
        about = data.get("bounce")
    if not isinstance(about, dict):
        return None
    said = [_text(about.get(name), _LONGEST_DETAIL) for name in ("type", "subType", "reason", "message")]
    return ": ".join(part for part in said if part)[:_LONGEST_DETAIL] or None


def _time(value: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
        return None if at is None else (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _text(value: object, longest: int) -> str | None:
    """A text that PostgreSQL can hold; None: it is none, or empty."""
    if not isinstance(value, str):
        return None
    return value.replace("\0", "").encode("utf-8", "replace").decode()[:longest] or None
