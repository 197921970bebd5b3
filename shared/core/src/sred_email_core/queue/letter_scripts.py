"""A typed face over the scripts that hold the DLQ to the dead letters in the log."""

from collections.abc import Sequence
from typing import Any

from sred_email_core.queue.keys import QueueKeys
from sred_email_core.queue.recovery_scripts import ScannedIds
from sred_email_core.queue.script_runner import ScriptRunner

_CHUNK = 100
"""Letters in one call of a script: bounds how long Redis is blocked."""


class LetterScripts:
    """The scripts of the reconciler that touch the DLQ, each described in its own header.

    Every method raises QueueUnavailableError when Redis does not answer or refuses; repeating it is safe.
    """

    def __init__(self, runner: ScriptRunner, keys: QueueKeys) -> None:
        self._run = runner.run
        self._keys = keys
        self._held = [keys.dlq, keys.letters]

    async def not_shown(self, dead_letter_ids: Sequence[str]) -> list[str]:
        """Those letters that are not in the DLQ. The entries of the others are read: few large ones at once."""
        missing: list[str] = []
        for start in range(0, len(dead_letter_ids), _CHUNK):
            chunk = dead_letter_ids[start : start + _CHUNK]
            missing += [chunk[number - 1] for number in await self._run("check_letters", self._held, list(chunk))]
        return missing

    async def show(self, letters: Sequence[tuple[str, dict[bytes, bytes]]]) -> int:
        """Put letters, told as (dead letter id, fields of the DLQ entry), into the DLQ, each once.

        Returns:
            How many are new there.
        """
        args: list[Any] = []
        for dead_letter_id, fields in letters:
            args += [dead_letter_id, 2 * len(fields), *(part for pair in fields.items() for part in pair)]
        return int(await self._run("show_letters", self._held, args)) if args else 0

    async def remove(self, dead_letter_ids: Sequence[str | bytes]) -> int:
        """Take letters out of the DLQ; how many were there."""
        removed = 0
        for start in range(0, len(dead_letter_ids), _CHUNK):
            removed += await self._run("unbury", self._held, list(dead_letter_ids[start : start + _CHUNK]))
        return removed

    async def agrees(self) -> bool:
        """Whether the DLQ has as many entries as its index."""
        entries, letters = await self._run("count_letters", self._held, [])
        return bool(entries == letters)

    async def adopt(self, after: str, *, count: int) -> tuple[str, int]:
        """Go on through the DLQ, so that it and its index agree.

        Args:
            after: The last entry of the page before; empty: from the start.
            count: Entries to look at.

        Returns:
            The last entry seen, empty at the end, and how many did not agree.
        """
        last, adopted, deleted = await self._run("adopt_letters", self._held, [after, count])
        return last.decode(), adopted + deleted

    async def scan(self, cursor: str, *, count: int) -> ScannedIds:
        """Go on through the index of the DLQ, by dead letter id; ``0``: from the start."""
        return ScannedIds.of_answer(await self._run("scan_ids", [self._keys.letters], [cursor, count]))
