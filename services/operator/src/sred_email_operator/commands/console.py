"""``sred-email console``."""

import asyncio
import os
import sys
from typing import Annotated

import typer

from sred_email_operator import output
from sred_email_operator.console.settings import SettingsError, read_settings
from sred_email_operator.options import DEFAULT_CONSUMER_ADDRESS, DEFAULT_INGRESS_ADDRESS, TimelineAddress

_IngressAddress = Annotated[
    str,
    typer.Option(
        "--ingress-address", envvar="SRED_EMAIL_INGRESS_ADDRESS", metavar="HOST:PORT", help="Where the ingress is."
    ),
]


def console(
    *,
    ingress_address: _IngressAddress = DEFAULT_INGRESS_ADDRESS,
    consumer_address: TimelineAddress = DEFAULT_CONSUMER_ADDRESS,
) -> None:
    """Serve the web console until SIGTERM or Ctrl-C.

    SRED_EMAIL_CONSOLE_TOKEN is what operators log in with; on this machine alone, a console without one makes one for
    the run and prints it. docs/configuration.md names the other variables.
    """
    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    if settings.token_is_made:
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        typer.echo(f"The console: http://{host}:{settings.port}/  Log in with the token of this run: {settings.token}")
    # Here, since they bring a web server, which would cost every other command a third of its start.
    from sred_email_operator.console.app import run_console  # noqa: PLC0415 - see above
    from sred_email_operator.console.logs import set_up_logs  # noqa: PLC0415 - see above

    set_up_logs(on_terminal=sys.stderr.isatty())
    try:
        asyncio.run(run_console(settings, ingress_address, consumer_address))
    except OSError as error:
        reason = error.strerror or str(error)
        output.print_failure(
            f"can't listen on {settings.host}:{settings.port}: {reason}. SRED_EMAIL_CONSOLE_LISTEN names another place"
        )
        raise typer.Exit(1) from error
