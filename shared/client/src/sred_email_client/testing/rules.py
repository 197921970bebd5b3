"""The rules of the service that a caller's test is likely to break, with the same field names.

Not all of them: what is fine here can still be refused there, such as an address that no server would take.
"""

import unicodedata
from datetime import UTC, datetime, timedelta

from sred.email.v1.dispatch_service_pb2 import SendEmailRequest
from sred_email_client.errors import FieldViolation, InvalidRequestError

MAX_KEY_CHARACTERS = 256
MAX_RECIPIENTS = 50
MAX_SUBJECT_CHARACTERS = 998
MAX_AHEAD = timedelta(days=30)
_OWN_TAGS = ("email_id", "kind")


def check(request: SendEmailRequest) -> None:
    """Refuse a request that breaks one of the rules.

    Raises:
        InvalidRequestError: Each bad field is named.
    """
    _refuse_if_any(_violations(request))


def check_times(request: SendEmailRequest) -> None:
    """Refuse a new email whose times are bad. A repeat is answered whatever the time.

    Raises:
        InvalidRequestError: Each bad field is named.
    """
    found, now = [], datetime.now(UTC)
    if request.HasField("send_at") and request.send_at.ToDatetime(UTC) > now + MAX_AHEAD:
        found.append(("send_at", f"is more than {MAX_AHEAD.days} days ahead"))
    if request.HasField("expire_at") and request.expire_at.ToDatetime(UTC) <= now:
        found.append(("expire_at", "is not in the future"))
    _refuse_if_any(found)


def _refuse_if_any(violations: list[tuple[str, str]]) -> None:
    found = [FieldViolation(field, description) for field, description in violations if description]
    if found:
        count = "1 field is" if len(found) == 1 else f"{len(found)} fields are"
        raise InvalidRequestError(f"{count} bad: {', '.join(each.field for each in found)}", found)


def _violations(request: SendEmailRequest) -> list[tuple[str, str]]:
    recipients = [*request.to, *request.cc, *request.bcc]
    found = [
        ("idempotency_key", _key(request.idempotency_key)),
        ("to", "" if request.to else "at least one recipient is required"),
        (
            "to",
            f"to, cc and bcc together name more than {MAX_RECIPIENTS} recipients" * (len(recipients) > MAX_RECIPIENTS),
        ),
        *_addresses(request),
        *((f'tags["{name}"]', "is a tag that the system sets") for name in _OWN_TAGS if name in request.tags),
    ]
    if request.WhichOneof("content") != "template":
        inline = request.inline
        found.append(("inline.subject", _subject(inline.subject)))
        found.append(("inline.html", "" if inline.html or inline.text else "html or text is required"))
    for index, attachment in enumerate(request.attachments):
        found.append((f"attachments[{index}].filename", "" if attachment.filename else "is required"))
        found.append((f"attachments[{index}].content", "" if attachment.content else "is empty"))
    return found


def _key(key: str) -> str:
    if not key:
        return "is required"
    if len(key) > MAX_KEY_CHARACTERS:
        return f"is longer than {MAX_KEY_CHARACTERS} characters"
    return "" if key.isascii() and key.isprintable() else "may hold printable ASCII characters only"


def _subject(subject: str) -> str:
    if not subject:
        return "is required"
    if len(subject) > MAX_SUBJECT_CHARACTERS:
        return f"is longer than {MAX_SUBJECT_CHARACTERS} characters"
    steers = any(unicodedata.category(character) == "Cc" for character in subject)
    return "contains a line break or another control character" if steers else ""


def _addresses(request: SendEmailRequest) -> list[tuple[str, str]]:
    fields = (("to", request.to), ("cc", request.cc), ("bcc", request.bcc), ("reply_to", request.reply_to))
    return [
        (f"{field}[{index}]", "" if "@" in address.strip("@") else "is no email address")
        for field, addresses in fields
        for index, address in enumerate(addresses)
    ]
