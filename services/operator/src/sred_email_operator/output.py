"""What the commands print: JSON for programs, tables for people, reasons on stderr.

Colour only on a terminal, and never where NO_COLOR is set. Texts that come from outside (subjects, a provider's words)
are shown with their control characters escaped, so that none of them can steer the terminal.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import cast

import typer
from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.text import Text

_NOTHING = "-"
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_STYLES = {
    "SUCCESS": "green",
    "DELIVERED": "green",
    "FAILED": "red",
    "EXPIRED": "red",
    "BOUNCED": "red",
    "COMPLAINED": "red",
    "DELIVERY_FAILED": "red",
    "CANCELLED": "yellow",
    "SUPPRESSED": "yellow",
    "RETRYING": "yellow",
    "DELAYED": "yellow",
    _NOTHING: "dim",
}


@dataclass(frozen=True, slots=True)
class Listed:
    """A field that holds several messages.

    Attributes:
        messages: What JSON gets.
        lines: What people get.
    """

    messages: Sequence[Message]
    lines: Sequence[str]


def console(*, stderr: bool = False) -> Console:
    """Open the console of stdout or stderr as it is now."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def show(message: Message, *, as_json: bool, **more: str | bool | Listed) -> None:
    """Print a message of the contract, every field under its name there.

    Args:
        message: What to print.
        as_json: Whether it is for a program.
        more: Further fields, which the message itself lacks.
    """
    if as_json:
        fields = {n: [as_dict(m) for m in v.messages] if isinstance(v, Listed) else v for n, v in more.items()}
        typer.echo(json.dumps(as_dict(message) | fields, indent=2))
        return
    rows = [*_rows(message), *((name, _shown(None, value)) for name, value in more.items())]
    width = max(len(name) for name, _ in rows) + 2
    screen = console()
    for name, text in rows:
        aligned = text.replace("\n", "\n" + " " * width)
        screen.print(Text.assemble((name.ljust(width), "bold"), (aligned, _STYLES.get(text, ""))), soft_wrap=True)


def show_line(message: Message, **more: str) -> None:
    """Print a message as one line of JSON.

    Args:
        message: What to print.
        more: Further fields, which the message itself lacks.
    """
    typer.echo(json.dumps(as_dict(message) | more, ensure_ascii=False))


def show_row(*cells: tuple[str, int], wrapped: bool = False) -> None:
    """Print a row of a table; on a terminal it is cut at the edge, or wrapped there; elsewhere it is whole.

    Args:
        cells: Text and width of each; the last one may be longer.
        wrapped: Whether nothing of it is cut.
    """
    screen = console()
    texts = [(printable(text).ljust(width), _STYLES.get(text, "")) for text, width in cells]
    row = Text("  ").join(Text(text, style) for text, style in texts)
    row.rstrip()
    if screen.is_terminal and not wrapped:
        screen.print(row, no_wrap=True, overflow="ellipsis")
    else:
        screen.print(row, soft_wrap=True)


def show_counts(*, as_json: bool, **counts: int) -> None:
    """Print how many were touched, by what was done to them."""
    typer.echo(json.dumps(counts) if as_json else ", ".join(f"{count} {what}" for what, count in counts.items()))


def print_note(note: str) -> None:
    """Print on stderr what a person may want to know besides."""
    console(stderr=True).print(Text(printable(note), style="dim"), soft_wrap=True)


def shown(value: object, enum: EnumDescriptor | None = None) -> str:
    """Show a value of a message to people; what is not set is a dash."""
    return _shown(enum, value) or _NOTHING


def print_failure(reason: str, *details: str) -> None:
    """Print on stderr why a command failed, each detail on a line of its own."""
    screen = console(stderr=True)
    screen.print(Text.assemble(("sred-email: ", "red"), printable(reason)), soft_wrap=True)
    for detail in details:
        screen.print(Text(f"  {printable(detail)}"), soft_wrap=True)


def printable(text: str) -> str:
    """Escape whatever could steer a terminal."""
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def as_dict(message: Message) -> dict[str, object]:
    """Turn a message into what its JSON holds: all fields, the contract's names, enum values without their prefix."""
    values = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    _shorten_enums(values, message)
    return values


@contextmanager
def spinner(what: str) -> Iterator[Callable[[str], None]]:
    """Show on a terminal that something goes on; elsewhere, show nothing.

    Yields:
        What to call with news.
    """
    screen = console(stderr=True)
    if not screen.is_terminal:
        yield lambda _: None
        return
    with screen.status(Text(printable(what))) as shown:
        yield lambda news: shown.update(Text(printable(news)))


def shown_time(stamp: Timestamp) -> str:
    """Write a time for people, to the millisecond."""
    return f"{stamp.ToDatetime(UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3] + " UTC"


def age(span: timedelta) -> str:
    """Write for people how long something is, in two units at most: ``3h20m``."""
    seconds = max(0.0, span.total_seconds())
    if seconds < _MINUTE_S:
        return f"{seconds:.1f}s"
    if seconds < _HOUR_S:
        return f"{seconds // _MINUTE_S:.0f}m{seconds % _MINUTE_S:.0f}s"
    if seconds < _DAY_S:
        return f"{seconds // _HOUR_S:.0f}h{seconds % _HOUR_S // _MINUTE_S:.0f}m"
    return f"{seconds // _DAY_S:.0f}d{seconds % _DAY_S // _HOUR_S:.0f}h"


def enum_name(enum: EnumDescriptor, number: int) -> str:
    """Name an enum's value without its prefix, ``QUEUED`` for ``EMAIL_STATUS_QUEUED``; an unknown one by its number."""
    value = enum.values_by_number.get(number)
    return value.name.removeprefix(enum_prefix(enum)) if value else str(number)


def enum_choices(enum: EnumDescriptor) -> str:
    """List the values that a person can choose: ``HIGH, NORMAL, LOW``."""
    return ", ".join(enum_name(enum, value.number) for value in enum.values if value.number)


def enum_prefix(enum: EnumDescriptor) -> str:
    """Make the prefix of an enum's values from its name: ``EMAIL_STATUS_`` from ``EmailStatus``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", enum.name).upper() + "_"


def _shorten_enums(values: dict[str, object], message: Message) -> None:
    for field in message.DESCRIPTOR.fields:
        value = values.get(field.name)
        if value is None:
            continue
        if field.enum_type is not None:
            prefix = enum_prefix(cast("EnumDescriptor", field.enum_type))
            values[field.name] = (
                [_without(prefix, v) for v in value] if isinstance(value, list) else _without(prefix, value)
            )
            continue
        content = getattr(message, field.name)
        parts = zip(value, content, strict=True) if isinstance(value, list) else [(value, content)]
        for part_values, part in parts:
            if isinstance(part_values, dict) and isinstance(part, Message):
                _shorten_enums(part_values, part)


def _without(prefix: str, value: object) -> object:
    return value.removeprefix(prefix) if isinstance(value, str) else value


def _rows(message: Message) -> Iterator[tuple[str, str]]:
    for field in message.DESCRIPTOR.fields:
        value, enum = getattr(message, field.name), cast("EnumDescriptor | None", field.enum_type)
        if field.has_presence and not message.HasField(field.name):
            text = _NOTHING
        elif field.is_repeated:
            text = "\n".join(_shown(enum, each) for each in value) or _NOTHING
        else:
            text = _shown(enum, value) or _NOTHING
        yield field.name, text


def _shown(enum: EnumDescriptor | None, value: object) -> str:
    if isinstance(value, Listed):
        return "\n".join(map(printable, value.lines))
    if isinstance(value, Timestamp):
        return shown_time(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if enum is not None and isinstance(value, int):
        return enum_name(enum, value) if value else _NOTHING
    return printable(str(value))
