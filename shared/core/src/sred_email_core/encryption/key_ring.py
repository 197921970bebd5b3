"""The keys that wrap the data keys of emails."""

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sred_email_core.errors import KeyMissingError, UnreadableContentError

KEY_BYTES = 32
CHECK_BYTES = 8
"""Enough to tell two keys apart, and nothing to find a key by."""
_LOST = "lost"
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SHAPE = "must be an id and, after a space, 32 bytes in base64, as `openssl rand -base64 32` makes them"


class KeyRingError(ValueError):
    """A ring can't be read. Its message names the line and the remedy, and holds nothing of a key."""


@dataclass(frozen=True, slots=True)
class EncryptionKey:
    """One key of a ring.

    Attributes:
        id: As it stands in the file, and beside all that it encrypts.
        secret: 32 bytes. Never log it.
        check: By which it is told from another key with this id, 8 bytes.
    """

    id: str
    secret: bytes = field(repr=False)
    check: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "check", hashlib.sha256(b"sred-email key check" + self.secret).digest()[:CHECK_BYTES])


class KeyRing:
    """Keys by their ids: the first one is used for new emails, all of them for reading. Empty: nothing is encrypted."""

    def __init__(self, keys: Sequence[EncryptionKey] = (), lost: Sequence[str] = ()) -> None:
        """Prepare.

        Args:
            keys: The first one is for new emails; ids differ.
            lost: Ids of keys that nobody has any more.
        """
        self.keys = tuple(keys)
        self._by_id: Mapping[str, EncryptionKey] = {key.id: key for key in keys}
        self.lost = frozenset(lost)
        self.first: EncryptionKey | None = keys[0] if keys else None

    @property
    def ids(self) -> list[str]:
        """Of the keys that are there, in order."""
        return list(self._by_id)

    def find(self, key_id: str, check: bytes) -> EncryptionKey:
        """The key that something was encrypted with.

        Raises:
            KeyMissingError: It is not here, or another one has its id.
            UnreadableContentError: It is lost.
        """
        key = self._by_id.get(key_id)
        if key is not None and key.check == check:
            return key
        if key_id in self.lost:
            raise UnreadableContentError(f'its encryption key "{key_id}" is lost')
        missing = "is missing" if key is None else "is another one than the one that was used under this id"
        raise KeyMissingError(
            f'the encryption key "{key_id}" {missing}: put it into the file of SRED_EMAIL_ENCRYPTION_KEYS_FILE',
            key_id=key_id,
            check=check,
        )


def parse_key_ring(text: str) -> KeyRing:
    """Read a ring.

    Args:
        text: A key a line: its id, a space, and 32 bytes in base64; or its id and ``lost``. Empty lines and lines that
            begin with # say nothing.

    Raises:
        KeyRingError: See there.
    """
    keys: list[EncryptionKey] = []
    lost: list[str] = []
    lines: dict[str, int] = {}
    for number, key_id, secret in _lines(text):
        if key_id in lines:
            raise KeyRingError(f"line {number}: the id {key_id} stands on line {lines[key_id]} already: choose another")
        lines[key_id] = number
        if secret == _LOST:
            lost.append(key_id)
        else:
            keys.append(EncryptionKey(key_id, _secret(number, secret)))
    if not keys:
        raise KeyRingError(f"there is no key: add a line; it {_SHAPE}")
    if lost and lines[lost[0]] < lines[keys[0].id]:
        raise KeyRingError(f"line {lines[lost[0]]}: the first key is for new emails, and can't be lost: move it down")
    return KeyRing(keys, lost)


def _lines(text: str) -> Iterator[tuple[int, str, str]]:
    """Number, id and rest of each line that says something."""
    for number, line in enumerate(text.splitlines(), 1):
        parts = line.split()
        if not parts or parts[0].startswith("#"):
            continue
        if len(parts) != 2:  # noqa: PLR2004 - id and key
            raise KeyRingError(f"line {number}: {_SHAPE}")
        if not _ID.fullmatch(parts[0]):
            raise KeyRingError(f"line {number}: an id is 1 to 64 letters, digits, dots, dashes or underscores")
        yield number, parts[0], parts[1]


def _secret(number: int, text: str) -> bytes:
    try:
        secret = base64.b64decode(text, validate=True)
    except ValueError:  # binascii.Error is one
        secret = b""
    if len(secret) != KEY_BYTES:
        raise KeyRingError(f"line {number}: {_SHAPE}")
    return secret
