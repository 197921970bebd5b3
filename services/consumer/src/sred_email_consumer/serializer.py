"""From emails to the bytes of a request body.

A send that is repeated must have the same bytes, also after an upgrade: a serializer that has been released never
changes. A new one gets a new number, and old ones stay for a horizon. Golden bytes in the tests hold them.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from sred.email.v1.email_pb2 import Attachment
from sred.email.v1.stream_message_pb2 import EmailContent
from sred_email_consumer import unsubscribe
from sred_email_core.email_send_log.records import SendShape

SINGLE_ENDPOINT = "/emails"
BATCH_ENDPOINT = "/emails/batch"
_MAX_SUBJECT_CHARACTERS = 998
_MOST_NAMED = 5
"""Recipients in the subject of an email that goes elsewhere."""


@dataclass(frozen=True, slots=True)
class OutgoingEmail:
    """An email of a send.

    Attributes:
        email_id: UUID as text; it travels as a tag, so that webhooks find their email.
        kind: Name of the EmailKind; the same.
        content: What is sent.
    """

    email_id: str
    kind: str
    content: EmailContent


class UnknownSerializerError(Exception):
    """The send was made by a version of this program that this one does not know."""


def render(emails: Sequence[OutgoingEmail], shape: SendShape) -> bytes:
    """The request body.

    Args:
        emails: One for the single endpoint, 1 to 100 for the batch endpoint, in the order of the send.
        shape: Which serializer, and what else shapes it.

    Raises:
        UnknownSerializerError: There is no such serializer here.
    """
    serializer = _SERIALIZERS.get(shape.serializer_version)
    if serializer is None:
        raise UnknownSerializerError(f"serializer {shape.serializer_version} is not known to this version")
    items = [serializer(email, shape) for email in emails]
    return orjson.dumps(items if shape.endpoint == BATCH_ENDPOINT else items[0])


def is_known(shape: SendShape) -> bool:
    """Whether this version has the serializer that made the body of a send."""
    return shape.serializer_version in _SERIALIZERS


def shape_of(
    emails: Sequence[OutgoingEmail], *, redirect_to: str | None, configured_headers: bytes | None
) -> SendShape:
    """What shapes the body of a new send: the oldest serializer that can do it, which most consumers know.

    Args:
        emails: Its members: a lone one goes by the single endpoint.
        redirect_to: Where all emails go instead; None: to their recipients.
        configured_headers: What ``unsubscribe.serialize`` made; None: emails get no headers besides their own. Nor do
            those that go elsewhere: whoever looks at them there must not unsubscribe the people they were for.
    """
    endpoint = SINGLE_ENDPOINT if len(emails) == 1 else BATCH_ENDPOINT
    if redirect_to is not None:
        return SendShape(endpoint, 2, redirect_to)
    if configured_headers is not None and any(email.kind in unsubscribe.KINDS for email in emails):
        return SendShape(endpoint, 2, configured_headers=configured_headers)
    return SendShape(endpoint, 1)


def body_sha256(body: bytes) -> bytes:
    """What a send remembers of its body, 32 bytes."""
    return hashlib.sha256(body).digest()


def _version_1(email: OutgoingEmail, shape: SendShape) -> dict[str, object]:
    content = email.content
    item: dict[str, object] = {"from": content.from_address}
    if shape.redirect_to is None:
        item["to"] = list(content.to)
        item["subject"] = content.subject
        for name, addresses in (("cc", content.cc), ("bcc", content.bcc)):
            if addresses:
                item[name] = list(addresses)
    else:
        item["to"] = [shape.redirect_to]
        item["subject"] = f"[to {', '.join([*content.to, *content.cc, *content.bcc])}] {content.subject}"
    if content.reply_to:
        item["reply_to"] = list(content.reply_to)
    if content.html:
        item["html"] = content.html
    if content.text:
        item["text"] = content.text
    if content.headers:
        item["headers"] = dict(sorted(content.headers.items()))
    if content.attachments:
        item["attachments"] = [_attachment_1(attachment) for attachment in content.attachments]
    tags = {**content.tags, "email_id": email.email_id, "kind": email.kind}
    item["tags"] = [{"name": name, "value": value} for name, value in sorted(tags.items())]
    return item


def _version_2(email: OutgoingEmail, shape: SendShape) -> dict[str, object]:
    """Headers by configuration; and a subject that does not grow with the number of its recipients."""
    item = _version_1(email, shape)
    content = email.content
    recipients = [*content.to, *content.cc, *content.bcc]
    if shape.redirect_to is not None:
        named, more = ", ".join(recipients[:_MOST_NAMED]), len(recipients) - _MOST_NAMED
        for_whom = f"[to {named} and {more} more]" if more > 0 else f"[to {named}]"
        item["subject"] = f"{for_whom} {content.subject}"[:_MAX_SUBJECT_CHARACTERS]
    if shape.configured_headers is not None:
        added = unsubscribe.unsubscribe_headers(
            shape.configured_headers,
            kind=email.kind,
            email_id=email.email_id,
            recipients=recipients,
            own=content.headers,
        )
        if added:
            item["headers"] = dict(sorted({**content.headers, **added}.items()))
    return item


def _attachment_1(attachment: Attachment) -> dict[str, str]:
    item = {"filename": attachment.filename, "content": base64.b64encode(attachment.content).decode()}
    if attachment.content_type:
        item["content_type"] = attachment.content_type
    if attachment.content_id:
        item["content_id"] = attachment.content_id
    return item


_SERIALIZERS: dict[int, Callable[[OutgoingEmail, SendShape], dict[str, object]]] = {1: _version_1, 2: _version_2}
