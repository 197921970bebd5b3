"""The file that holds the ring of keys."""

import asyncio
from pathlib import Path

import structlog

from sred_email_core.encryption.key_ring import KeyRing, KeyRingError, parse_key_ring
from sred_email_core.lifecycle import wait_for

log = structlog.get_logger(__name__)

_INTERVAL_S = 5.0
"""Between looks at the file: how long a replica may be behind the others after a change."""


def read_key_ring(file: Path) -> tuple[str, KeyRing]:
    """The text of a file, and the ring in it.

    Raises:
        KeyRingError: It can't be read, or holds no ring.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as e:
        raise KeyRingError(f"the file can't be read ({getattr(e, 'strerror', None) or 'it is not UTF-8'})") from e
    return text, parse_key_ring(text)


class KeyRingFile:
    """A ring that is read again when its file changes. A file that can't be used leaves the ring as it was."""

    def __init__(self, file: Path | None) -> None:
        """Read it.

        Args:
            file: None: there is none, and nothing is encrypted.

        Raises:
            KeyRingError: It can't be read, or holds no ring.
        """
        self._file = file
        self._text, self._ring = ("", KeyRing()) if file is None else read_key_ring(file)
        self._problem = ""

    @property
    def ring(self) -> KeyRing:
        """As it was read last."""
        return self._ring

    @property
    def stale(self) -> bool:
        """Whether the file can't be used as it is now."""
        return bool(self._problem)

    def refresh(self) -> None:
        """Look at the file again."""
        if self._file is None:
            return
        try:
            text, ring = read_key_ring(self._file)
        except KeyRingError as e:
            if str(e) != self._problem:
                log.error("encryption_keys_unusable", reason=str(e), meaning="the keys read before stay in use")  # noqa: TRY400 - the reason says it all
            self._problem = str(e)
            return
        if text != self._text or self._problem:
            log.info("encryption_keys_read", keys=ring.ids, lost=sorted(ring.lost))
        self._text, self._ring, self._problem = text, ring, ""

    async def run(self, stop: asyncio.Event) -> None:
        """Look at it every few seconds until ``stop`` is set."""
        while not await wait_for(stop, _INTERVAL_S):
            self.refresh()
