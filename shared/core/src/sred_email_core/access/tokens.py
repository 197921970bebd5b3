"""The tokens file: who calls by which token, and what it lets them do. Pure.

One line for each token: the caller's name, the scopes separated by commas, and the SHA-256 of the token in hexadecimal;
``#`` begins a remark::

    # name    scopes         token
    shop      send,read      sha256:b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c
    console   read,operate   sha256:7d865e959b2466918c9863afca942d0fb89d7c9ac0c99bafc3749504ded97730

A caller may have several lines: two tokens while one replaces the other.
"""

import asyncio
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

MAX_FILE_BYTES = 1024 * 1024
"""Of a tokens file: some 8,000 tokens."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST = re.compile(r"sha256:([0-9a-fA-F]{64})")
_WORDS = 3
_PREFIX_BYTES = 2
_NAMED_LINES = 5


class Scope(StrEnum):
    """What a token lets its caller do."""

    SEND = "send"
    READ = "read"
    OPERATE = "operate"


@dataclass(frozen=True, slots=True)
class Grant:
    """One token, by its digest.

    Attributes:
        caller: Whose it is.
        scopes: What it lets them do.
        digest: SHA-256 of it, 32 bytes.
        revoked: Set when the token does not hold any more, or its scopes have changed.
    """

    caller: str
    scopes: frozenset[Scope]
    digest: bytes = field(repr=False)
    revoked: asyncio.Event = field(default_factory=asyncio.Event, compare=False, repr=False)


class BadTokensError(ValueError):
    """A tokens file can't be used; the message names lines and remedies, and quotes nothing."""


class TokenBook:
    """The tokens that hold."""

    def __init__(self, grants: Iterable[Grant]) -> None:
        self.grants = tuple(grants)
        # What a guess costs tells only how many digests begin like that of the guess, which its maker knows already.
        self._by_prefix: dict[bytes, list[Grant]] = {}
        for grant in self.grants:
            self._by_prefix.setdefault(grant.digest[:_PREFIX_BYTES], []).append(grant)

    def find(self, token: str) -> Grant | None:
        """What a token grants; None: it is none of these."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        found = None
        for grant in self._by_prefix.get(digest[:_PREFIX_BYTES], ()):
            if hmac.compare_digest(grant.digest, digest):
                found = grant
        return found

    def followed_by(self, newer: "TokenBook") -> "TokenBook":
        """The newer book, in which grants that have stayed are the same objects; those that have not are revoked."""
        stayed = {grant: grant for grant in self.grants}
        book = TokenBook(stayed.pop(grant, grant) for grant in newer.grants)
        for gone in stayed.values():
            gone.revoked.set()
        return book


def parse_tokens(text: str) -> TokenBook:
    """Read a tokens file.

    Raises:
        BadTokensError: Lines are wrong, each one named, or there is no token at all.
    """
    grants, problems = dict[bytes, Grant](), list[str]()
    for number, line in enumerate(text.split("\n"), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            grant = _grant(words)
        except ValueError as e:
            problems.append(f"line {number}: {e}")
            continue
        if grant.digest in grants:
            problems.append(f"line {number}: the token stands in an earlier line already: give each caller its own")
        grants[grant.digest] = grant
    if problems:
        more = len(problems) - _NAMED_LINES
        raise BadTokensError("; ".join(problems[:_NAMED_LINES]) + (f"; and {more} more" if more > 0 else ""))
    if not grants:
        raise BadTokensError(
            "holds no token: `sred-email token new --name NAME --scopes send,read` makes one, and the line for it"
        )
    return TokenBook(grants.values())


def _grant(words: list[str]) -> Grant:
    if len(words) != _WORDS:
        raise ValueError("must be a name, scopes separated by commas, and sha256: with the digest of the token")
    name, scopes, digest = words
    if not _NAME.fullmatch(name):
        raise ValueError("the name must be 1 to 64 of A-Z a-z 0-9 . _ - and begin with a letter or a digit")
    known = {scope.value: scope for scope in Scope}
    if not all(scope in known for scope in scopes.split(",")):
        raise ValueError(f"the scopes must be some of {', '.join(known)}, separated by commas, without spaces")
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise ValueError(
            "the last word must be sha256: and 64 hexadecimal digits, as `sred-email token new` prints it: the token "
            "itself does not belong into the file"
        )
    return Grant(name, frozenset(known[scope] for scope in scopes.split(",")), bytes.fromhex(match[1]))
