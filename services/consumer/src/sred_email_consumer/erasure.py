"""Forgets a person: what the log keeps first, then what Redis has."""

import uuid

import structlog

from sred_email_consumer.dead_letters import DeadLetterService
from sred_email_core.addresses import NoAddressError, digest_of, parse_bare_address
from sred_email_core.email_send_log.audit import Deed, anonymised
from sred_email_core.email_send_log.erasure import END, START, Erased, ErasureLog
from sred_email_core.errors import FieldViolation, InvalidRequestError, KeyMissingError
from sred_email_core.queue.scripts import QueueScripts

log = structlog.get_logger(__name__)

_PAGE = 10_000
_MOST_DUE = 500


class RecipientErasure:
    """Erases in the log, page by page; any part may be repeated.

    QueueUnavailableError says that the log has forgotten what was found by then: repeat the call for the rest. Redis
    follows with the reconciler, which drops what the log has ended.
    """

    def __init__(self, erasures: ErasureLog, letters: DeadLetterService, scripts: QueueScripts) -> None:
        self._log = erasures
        self._letters = letters
        self._scripts = scripts

    async def erase(self, address: str, deed: Deed) -> tuple[int, int]:
        """Erase what is kept of a recipient.

        Args:
            address: As it was written.
            deed: What the audit says; its target is made here.

        Returns:
            How many emails are erased, and how many have to wait for the end of a send.

        Raises:
            InvalidRequestError: The address is none; nothing was erased.
            LogUnavailableError: PostgreSQL does not answer; repeating it erases the rest.
            QueueUnavailableError: See the class.
            KeyMissingError: Emails could not be looked through, the others are erased; repeating it erases the rest.
        """
        try:
            normalised = parse_bare_address(address)
        except NoAddressError as e:
            raise InvalidRequestError([FieldViolation("address", f"{e}: write it as ada@example.com")]) from e
        deed = Deed(deed.action, anonymised(normalised), deed.detail, deed.actor, deed.peer, deed.call_id)
        await self._letters.withdraw(await self._log.erase_traces(normalised, deed=deed))
        erased = deferred = 0
        missing_key: KeyMissingError | None = None
        after: uuid.UUID = START
        while after != END:
            last = await self._log.page_end(after, size=_PAGE)
            found = await self._log.addressed(normalised, after, last)
            done = await self._log.erase(found.ids, digest_of(normalised), in_copy=found.in_copy, deed=deed)
            await self._log.erase_words(normalised, after, last)
            await self._forget_in_redis(done)
            missing_key = found.missing_key or missing_key
            erased, deferred, after = erased + done.erased, deferred + done.deferred, last
        if missing_key is not None:
            raise KeyMissingError(
                f"{erased} emails are erased, others could not be looked into: {missing_key}, and repeat the call",
                key_id=missing_key.key_id,
            )
        return erased, deferred

    async def finish(self) -> int:
        """Erase emails that had to wait and need not any more; how many.

        Raises:
            LogUnavailableError: PostgreSQL does not answer.
            QueueUnavailableError: Redis does not answer; the reconciler mends it.
        """
        erased = 0
        for digest, ids in (await self._log.due(size=_MOST_DUE)).items():
            done = await self._log.erase(ids, digest)
            await self._forget_in_redis(done)
            erased += done.erased
        return erased

    async def _forget_in_redis(self, done: Erased) -> None:
        await self._letters.withdraw(done.letters)
        await self._scripts.cancel(done.cancelled)
