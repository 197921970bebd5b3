"""``sred-email send``."""

import mimetypes
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer
from google.protobuf.descriptor import EnumDescriptor

from sred.email.v1.dispatch_service_pb2 import SendEmailRequest
from sred.email.v1.email_pb2 import Attachment, EmailKind, EmailStatus, InlineContent, Priority, TemplateContent
from sred_email_operator import output
from sred_email_operator.commands.send_file import send_file
from sred_email_operator.connection import dispatch_service
from sred_email_operator.files import UnreadableFileError, json_object, read, text_or_file
from sred_email_operator.options import (
    DEFAULT_INGRESS_ADDRESS,
    DEFAULT_TIMEOUT_S,
    AsJson,
    IngressAddress,
    TimeoutSeconds,
)
from sred_email_operator.waiting import wait_until_ended

_BODY_HELP = "the text itself, @FILE, or - for stdin"

_Kind = Annotated[str | None, typer.Option(metavar="KIND", help=f"One of {output.enum_choices(EmailKind.DESCRIPTOR)}.")]
_Priority = Annotated[
    str | None,
    typer.Option(metavar="LANE", help=f"One of {output.enum_choices(Priority.DESCRIPTOR)}; default: the kind's."),
]
_To = Annotated[list[str] | None, typer.Option(metavar="ADDRESS", help="A recipient; may be repeated.")]
_Cc = Annotated[list[str] | None, typer.Option(metavar="ADDRESS", help="Gets a copy; may be repeated.")]
_Bcc = Annotated[list[str] | None, typer.Option(metavar="ADDRESS", help="Gets a hidden copy; may be repeated.")]
_ReplyTo = Annotated[list[str] | None, typer.Option(metavar="ADDRESS", help="Where answers go; may be repeated.")]
_From = Annotated[str, typer.Option("--from", metavar="ADDRESS", help="The sender; default: that of the ingress.")]
_Subject = Annotated[str, typer.Option(metavar="TEXT", help="The subject.")]
_Html = Annotated[str, typer.Option(metavar="TEXT", help=f"The HTML body: {_BODY_HELP}.")]
_Text = Annotated[str, typer.Option(metavar="TEXT", help=f"The plain text body: {_BODY_HELP}.")]
_Template = Annotated[
    str, typer.Option(metavar="ID", help="A template, instead of subject, html and text: `sred-email template list`.")
]
_Variables = Annotated[
    str, typer.Option(metavar="JSON", help="What the template is told: a JSON object, @FILE, or - for stdin.")
]
_Tag = Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A label; may be repeated.")]
_Header = Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A header; may be repeated.")]
_Attach = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="A file; may be repeated."),
]
_Key = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="Idempotency key; default: one is made and printed. With --file, the mailing's name: keys are made of it, "
        "the kind and the first recipient, for emails that have none.",
    ),
]
_File = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Send many: CSV, a JSON array or JSON lines; - for stdin. Fields are named as in the contract (to, html,"
        " tags.NAME ...); --kind, --subject, --html, --text, --template, --from and --priority are for those without.",
    ),
]
_Wait = Annotated[bool, typer.Option("--wait", help="Wait until the email has ended; exit 1 unless it is SUCCESS.")]


def send(  # noqa: PLR0913 - an argument for each option
    *,
    kind: _Kind = None,
    to: _To = None,
    subject: _Subject = "",
    html: _Html = "",
    text: _Text = "",
    template: _Template = "",
    variables: _Variables = "",
    from_address: _From = "",
    cc: _Cc = None,
    bcc: _Bcc = None,
    reply_to: _ReplyTo = None,
    priority: _Priority = None,
    tag: _Tag = None,
    header: _Header = None,
    attach: _Attach = None,
    key: _Key = None,
    file: _File = None,
    wait: _Wait = False,
    address: IngressAddress = DEFAULT_INGRESS_ADDRESS,
    timeout_s: TimeoutSeconds = DEFAULT_TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Send one email, or many from a file. Repeating it with the same --key never sends a second one."""
    if [html, text, variables, file].count("-") > 1:
        raise typer.BadParameter(
            "only one of them can come from stdin", param_hint="--html, --text, --variables, --file"
        )
    if template and (subject or html or text):
        raise typer.BadParameter("goes with none of --subject, --html and --text", param_hint="--template")
    if variables and not template:
        raise typer.BadParameter("belong to a --template", param_hint="--variables")
    told = json_object(text_or_file(variables, "--variables"), "--variables") if variables else {}
    if file is not None:
        if to or cc or bcc or reply_to or tag or header or attach or wait:
            raise typer.BadParameter("these belong into the file", param_hint="--to, --cc, --tag ...")
        defaults = {
            "kind": kind,
            "subject": subject,
            "html": text_or_file(html, "--html"),
            "text": text_or_file(text, "--text"),
            "template": template,
            "variables": told,
            "from_address": from_address,
            "priority": priority,
        }
        given = {name: value for name, value in defaults.items() if value}
        send_file(file, defaults=given, mailing=key, address=address, timeout_s=timeout_s, as_json=as_json)
        return
    if kind is None or not to:
        raise typer.BadParameter("is needed, or --file", param_hint="--to" if kind else "--kind")
    request = SendEmailRequest(
        kind=EmailKind.Value(_enum_name(EmailKind.DESCRIPTOR, kind, "--kind")),
        priority=Priority.Value(_enum_name(Priority.DESCRIPTOR, priority, "--priority"))
        if priority is not None
        else Priority.PRIORITY_UNSPECIFIED,
        from_address=from_address,
        to=to,
        cc=cc,
        bcc=bcc,
        reply_to=reply_to,
        inline=None
        if template
        else InlineContent(subject=subject, html=text_or_file(html, "--html"), text=text_or_file(text, "--text")),
        template=_template_content(template, told) if template else None,
        headers=_pairs(header, "--header"),
        attachments=[_attachment(path) for path in attach or ()],
        tags=_pairs(tag, "--tag"),
        idempotency_key=_made_key() if key is None else key,
    )
    with dispatch_service(address) as service:
        response = service.SendEmail(request, timeout=timeout_s)
        if not wait:
            output.show(response, as_json=as_json, idempotency_key=request.idempotency_key)
            return
        email = wait_until_ended(service, response.email_id, timeout_s=timeout_s)
    output.show(email, as_json=as_json, deduplicated=response.deduplicated)
    if email.status != EmailStatus.EMAIL_STATUS_SUCCESS:
        ended = output.enum_name(EmailStatus.DESCRIPTOR, email.status)
        output.print_failure(f"the email ended {ended}", *filter(None, [email.last_error]))
        raise typer.Exit(1)


def _made_key() -> str:
    key = f"sred-email-{uuid4()}"
    typer.echo(f"idempotency key: {key}", err=True)  # before the call: whoever gets no answer can repeat it safely
    return key


def _enum_name(enum: EnumDescriptor, text: str, option: str) -> str:
    prefix = output.enum_prefix(enum)
    name = prefix + text.upper().replace("-", "_").removeprefix(prefix)
    if name not in enum.values_by_name or not enum.values_by_name[name].number:
        raise typer.BadParameter(f"one of {output.enum_choices(enum)} is needed", param_hint=option)
    return name


def _template_content(template: str, told: dict[str, Any]) -> TemplateContent:
    content = TemplateContent(template_id=template)
    try:
        content.variables.update(told)
    except ValueError as error:  # numbers such as 1e400
        raise typer.BadParameter(f"holds what cannot travel: {error}", param_hint="--variables") from error
    return content


def _pairs(values: list[str] | None, option: str) -> dict[str, str]:
    pairs = {}
    for value in values or ():
        name, equals, content = value.partition("=")
        if not equals:
            raise typer.BadParameter("NAME=VALUE is needed", param_hint=option)
        if name in pairs:
            raise typer.BadParameter(f"{name} is given twice", param_hint=option)
        pairs[name] = content
    return pairs


def _attachment(path: Path) -> Attachment:
    content_type, _ = mimetypes.guess_type(path.name)
    try:
        return Attachment(filename=path.name, content_type=content_type or "", content=read(path))
    except UnreadableFileError as error:
        raise typer.BadParameter(str(error), param_hint="--attach") from error
