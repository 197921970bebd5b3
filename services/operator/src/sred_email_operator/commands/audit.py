"""``sred-email audit``."""

from typing import Annotated

import typer

from sred.email.v1.operations_service_pb2 import ListAuditEntriesRequest
from sred_email_operator import output
from sred_email_operator.connection import operations_service
from sred_email_operator.options import (
    DEFAULT_CONSUMER_ADDRESS,
    DEFAULT_TIMEOUT_S,
    AsJson,
    ConsumerAddress,
    TimeoutSeconds,
)

_PAGE = 500
_WIDTHS = (27, 18, 6, 32, 32, 0)
_HEAD = ("at", "action", "count", "actor", "target", "detail")


def audit(
    *,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="The most to list.")] = 50,
    address: ConsumerAddress = DEFAULT_CONSUMER_ADDRESS,
    timeout_s: TimeoutSeconds = DEFAULT_TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """List what operators did, the latest first. With --json each entry is one object on a line of its own."""
    request, listed = ListAuditEntriesRequest(), 0
    with operations_service(address) as service:
        while listed < limit:
            request.page_size = min(limit - listed, _PAGE)
            response = service.ListAuditEntries(request, timeout=timeout_s)
            if response.entries and listed == 0 and not as_json:
                output.show_row(*zip(_HEAD, _WIDTHS, strict=True))
            for entry in response.entries:
                if as_json:
                    output.show_line(entry)
                    continue
                cells = (
                    output.shown(entry.at),
                    entry.action,
                    str(entry.count),
                    entry.actor,
                    entry.target,
                    entry.detail,
                )
                output.show_row(*zip(cells, _WIDTHS, strict=True))
            listed += len(response.entries)
            request.page_token = response.next_page_token
            if not request.page_token:
                break
    if not as_json and listed == 0:
        output.print_note("nobody has done anything yet")
