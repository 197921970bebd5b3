"""``sred-email send --file``: many emails, safe to run again."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sred_email_client import (
    AccessRefusedError,
    EmailError,
    InvalidRequestError,
    RetryLaterError,
    SendResult,
    SyncEmailClient,
)
from sred_email_client.conversion import to_request
from sred_email_operator import output
from sred_email_operator.emails_file import EmailLine, LineError, read_emails
from sred_email_operator.files import text_of

_AT_ONCE = 200
"""Emails of one call: few enough that the progress bar moves."""
_ERRORS_SHOWN = 50


def send_file(
    path: str, *, defaults: Mapping[str, Any], mailing: str | None, address: str, timeout_s: float, as_json: bool
) -> None:
    """Send every email of a file. Nothing is sent unless all of it can be read.

    Args:
        path: The file; ``-``: stdin.
        defaults: Fields for the emails that do not have them.
        mailing: Names the mailing, for the keys of emails that have none.
        address: Of the ingress.
        timeout_s: How long one call may take.
        as_json: Whether the outcome is for a program.

    Raises:
        typer.Exit: The file is bad (2), or an email was refused (1); the lines stand on stderr.
        typer.BadParameter: The file can't be read.
    """
    emails, errors = read_emails(text_of(path, "--file"), defaults=defaults, mailing=mailing, folder=_folder(path))
    errors += [LineError(each.line, _reason(error)) for each, error in _unwritable(emails)]
    if errors:
        _print_lines("nothing was sent, the file has errors", sorted(errors, key=lambda error: error.line))
        raise typer.Exit(2)
    outcomes = _send(emails, address, timeout_s)
    refused = [
        LineError(each.line, _reason(outcome))
        for each, outcome in zip(emails, outcomes, strict=False)
        if isinstance(outcome, EmailError)
    ]
    results = [outcome for outcome in outcomes if isinstance(outcome, SendResult)]
    _print_outcome(emails, outcomes, results, as_json=as_json)
    untried = len(emails) - len(outcomes)
    if refused:
        title = f"{len(refused)} of {len(emails)} emails were not accepted"
        if untried:
            title += f", and {untried} after them were not tried"
        _print_lines(f"{title}; run it again when that is mended, nothing is sent twice", refused)
        raise typer.Exit(1)


def _send(emails: Sequence[EmailLine], address: str, timeout_s: float) -> list[SendResult | EmailError]:
    outcomes = list[SendResult | EmailError]()
    with SyncEmailClient(address, timeout=timeout_s) as client, _progress(len(emails)) as bar:
        for begin in range(0, len(emails), _AT_ONCE):
            chunk = emails[begin : begin + _AT_ONCE]
            new = client.send_many(each.email for each in chunk)
            outcomes += new
            bar.advance(len(chunk))
            if all(isinstance(outcome, RetryLaterError | AccessRefusedError) for outcome in new):
                break  # the next ones would not fare better
    return outcomes


class _Bar(Protocol):
    def advance(self, count: int) -> None: ...


class _NoBar:
    def advance(self, count: int) -> None:
        """Nobody looks."""


class _TerminalBar:
    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("sending", total=total)

    def advance(self, count: int) -> None:
        self._progress.advance(self._task, count)


@contextmanager
def _progress(total: int) -> Iterator[_Bar]:
    screen = output.console(stderr=True)
    if not screen.is_terminal:
        yield _NoBar()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen) as progress:
        yield _TerminalBar(progress, total)


def _folder(path: str) -> Path:
    return Path() if path == "-" else Path(path).parent


def _unwritable(emails: Sequence[EmailLine]) -> Iterator[tuple[EmailLine, InvalidRequestError]]:
    for each in emails:
        try:
            to_request(each.email)
        except InvalidRequestError as error:
            yield each, error


def _reason(error: EmailError) -> str:
    if isinstance(error, InvalidRequestError) and error.violations:
        return "; ".join(f"{each.field}: {each.description}" for each in error.violations)
    return f"{error.code}: {error}"


def _print_lines(title: str, errors: Sequence[LineError]) -> None:
    shown = [f"line {error.line}: {error.reason}" for error in errors[:_ERRORS_SHOWN]]
    if len(errors) > _ERRORS_SHOWN:
        shown.append(f"and {len(errors) - _ERRORS_SHOWN} more")
    output.print_failure(title, *shown)


def _print_outcome(
    emails: Sequence[EmailLine],
    outcomes: Sequence[SendResult | EmailError],
    results: Sequence[SendResult],
    *,
    as_json: bool,
) -> None:
    known = sum(result.deduplicated for result in results)
    if not as_json:
        before = f", {known} of them before" if known else ""
        output.console().print(f"{len(results)} of {len(emails)} accepted{before}", soft_wrap=True)
        return
    listed = [_as_dict(each, outcome) for each, outcome in zip(emails, outcomes, strict=False)]
    typer.echo(json.dumps({"accepted": len(results), "deduplicated": known, "emails": listed}, indent=2))


def _as_dict(each: EmailLine, outcome: SendResult | EmailError) -> dict[str, object]:
    told: dict[str, object] = {"line": each.line, "idempotency_key": each.email.idempotency_key}
    if isinstance(outcome, SendResult):
        status = str(outcome.status)
        return told | {"email_id": outcome.email_id, "status": status, "deduplicated": outcome.deduplicated}
    return told | {"error": outcome.code, "message": str(outcome)}
