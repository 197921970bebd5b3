"""What services log when something happens that nobody thought of."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_ADDRESS: Final = re.compile(r"0x[0-9a-f]+")


def logged_bugs(logs: Iterable[Path]) -> list[str]:
    """Exceptions that services logged, by process, event and what they say; a line for each."""
    found: Counter[tuple[str, str, str]] = Counter()
    for log in logs:
        with log.open(errors="replace") as lines:
            found.update((log.stem, *bug) for bug in map(_read, lines) if bug)
    return [f"{count} times by {process}: {event}: {what}" for (process, event, what), count in found.items()]


def _read(line: str) -> tuple[str, str] | None:
    """The event, and the last line of the exception that came with it; None of a line without one."""
    if '"exception"' not in line:
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    last_line = str(entry.get("exception") or "-").strip().splitlines()[-1]
    return None if _is_hang_up(last_line) else (str(entry.get("event")), _ADDRESS.sub("0x…", last_line))


def _is_hang_up(last_line: str) -> bool:
    """Whether gRPC itself complains that a caller has not waited for its answer."""
    return last_line.startswith("grpc._cython.cygrpc.ExecuteBatchError")
