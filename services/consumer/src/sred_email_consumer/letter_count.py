"""How many dead letters are open, for those who look again and again."""

import asyncio
import time
from collections.abc import Awaitable, Callable

EXACT_UP_TO = 10_000
"""Fewer than these are counted in milliseconds, each time."""
_REST = 20
"""So many times as long as counting took, the count is kept: it takes a twentieth of a connection's time at most."""
_MOST_REST_S = 30.0
"""However long it took: who has just discarded many wants to see it."""


class LetterCount:
    """Counts in the log. Of many, the count is some seconds old: to count a million takes a core for a second."""

    def __init__(self, count: Callable[[], Awaitable[int]], clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare.

        Args:
            count: Counts them.
            clock: Seconds, from wherever.
        """
        self._count = count
        self._clock = clock
        self._counting = asyncio.Lock()
        self._kept = 0
        self._kept_until_s = clock()

    async def now(self) -> int:
        """How many there are, or were a moment ago.

        Raises:
            LogUnavailableError: PostgreSQL does not answer.
        """
        async with self._counting:  # who asks meanwhile waits for that count, instead of counting beside it
            began_s = self._clock()
            if began_s >= self._kept_until_s:
                self._kept = await self._count()
                ended_s = self._clock()
                rest_s = min((ended_s - began_s) * _REST, _MOST_REST_S) if self._kept > EXACT_UP_TO else 0.0
                self._kept_until_s = ended_s + rest_s
            return self._kept
