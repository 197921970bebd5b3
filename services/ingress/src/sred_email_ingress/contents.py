"""What is sent, frozen at acceptance: what the caller wrote, or a template with the caller's variables in it."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from google.protobuf.struct_pb2 import Value

from sred.email.v1.dispatch_service_pb2 import SendEmailRequest
from sred.email.v1.email_pb2 import EmailKind, InlineContent, TemplateContent
from sred.email.v1.stream_message_pb2 import EmailContent, EncryptedContent
from sred_email_core.encryption import envelope
from sred_email_core.encryption.key_ring_file import KeyRingFile
from sred_email_core.errors import FieldViolation
from sred_email_core.queue.codec import domain_of
from sred_email_ingress.addresses import parse_address
from sred_email_ingress.senders import SenderPolicy
from sred_email_templates import (
    EmailTemplate,
    Product,
    TemplateBook,
    UnknownTemplateError,
    UnusableVariablesError,
    load_templates,
)


class ContentComposer:
    """Makes the content of an email from a request without violations.

    What speaks against it depends on settings and on the templates of this version, and so must not bind the retry of a
    call that was accepted: it is told, not raised.
    """

    def __init__(self, senders: SenderPolicy, templates: TemplateBook, keys: KeyRingFile) -> None:
        self._senders = senders
        self._templates = templates
        self._keys = keys

    def compose(self, request: SendEmailRequest) -> tuple[EmailContent, list[FieldViolation]]:
        """Make the content of an email.

        Returns:
            The content, and what speaks against sending it; if anything does, the content is not complete.
        """
        inline = request.inline
        objections: list[FieldViolation] = []
        if request.HasField("template"):
            inline, objections = self._render(request.template, request.kind)
        content = _content(request, inline, request.from_address or self._senders.default_from or "")
        objection = self._senders.objection(content.from_address)
        return content, [objection, *objections] if objection else objections

    def freeze(self, email_id: str, content: EmailContent) -> tuple[bytes, EncryptedContent | None]:
        """What the log keeps of an email from now on, and the same as it travels where that is encrypted."""
        frozen, key = content.SerializeToString(), self._keys.ring.first
        if key is None:
            return frozen, None
        sealed = envelope.seal(
            key,
            email_id,
            frozen,
            has_attachments=bool(content.attachments),
            sender_domain=domain_of(content.from_address),
        )
        return envelope.to_stored(sealed), sealed

    def _render(self, wanted: TemplateContent, kind: int) -> tuple[InlineContent, list[FieldViolation]]:
        try:
            template = self._templates.get(wanted.template_id)
        except UnknownTemplateError as e:
            return InlineContent(), [FieldViolation("template.template_id", str(e))]
        violations = _kind_violations(template, kind)
        try:
            email = template.render({name: _plain(value) for name, value in wanted.variables.fields.items()})
        except UnusableVariablesError as e:
            violations += [
                FieldViolation(f"template.variables.{p.name}" if p.name else "template.variables", p.description)
                for p in e.problems
            ]
            return InlineContent(), violations
        return InlineContent(subject=email.subject, html=email.html, text=email.text), violations


@lru_cache(maxsize=4)
def templates_of(product: Product, folder: Path | None) -> TemplateBook:
    """Load the templates that the settings name, once in the life of a process.

    Raises:
        BrokenTemplatesError: Names everything that is wrong with them, by file and line.
    """
    return load_templates(product, folder)


def _kind_violations(template: EmailTemplate, kind: int) -> list[FieldViolation]:
    """The kind decides how urgent an email is and when it expires: a template that names one is for no other."""
    only = template.declaration.kind
    if only is None or EmailKind.Value(f"EMAIL_KIND_{only}") == kind:
        return []
    return [FieldViolation("kind", f"must be {only}: the template {template.declaration.id} is for this kind")]


def _plain(value: Value) -> object:
    match value.WhichOneof("kind"):
        case "bool_value":
            return value.bool_value
        case "number_value":
            return value.number_value
        case "string_value":
            return value.string_value
        case "struct_value":
            return _plain_fields(value.struct_value.fields)
        case "list_value":
            return [_plain(each) for each in value.list_value.values]
    return None


def _plain_fields(fields: Mapping[str, Value]) -> dict[str, object]:
    return {name: _plain(value) for name, value in fields.items()}


def _content(request: SendEmailRequest, inline: InlineContent, from_address: str) -> EmailContent:
    """What is sent. Fields that are rarely used are left out: to copy what is empty costs as much as the rest."""
    content = EmailContent(
        from_address=from_address,
        to=_mailboxes(request.to),
        subject=inline.subject,
        html=inline.html,
        text=inline.text,
        headers=request.headers or None,
        tags=request.tags or None,
    )
    if request.cc or request.bcc or request.reply_to:
        content.cc.extend(_mailboxes(request.cc))
        content.bcc.extend(_mailboxes(request.bcc))
        content.reply_to.extend(_mailboxes(request.reply_to))
    if request.attachments:
        content.attachments.extend(request.attachments)
    return content


def _mailboxes(addresses: Sequence[str]) -> list[str]:
    """Addresses as any mail program reads them alike: domains in ASCII, display names quoted where they must be."""
    return [parse_address(address).mailbox for address in addresses]
