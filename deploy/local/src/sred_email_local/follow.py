"""The services' logs as one stream for a person to read, each line with the name of who wrote it."""

import re
from collections.abc import Iterator
from pathlib import Path

_COLOURS = (36, 35, 33, 32, 34)
_STYLING = re.compile(r"\x1b\[[0-9;]*m")


class LogFollower:
    """Reads what is appended to a log file from now on.

    Args:
        name: Of its writer; stands before each line.
        log: The file.
        width: What names are padded to.
        colour: SGR number of the name's colour; None for plain text, also within the lines.
    """

    def __init__(self, name: str, log: Path, *, width: int, colour: int | None) -> None:
        self._log = log
        self._colour = colour
        self._prefix = f"{name:<{width}} | " if colour is None else f"\x1b[{colour}m{name:<{width}} |\x1b[0m "
        self._position = log.stat().st_size if log.exists() else 0
        self._partial = b""

    def new_lines(self) -> Iterator[str]:
        """The lines that came since the last call, with their prefix."""
        if not self._log.exists():
            return
        with self._log.open("rb") as log:
            log.seek(self._position)
            content = log.read()
        self._position += len(content)
        *lines, self._partial = (self._partial + content).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace")
            yield self._prefix + (text if self._colour is not None else _STYLING.sub("", text))


def followers(logs: dict[str, Path], *, coloured: bool) -> list[LogFollower]:
    """A follower for each log, their names in different colours."""
    width = max(map(len, logs), default=0)
    return [
        LogFollower(name, log, width=width, colour=_COLOURS[index % len(_COLOURS)] if coloured else None)
        for index, (name, log) in enumerate(logs.items())
    ]
