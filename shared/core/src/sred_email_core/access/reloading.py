"""Files that are read again when they change."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from sred_email_core.access.metrics import AccessMetrics
from sred_email_core.lifecycle import wait_for

log = structlog.get_logger(__name__)

T = TypeVar("T")
MAX_BYTES = 1024 * 1024
"""Of one file."""
INTERVAL = timedelta(seconds=2)
"""Between looks: a token that was taken out of its file is refused after this time at the latest."""


class ReloadedFiles(Generic[T]):
    """Looks at files time and again, and puts what they hold in force; what can't be used changes nothing.

    Their contents are compared, not their times: so a file that was written over, one that another was renamed to, and
    the links that Kubernetes swaps are all seen.
    """

    def __init__(
        self,
        name: str,
        paths: Sequence[Path],
        parse: Callable[[Sequence[bytes]], T],
        use: Callable[[T], None],
        metrics: AccessMetrics,
        *,
        interval: timedelta = INTERVAL,
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            name: Of the files together, in the log and the metrics.
            paths: Where they are.
            parse: Makes of their contents what they mean; a ValueError says what is wrong with them, quoting nothing.
            use: Puts it in force.
            metrics: Where it is shown.
            interval: Between looks.
        """
        self._name = name
        self._paths = paths
        self._parse = parse
        self._use = use
        self._usable = metrics.usable.labels(name)
        self._interval_s = interval.total_seconds()
        self._in_force: list[bytes] = []
        self._seen: list[bytes] | str = []
        self._told = ""

    def load(self) -> None:
        """Read them for the first time.

        Raises:
            OSError: One can't be read.
            ValueError: They can't be used.
        """
        contents = self._read()
        self._use(self._parse(contents))
        self._in_force = contents
        self._usable.set(1)

    async def run(self, stop: asyncio.Event) -> None:
        """Look until ``stop`` is set."""
        while not await wait_for(stop, self._interval_s):
            await self.run_once()

    async def run_once(self) -> None:
        """Look once. Files that can't be used are told of when they have stayed so until the next look.

        Certificate and key are two files: between the writing of one and of the other they do not fit together.
        """
        seen: list[bytes] | str
        try:
            seen = await asyncio.to_thread(self._read)
            value = None if seen == self._in_force else self._parse(seen)
        except OSError as e:
            seen = problem = f"can't be read ({e.strerror or type(e).__name__})"
        except ValueError as e:
            problem = str(e)
        else:
            self._put_in_force(seen, value)
            return
        again, self._seen = seen == self._seen, seen
        if again and problem != self._told:
            self._told = problem
            self._usable.set(0)
            log.error("access_file_unusable", file=self._name, reason=problem, meaning="what was read before stays")

    def _put_in_force(self, contents: list[bytes], value: T | None) -> None:
        if value is not None:
            self._use(value)
            self._in_force = contents
        if value is not None or self._told:
            log.info("access_file_read", file=self._name)
        self._seen, self._told = [], ""
        self._usable.set(1)

    def _read(self) -> list[bytes]:
        return [_content(path) for path in self._paths]


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"has more than {MAX_BYTES} bytes")
    return content
