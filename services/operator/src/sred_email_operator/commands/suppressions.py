"""``sred-email suppressions``: the addresses that get no email."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

import typer

from sred.email.v1.email_pb2 import Suppression, SuppressionReason
from sred.email.v1.operations_service_pb2 import (
    AddSuppressionRequest,
    ListSuppressionsRequest,
    RemoveSuppressionRequest,
)
from sred.email.v1.operations_service_pb2_grpc import EmailOperationsServiceStub
from sred_email_operator import output
from sred_email_operator.connection import operations_service
from sred_email_operator.options import (
    DEFAULT_CONSUMER_ADDRESS,
    DEFAULT_TIMEOUT_S,
    AsJson,
    ConsumerAddress,
    TimeoutSeconds,
)

suppressions = typer.Typer(
    name="suppressions",
    help="Addresses that get no email. Those that bounced for good, that complained, or that you name.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_PAGE = 1000
_Recipient = Annotated[str, typer.Argument(metavar="ADDRESS", help="The email address.")]
_REASON = SuppressionReason.DESCRIPTOR
_HEAD = ("address", "reason", "created_at", "expires_at")


@suppressions.command("list")
def list_suppressions(
    recipient: Annotated[str, typer.Argument(metavar="[ADDRESS]", help="Only this one.")] = "",
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="The most to show.")] = 100,
    address: ConsumerAddress = DEFAULT_CONSUMER_ADDRESS,
    timeout_s: TimeoutSeconds = DEFAULT_TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """List suppressed addresses, in the order of the addresses."""
    with operations_service(address) as service:
        found = list(_pages(service, recipient, limit + 1, timeout_s))
    more, found = len(found) > limit, found[:limit]
    if as_json:
        typer.echo(json.dumps({"suppressions": [output.as_dict(each) for each in found]}, indent=2))
        return
    if found:
        widths = (max(len(_HEAD[0]), *(len(output.printable(each.address)) for each in found)), 10, 27, 0)
        output.show_row(*zip(_HEAD, widths, strict=True))
    for each in found:
        expires_at = output.shown_time(each.expires_at) if each.HasField("expires_at") else "-"
        cells = (each.address, output.enum_name(_REASON, each.reason), output.shown_time(each.created_at), expires_at)
        output.show_row(*zip(cells, widths, strict=True))
    if more:
        output.print_note(f"there are more: these are the first {limit}, --limit shows others")
    elif not found:
        output.print_note("no address is suppressed" if not recipient else "it is not suppressed")


@suppressions.command("add")
def add(
    recipient: _Recipient,
    *,
    until: Annotated[
        datetime | None,
        typer.Option("--until", help="When it ends, UTC; not given: when it is removed."),
    ] = None,
    reason: Annotated[
        str, typer.Option("--reason", metavar="REASON", help=f"One of {output.enum_choices(_REASON)}.")
    ] = "MANUAL",
    address: ConsumerAddress = DEFAULT_CONSUMER_ADDRESS,
    timeout_s: TimeoutSeconds = DEFAULT_TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Let an address get no more email. Of one that is suppressed, replace reason and end."""
    value = _REASON.values_by_name.get(output.enum_prefix(_REASON) + reason.upper())
    if value is None or not value.number:
        raise typer.BadParameter(f"one of {output.enum_choices(_REASON)} is needed", param_hint="--reason")
    request = AddSuppressionRequest(address=recipient, reason=SuppressionReason.ValueType(value.number))
    if until is not None:
        request.expires_at.FromDatetime(until.replace(tzinfo=UTC))
    with operations_service(address) as service:
        response = service.AddSuppression(request, timeout=timeout_s)
    output.show(response.suppression, as_json=as_json)


@suppressions.command("remove")
def remove(
    recipient: _Recipient,
    *,
    address: ConsumerAddress = DEFAULT_CONSUMER_ADDRESS,
    timeout_s: TimeoutSeconds = DEFAULT_TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Let an address get email again."""
    with operations_service(address) as service:
        service.RemoveSuppression(RemoveSuppressionRequest(address=recipient), timeout=timeout_s)
    typer.echo(json.dumps({"removed": recipient}) if as_json else f"removed {output.printable(recipient)}")


def _pages(service: EmailOperationsServiceStub, recipient: str, limit: int, timeout_s: float) -> Iterator[Suppression]:
    token, left = "", limit
    while left > 0:
        request = ListSuppressionsRequest(address=recipient, page_size=min(left, _PAGE), page_token=token)
        page = service.ListSuppressions(request, timeout=timeout_s)
        yield from page.suppressions
        left -= len(page.suppressions)
        token = page.next_page_token
        if not token:
            return
