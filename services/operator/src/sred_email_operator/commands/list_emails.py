"""``sred-email list``."""

from collections.abc import Iterator
from typing import Annotated

import typer

from sred.email.v1.dispatch_service_pb2 import ListEmailsRequest
from sred.email.v1.dispatch_service_pb2_grpc import EmailDispatchServiceStub
from sred.email.v1.email_pb2 import DeliveryState, Email, EmailKind, EmailStatus
from sred_email_operator import output
from sred_email_operator.choices import enum_value, moment
from sred_email_operator.connection import dispatch_service
from sred_email_operator.options import (
    DEFAULT_INGRESS_ADDRESS,
    DEFAULT_TIMEOUT_S,
    AsJson,
    IngressAddress,
    TimeoutSeconds,
)

_PAGE = 500
_WIDTHS = (27, 36, 20, 10, 15, 8, 24, 0)
_HEAD = ("created_at", "email_id", "kind", "status", "delivery", "attempts", "to", "subject")

_Status = Annotated[
    list[str] | None,
    typer.Option(
        metavar="STATUS", help=f"One of {output.enum_choices(EmailStatus.DESCRIPTOR)}; may be repeated. Default: any."
    ),
]
_Recipient = Annotated[str, typer.Option("--recipient", "--to", metavar="ADDRESS", help="With this address in `to`.")]
_Kind = Annotated[
    str | None, typer.Option(metavar="KIND", help=f"One of {output.enum_choices(EmailKind.DESCRIPTOR)}. Default: any.")
]
_TIME_HELP = "2026-03-01T12:00Z (UTC where no zone is named), or 24h for a day ago."
_After = Annotated[str | None, typer.Option(metavar="TIME", help=f"Accepted then or later: {_TIME_HELP}")]
_Before = Annotated[str | None, typer.Option(metavar="TIME", help=f"Accepted before that: {_TIME_HELP}")]
_Limit = Annotated[int, typer.Option(min=1, metavar="N", help="The most to list.")]


def list_emails(  # noqa: PLR0913 - an argument for each option
    *,
    status: _Status = None,
    recipient: _Recipient = "",
    kind: _Kind = None,
    after: _After = None,
    before: _Before = None,
    limit: _Limit = 50,
    address: IngressAddress = DEFAULT_INGRESS_ADDRESS,
    timeout_s: TimeoutSeconds = DEFAULT_TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """List emails, the newest first. With --json each is one object on a line of its own."""
    request = ListEmailsRequest(
        statuses=[EmailStatus.ValueType(enum_value(EmailStatus.DESCRIPTOR, name, "--status")) for name in status or ()],
        recipient=recipient,
        kind=EmailKind.ValueType(enum_value(EmailKind.DESCRIPTOR, kind, "--kind"))
        if kind is not None
        else EmailKind.EMAIL_KIND_UNSPECIFIED,
        created_after=moment(after, "--after"),
        created_before=moment(before, "--before"),
    )
    listed = 0
    with dispatch_service(address) as service:
        for email in _pages(service, request, limit, timeout_s):
            if as_json:
                output.show_line(email)
            else:
                if listed == 0:
                    output.show_row(*zip(_HEAD, _WIDTHS, strict=True))
                _show(email)
            listed += 1
    if not as_json and listed == 0:
        output.print_note("no email is like that")
    elif not as_json and request.page_token:
        output.print_note(f"there are more: these are the newest {limit}, --limit shows others")


def _pages(
    service: EmailDispatchServiceStub, request: ListEmailsRequest, limit: int, timeout_s: float
) -> Iterator[Email]:
    """Follow the pages; afterwards the request has the token of the one that would be next."""
    while limit > 0:
        request.page_size = min(limit, _PAGE)
        response = service.ListEmails(request, timeout=timeout_s)
        yield from response.emails
        limit -= len(response.emails)
        request.page_token = response.next_page_token
        if not request.page_token:
            return


def _show(email: Email) -> None:
    first, *others = email.to or [""]
    cells = (
        output.shown(email.created_at),
        email.email_id,
        output.shown(email.kind, EmailKind.DESCRIPTOR),
        output.shown(email.status, EmailStatus.DESCRIPTOR),
        output.shown(email.delivery, DeliveryState.DESCRIPTOR),
        str(email.attempts),
        f"{first} +{len(others)}" if others else first,
        email.subject,
    )
    output.show_row(*zip(cells, _WIDTHS, strict=True))
