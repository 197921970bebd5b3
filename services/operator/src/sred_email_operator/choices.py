"""Words of the command line that name values of the contract."""

import re
from datetime import UTC, datetime, timedelta

import typer
from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from sred_email_operator import output

_AGO = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def enum_value(enum: EnumDescriptor, text: str, option: str) -> int:
    """Read the value of an enum, written with its prefix or without, in any case.

    Raises:
        typer.BadParameter: There is none of that name.
    """
    prefix = output.enum_prefix(enum)
    name = prefix + text.upper().replace("-", "_").removeprefix(prefix)
    value = enum.values_by_name.get(name)
    if value is None or not value.number:
        raise typer.BadParameter(f"one of {output.enum_choices(enum)} is needed", param_hint=option)
    return int(value.number)


def moment(text: str | None, option: str) -> Timestamp | None:
    """Read a time: ISO 8601, in UTC where it names no zone, or so long ago, such as ``90m``, ``24h`` or ``7d``.

    Raises:
        typer.BadParameter: It is neither.
    """
    if text is None:
        return None
    stamp = Timestamp()
    try:
        if ago := _AGO.fullmatch(text):
            when = datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            when = datetime.fromisoformat(text)
        stamp.FromDatetime(when if when.tzinfo else when.replace(tzinfo=UTC))
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            "a time such as 2026-03-01T12:00Z or 2026-03-01 is needed, or 24h for a day ago", param_hint=option
        ) from error
    return stamp
