"""Tokens to go on with: opaque, and of no use but as they were given.

A token holds a place and a digest of it and of what it is for. It keeps no secret: whoever made one up would get what
they may read anyhow, from another place on. The digest is there so that no token is taken for another kind, for other
filters, or for what it was before it was cut short.
"""

import base64
import binascii
import hashlib

_VERSION = b"\x01"
_DIGEST_BYTES = 11
_MOST_CHARACTERS = 200


class TokenMaker:
    """Makes tokens of one kind."""

    def __init__(self, kind: bytes) -> None:
        """Prepare.

        Args:
            kind: At most 16 bytes, different for each kind.
        """
        self._kind = kind

    def write(self, place: bytes, *, bound_to: bytes = b"") -> str:
        """A token.

        Args:
            place: What it holds, at most 100 bytes.
            bound_to: What the token is good for, such as the filters of a list; it is not part of it.
        """
        held = _VERSION + place
        return base64.urlsafe_b64encode(held + self._digest(held, bound_to)).decode()

    def read(self, token: str, *, bound_to: bytes = b"") -> bytes | None:
        """The place that a token holds; None: it is none of this kind, or is bound to something else."""
        if len(token) > _MOST_CHARACTERS:
            return None
        try:
            data = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        except (binascii.Error, UnicodeEncodeError):
            return None
        held, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
        if held[:1] != _VERSION or digest != self._digest(held, bound_to):
            return None
        return held[1:] if base64.urlsafe_b64encode(data).decode() == token else None

    def _digest(self, held: bytes, bound_to: bytes) -> bytes:
        return hashlib.blake2b(held + bound_to, digest_size=_DIGEST_BYTES, person=self._kind).digest()
