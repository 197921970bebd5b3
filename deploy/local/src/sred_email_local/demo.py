"""``demo``: once through, from a call to the end of each email."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from sred_email_local.ports import LOOPBACK
from sred_email_local.sending import Result, await_ends, send_samples
from sred_email_local.settings import LocalSettings
from sred_email_local.stack import running_stack
from sred_email_local.up import say

_ENDS_S = 60.0
_PIPE_WIDTH = 140


async def run_demo(settings: LocalSettings) -> int:
    """Start everything on empty data, send one email of each kind, wait for their ends and show them.

    Returns:
        The exit code: 0 if each was delivered.

    Raises:
        ProcessError: A child did not come up.
    """
    folder = settings.folder / "demo"
    address = f"{LOOPBACK}:{settings.ports.ingress_grpc}"
    async with running_stack(settings, folder, say, empty=True) as stack:
        sent = await send_samples(address, stack.token, sandbox=settings.uses_sandbox)
        results = await await_ends(address, stack.token, sent, _ENDS_S)
    return show_results(results)


def show_results(results: Sequence[Result]) -> int:
    """Print the table and the sum; the exit code."""
    table = Table(title="One email of each kind", title_justify="left")
    for heading in ("kind", "to", "status"):
        table.add_column(heading)
    table.add_column("attempts", justify="right")
    table.add_column("took ms", justify="right")
    table.add_column("provider id", no_wrap=True)
    for result in results:
        took = "" if result.took_ms is None else f"{result.took_ms:.0f}"
        attempts, provider_id = str(result.email.attempts), result.email.provider_message_id
        table.add_row(result.sample.kind, result.to, result.status, attempts, took, provider_id)
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH).print(table)
    for result in results:
        if result.email.last_error:
            say(f"{result.sample.kind}: {result.email.last_error}")
    delivered = sum(result.status == "SUCCESS" for result in results)
    say(f"{delivered} of {len(results)} delivered")
    return 0 if delivered == len(results) else 1
