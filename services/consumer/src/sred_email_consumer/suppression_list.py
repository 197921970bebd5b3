"""What operators see of the list of addresses that get no email, and do to it."""

import base64
import binascii
import json
from collections.abc import Callable
from datetime import UTC, datetime

from sred_email_core.addresses import NoAddressError, parse_bare_address
from sred_email_core.email_send_log.audit import Deed
from sred_email_core.email_send_log.suppressions import ERASED, SuppressionLog, SuppressionRecord
from sred_email_core.errors import FieldViolation, InvalidRequestError, NotSuppressedError
from sred_email_core.queue.suppression_copy import SuppressionCopy

DEFAULT_PAGE = 100
MAX_PAGE = 1000
_MAX_TOKEN = 1000


class SuppressionList:
    """The log holds the list; Redis has a copy, by which every replica goes.

    What is changed is kept before it is in force. QueueUnavailableError from a change says so: it comes into force with
    the next round of the reconciler; repeat it to have it in force at once.
    """

    def __init__(self, log: SuppressionLog, copy: SuppressionCopy) -> None:
        self._log = log
        self._copy = copy

    async def page(self, *, address: str, size: int, token: str) -> tuple[list[SuppressionRecord], str]:
        """A page of those in force, in the order of their addresses, and the next page's token; empty: it is the last.

        Args:
            address: Of this address, as it was written; empty: of any.
            size: The most; 0: DEFAULT_PAGE.
            token: Of the page; empty: the first.

        Raises:
            InvalidRequestError: The address is none, the size negative, or the token not one of ours for this address.
            LogUnavailableError: PostgreSQL does not answer.
        """
        if size < 0:
            raise InvalidRequestError([FieldViolation("page_size", "must be 0 or more")])
        wanted = _parse(address) if address else None
        after = _read_token(token, wanted)
        size = min(size or DEFAULT_PAGE, MAX_PAGE)
        found = await self._log.page(address=wanted, after=after, size=size + 1)
        page = found[:size]
        return page, _write_token(page[-1].address, wanted) if len(found) > size else ""

    async def add(
        self, address: str, reason: str, expires_at: datetime | None, deed: Callable[[str], Deed] | None = None
    ) -> SuppressionRecord:
        """Suppress an address; of one that is suppressed, replace reason and expiry.

        Args:
            address: As it was written.
            reason: Name of the SuppressionReason.
            expires_at: Until when; None: until it is removed.
            deed: What the audit says of the normalised address.

        Raises:
            InvalidRequestError: The address is none, or the expiry is not in the future; nothing was changed.
            LogUnavailableError: PostgreSQL does not answer; whether it was changed, a repeated call settles.
            QueueUnavailableError: See the class.
        """
        normalised = _parse(address)
        if expires_at is not None and expires_at <= datetime.now(UTC):
            raise InvalidRequestError([FieldViolation("expires_at", "must be in the future")])
        kept = await self._log.suppress(
            normalised, reason, source="operator", expires_at=expires_at, deed=deed(normalised) if deed else None
        )
        await self._copy.renew()
        return kept

    async def remove(self, address: str, deed: Callable[[str], Deed] | None = None) -> None:
        """Let an address get email again.

        Raises:
            InvalidRequestError: The address is none.
            NotSuppressedError: It is not suppressed.
            LogUnavailableError: PostgreSQL does not answer; whether it was changed, a repeated call tells.
            QueueUnavailableError: See the class.
        """
        normalised = _parse(address)
        freed = await self._log.free(normalised, deed=deed(normalised) if deed else None)
        await self._copy.renew()  # also where it was freed before: maybe Redis was not told then
        if not freed:
            raise NotSuppressedError


def _parse(address: str) -> str:
    try:
        return parse_bare_address(address)
    except NoAddressError as e:
        raise InvalidRequestError([FieldViolation("address", f"{e}: write it as ada@example.com")]) from e


def _may_be_listed(after: object) -> bool:
    return isinstance(after, str) and (after.startswith(ERASED) or parse_bare_address(after) == after)


def _write_token(after: str, address: str | None) -> str:
    return base64.urlsafe_b64encode(json.dumps([address, after]).encode()).decode()


def _read_token(token: str, address: str | None) -> str | None:
    if not token:
        return None
    try:
        if len(token) > _MAX_TOKEN:
            raise ValueError("longer than any of ours")  # noqa: TRY301
        wanted, after = json.loads(base64.urlsafe_b64decode(token.encode("ascii")))
        if wanted != address or not _may_be_listed(after):
            raise ValueError("of another list")  # noqa: TRY301
    except (ValueError, TypeError, AttributeError, RecursionError, binascii.Error) as e:
        violation = FieldViolation("page_token", "must be the next_page_token of an earlier answer for this address")
        raise InvalidRequestError([violation]) from e
    return str(after)
