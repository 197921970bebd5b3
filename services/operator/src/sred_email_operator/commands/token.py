"""``sred-email token new``."""

import hashlib
import json
import re
import secrets
from typing import Annotated

import typer

from sred_email_operator import output
from sred_email_operator.options import AsJson

SCOPES = ("send", "read", "operate")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_RANDOM_BYTES = 32

app = typer.Typer(help="Make the tokens that callers show.", no_args_is_help=True)


@app.callback()
def token() -> None:
    """Make the tokens that callers show."""


@app.command(
    epilog="\b\nExample:\n  sred-email token new --name shop --scopes send,read\n"
    "  sred-email token new --name console --scopes read,operate,send --json"
)
def new(
    *,
    name: Annotated[str, typer.Option(metavar="NAME", help="Of the caller, as log and audit show it.")],
    scopes: Annotated[str, typer.Option(metavar="SCOPES", help="What it may do: some of send,read,operate.")],
    as_json: AsJson = False,
) -> None:
    """Print a new token, once, and its line for the tokens file of the services. It calls nobody."""
    if not _NAME.fullmatch(name):
        raise typer.BadParameter(
            "1 to 64 of A-Z a-z 0-9 . _ - are needed, the first a letter or a digit", param_hint="--name"
        )
    wanted = [scope.strip() for scope in scopes.split(",")]
    if not all(scope in SCOPES for scope in wanted):
        raise typer.BadParameter(f"some of {','.join(SCOPES)} are needed, separated by commas", param_hint="--scopes")
    made = f"sred_{secrets.token_urlsafe(_RANDOM_BYTES)}"
    line = f"{name} {','.join(dict.fromkeys(wanted))} sha256:{hashlib.sha256(made.encode()).hexdigest()}"
    if as_json:
        typer.echo(json.dumps({"token": made, "line": line}))
        return
    typer.echo(made)
    typer.echo(line)
    output.print_note(
        "the first line is the token, for the caller: it is shown this once. The second one, for the tokens file"
    )
