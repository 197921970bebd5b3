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
DAMAGED = "its content is damaged: it can't be decrypted"
_LOST = "lost"
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CHECK = re.compile(rf"[0-9a-f]{{{2 * CHECK_BYTES}}}")
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


def names_a_key(key_id: str, check: bytes) -> bool:
    """Whether a key can have this id and this check value: others stand beside damaged content only."""
    return _ID.fullmatch(key_id) is not None and len(check) == CHECK_BYTES


def lost_names(key_id: str, check: bytes) -> tuple[str, str]:
    """By which a key may be said to be lost: its id, where no other key has that, and its id and its check value."""
    return key_id, f"{key_id}:{check.hex()}"


class KeyRing:
    """Keys by their ids: the first one is used for new emails, all of them for reading. Empty: nothing is encrypted."""

    def __init__(self, keys: Sequence[EncryptionKey] = (), lost: Sequence[str] = ()) -> None:
        """Prepare.

        Args:
            keys: The first one is for new emails; ids differ.
            lost: Keys that nobody has any more, by one of their ``lost_names``.
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
            UnreadableContentError: It is lost, or this names no key at all.
        """
        if not names_a_key(key_id, check):
            raise UnreadableContentError(DAMAGED)
        key = self._by_id.get(key_id)
        if key is not None and key.check == check:
            return key
        if not self.lost.isdisjoint(lost_names(key_id, check)):
            raise UnreadableContentError(f'its encryption key "{key_id}" is lost')
        missing = "is missing" if key is None else "is another one than the one that was used under this id"
        raise KeyMissingError(
            f'the encryption key "{key_id}" {missing}: put it into the file of SRED_EMAIL_ENCRYPTION_KEYS_FILE; '
            f"its check is {check.hex()}",
            key_id=key_id,
            check=check,
        )


def parse_key_ring(text: str) -> KeyRing:
    """Read a ring.

    Args:
        text: A key a line: its id, a space, and 32 bytes in base64; or its id and ``lost``; or, where another key has
            the id now, its id and ``lost:`` with its check value. Empty lines and lines that begin with # say nothing.

    Raises:
        KeyRingError: See there.
    """
    keys: list[EncryptionKey] = []
    lost: list[str] = []
    lines: dict[str, int] = {}
    for number, key_id, secret in _lines(text):
        word, colon, check = secret.partition(":")
        name = key_id
        if word == _LOST and colon:
            if not _CHECK.fullmatch(check):
                raise KeyRingError(
                    f"line {number}: after lost: comes the key's check, {2 * CHECK_BYTES} hexadecimal digits"
                )
            _, name = lost_names(key_id, bytes.fromhex(check))
        if name in lines:
            raise KeyRingError(f"line {number}: the id {name} stands on line {lines[name]} already: choose another")
        lines[name] = number
        if word == _LOST:
            lost.append(name)
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
