"""The program ``sred-email``. To add a command: write it in ``commands/``, name it here."""

import sys
from importlib.metadata import version
from io import TextIOWrapper
from typing import Annotated

import typer

from sred_email_operator.commands.audit import audit
from sred_email_operator.commands.cancel import cancel
from sred_email_operator.commands.console import console
from sred_email_operator.commands.delivery import pause, resume
from sred_email_operator.commands.dlq import dlq
from sred_email_operator.commands.erase import erase
from sred_email_operator.commands.list_emails import list_emails
from sred_email_operator.commands.send import send
from sred_email_operator.commands.stats import stats
from sred_email_operator.commands.status import status
from sred_email_operator.commands.suppressions import suppressions
from sred_email_operator.commands.template import app as template
from sred_email_operator.commands.token import app as token
from sred_email_operator.commands.watch import watch

app = typer.Typer(
    name="sred-email",
    help="Sends emails through the email dispatch system, and tells what became of them.",
    epilog=(
        "Exit codes: 0 done, 1 refused or failed (the reason is on stderr), 2 wrong usage. Every command takes --json: "
        "the names are those of the gRPC contract, enum values without their prefix (QUEUED, not EMAIL_STATUS_QUEUED)."
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # the same help and the same errors on a terminal, in a log and in a pipe
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _example(command: str) -> str:
    return f"\b\nExample:\n  {command}"


app.command(
    epilog=_example(
        "sred-email send --kind welcome --to ada@example.com \\\n"
        "    --subject Welcome --html '<p>Hello, Ada</p>' --key welcome-ada --wait\n"
        "  sred-email send --kind password-reset --to ada@example.com \\\n"
        "    --template password-reset --variables @reset.json\n"
        "  sred-email send --kind system-notification --file emails.csv --key spring-news"
    )
)(send)
app.command(epilog=_example("sred-email status 019a9c2e-7d40-7000-8000-2f3b1c5d7e90 --json"))(status)
app.command("list", epilog=_example("sred-email list --status FAILED --after 24h --limit 200 --json"))(list_emails)
app.command(epilog=_example("sred-email watch 019a9c2e-7d40-7000-8000-2f3b1c5d7e90"))(watch)
app.command(epilog=_example("sred-email cancel 019a9c2e-7d40-7000-8000-2f3b1c5d7e90"))(cancel)
app.add_typer(template, name="template")
app.add_typer(token, name="token")
app.command(epilog=_example("sred-email stats --watch"))(stats)
app.add_typer(dlq)
app.command(epilog=_example("sred-email pause --lane LOW --reason 'a newsletter went out twice'"))(pause)
app.command(epilog=_example("sred-email resume --lane LOW"))(resume)
app.add_typer(suppressions)
app.command(epilog=_example("sred-email erase ada@example.com"))(erase)
app.command(epilog=_example("sred-email audit --limit 20 --json"))(audit)
app.command(epilog=_example("SRED_EMAIL_CONSOLE_TOKEN_FILE=/run/secrets/console sred-email console"))(console)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        typer.echo(f"sred-email {version('sred-email-operator')}")
        raise typer.Exit


@app.callback()
def options(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take what stands before the command."""


def main() -> None:
    """Run the command line of this process and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what a terminal cannot show is no reason to fail
    try:
        app()
    except UnicodeEncodeError:  # the bytes of a word of the command line, or of a file's name
        typer.echo("sred-email: an argument is not UTF-8", err=True)
        sys.exit(2)
    except Exception as error:  # noqa: BLE001 - a bug; whoever sits at the terminal gets a sentence all the same
        typer.echo(f"sred-email: this is a bug: {type(error).__name__}: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
