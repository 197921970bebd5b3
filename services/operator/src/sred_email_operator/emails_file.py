"""Emails in a file: CSV, a JSON array, or JSON lines; each with the line it begins on.

The names are those of the contract. In CSV, several addresses are separated by semicolons, and a column such as
``tags.campaign``, ``headers.X-Thing`` or ``variables.name`` is one entry of a map.
"""

import csv
import io
import json
import mimetypes
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from email.utils import parseaddr
from pathlib import Path
from typing import Any

from sred_email_client import Attachment, OutgoingEmail, build_idempotency_key
from sred_email_operator.files import read

_LISTS = ("to", "cc", "bcc", "reply_to", "attachments")
_MAPS = ("headers", "tags", "variables")
_TIMES = ("send_at", "expire_at")
_NAMES = frozenset(each.name for each in fields(OutgoingEmail))
_BETWEEN = re.compile(r"[ \t\r\n,]*")
_OTHER_NAMES = {"from": "from_address", "key": "idempotency_key"}


@dataclass(frozen=True, slots=True)
class LineError:
    """What is wrong with one line.

    Attributes:
        line: Counted from 1.
        reason: What, and how to mend it.
    """

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class EmailLine:
    """One email of a file.

    Attributes:
        line: Where it begins, counted from 1.
        email: What is to be sent.
    """

    line: int
    email: OutgoingEmail


def read_emails(
    text: str, *, defaults: Mapping[str, Any], mailing: str | None, folder: Path
) -> tuple[list[EmailLine], list[LineError]]:
    """Read all emails of a file.

    Args:
        text: What the file holds. An array is JSON, an object JSON lines, anything else CSV.
        defaults: Fields for the emails that do not have them.
        mailing: Name that makes keys, together with kind and first recipient, for the emails that have none.
        folder: Where the paths of attachments begin.

    Returns:
        The emails, and what is wrong with the lines that hold none.
    """
    emails, errors = list[EmailLine](), list[LineError]()
    begin = text.lstrip()[:1]
    rows = _json_array if begin == "[" else _json_lines if begin == "{" else _csv_rows
    for line, row in rows(text):
        try:
            if isinstance(row, str):
                errors.append(LineError(line, row))
            else:
                emails.append(EmailLine(line, _email({**defaults, **_named(row)}, mailing, folder)))
        except ValueError as error:
            errors.append(LineError(line, str(error)))
    return emails, errors


def _csv_rows(text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Rows with their lines; a text instead of a row says what is wrong with it."""
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for name in reader.fieldnames or ():
            _known(name.partition(".")[0])
        line = reader.line_num + 1
        for row in reader:
            if None in row:
                yield line, "has more fields than the first line has names"
            else:
                yield line, {name: value for name, value in row.items() if value}
            line = reader.line_num + 1
    except (csv.Error, ValueError) as error:
        yield line, str(error)


def _json_lines(text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    for line, written in enumerate(text.split("\n"), start=1):  # splitlines would cut at U+2028, which texts may hold
        if written.strip():
            yield line, _object(lambda written=written: json.loads(written))  # type: ignore[misc]


def _json_array(text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    decoder, position, line = json.JSONDecoder(), text.index("[") + 1, 1 + text.count("\n", 0, text.index("["))
    while True:
        between = _BETWEEN.match(text, position)
        line += text.count("\n", position, between.end() if between else position)
        position = between.end() if between else position
        if text.startswith("]", position):
            if text[position + 1 :].strip():
                yield line + text.count("\n", position, _next(text, position + 1)), "is more after the end of the array"
            return
        try:
            value, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            yield line, f"is no JSON: {error}"
            return
        yield line, _object(lambda value=value: value)  # type: ignore[misc]
        line += text.count("\n", position, end)
        position = end


def _next(text: str, position: int) -> int:
    """Where the next thing stands that is no white space."""
    return len(text) - len(text[position:].lstrip())


def _object(read: Callable[[], Any]) -> dict[str, Any] | str:
    try:
        value = read()
    except (ValueError, RecursionError) as error:
        return f"is no JSON: {error}"
    return value if isinstance(value, dict) else "is no JSON object"


def _named(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row under the names of the contract, its maps put together."""
    named = dict[str, Any]()
    for name, value in row.items():
        start, dot, entry = name.partition(".")
        known = _known(start)
        if not dot:
            named[known] = value
        elif known in _MAPS:
            named.setdefault(known, {})[entry] = value
        else:
            raise ValueError(f"{name}: only {', '.join(_MAPS)} have entries")
    return named


def _known(name: str) -> str:
    known = _OTHER_NAMES.get(name.strip().lower(), name.strip())
    if known not in _NAMES:
        raise ValueError(f"{name!r} is no field of an email: use {', '.join(sorted(_NAMES))}")
    return known


def _email(values: dict[str, Any], mailing: str | None, folder: Path) -> OutgoingEmail:
    for name in _LISTS:
        if isinstance(values.get(name), str):
            values[name] = [each.strip() for each in values[name].split(";") if each.strip()]
        if not _is_list_of_texts(values.get(name, [])):
            raise ValueError(f"{name}: must be a list of texts, or one text")
    for name in _MAPS:
        if not isinstance(values.get(name, {}), dict):
            raise ValueError(f"{name}: must be an object")  # noqa: TRY004 - of the file, not of the program
    for name in _TIMES:
        if isinstance(values.get(name), str):
            values[name] = _time(name, values[name])
    values["attachments"] = [_attachment(folder / path) for path in values.get("attachments", ())]
    values.setdefault("kind", "")
    values.setdefault("to", [])
    if not values.get("idempotency_key"):
        values["idempotency_key"] = _key(values, mailing)
    return OutgoingEmail(**values)


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _time(name: str, text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{name}: {text!r} is no time such as 2030-01-31T08:00:00+00:00") from error


def _attachment(path: Path) -> Attachment:
    content_type, _ = mimetypes.guess_type(path.name)
    return Attachment(path.name, read(path), content_type or "")


def _key(values: Mapping[str, Any], mailing: str | None) -> str:
    if not mailing:
        raise ValueError("has no idempotency_key: give it one, or name the mailing with --key to have keys made")
    recipients = values["to"]
    address = parseaddr(recipients[0])[1] if recipients else ""
    kind = str(values["kind"]).upper().replace("-", "_")
    return build_idempotency_key(kind, address, mailing)
