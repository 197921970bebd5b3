"""Asking before something that cannot be taken back."""

from typing import Annotated

import typer

from sred_email_operator import output

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def confirm(what: str, *, yes: bool) -> None:
    """Ask whether something is to be done.

    Args:
        what: It, as a question.
        yes: It was said already.

    Raises:
        typer.Exit: The answer is no, or there is none; the exit code is 1.
    """
    if yes:
        return
    try:
        agreed = typer.confirm(output.printable(what), err=True)
    except typer.Abort as error:
        output.print_failure("nothing was done: nobody answered. Say --yes where nobody can be asked")
        raise typer.Exit(1) from error
    if not agreed:
        output.print_failure("nothing was done")
        raise typer.Exit(1)
