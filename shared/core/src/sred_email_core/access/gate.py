"""Lets calls in by their tokens."""

from collections.abc import Iterable

from sred_email_core.access.tokens import Grant, Scope, TokenBook
from sred_email_core.errors import PermissionDeniedError, UnauthenticatedError

_HEADER = "authorization"
_SCHEME = "bearer "
_MAX_TOKEN = 512
_NEEDED = "send the metadata `authorization: Bearer TOKEN` (sred-email: SRED_EMAIL_TOKEN; the client library: token=…)"


class Gate:
    """Knows the tokens that hold now. It costs a call some microseconds."""

    def __init__(self, book: TokenBook) -> None:
        self._book = book

    def replace(self, newer: TokenBook) -> None:
        """From now on these tokens hold; grants that do not any more are revoked."""
        self._book = self._book.followed_by(newer)

    def admit(self, metadata: Iterable[tuple[str, str | bytes]], scope: Scope | None, method: str) -> Grant:
        """Whose call it is.

        Args:
            metadata: Of the call.
            scope: That it needs; None: any token will do.
            method: What is called, for people.

        Raises:
            UnauthenticatedError: It carries no token, several, or one that does not hold.
            PermissionDeniedError: The token lacks the scope.
        """
        said = [value for key, value in metadata if key == _HEADER]
        if not said:
            raise UnauthenticatedError(f"the call carries no token: {_NEEDED}", "TOKEN_MISSING")
        value = said[0]
        if len(said) > 1 or not isinstance(value, str) or value[: len(_SCHEME)].lower() != _SCHEME:
            raise UnauthenticatedError(f"the call carries no bearer token: {_NEEDED}", "TOKEN_MISSING")
        token = value[len(_SCHEME) :].strip()
        grant = self._book.find(token) if len(token) <= _MAX_TOKEN else None
        if grant is None:
            raise UnauthenticatedError(
                "the token does not hold here: it is mistyped, was replaced, or its line is not in the tokens file",
                "TOKEN_UNKNOWN",
            )
        if scope is not None and scope not in grant.scopes:
            raise PermissionDeniedError(
                f"the token of {grant.caller} lacks the scope {scope}, which {method} needs: add it to the "
                "token's line in the tokens file, or call with another token"
            )
        return grant
