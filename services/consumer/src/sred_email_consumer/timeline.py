"""What happened to one email, for operators."""

import uuid

from sred_email_core.email_send_log.events import EventLog, TimelineRecord
from sred_email_core.errors import EmailNotFoundError, FieldViolation, InvalidRequestError


class EmailTimeline:
    """Reads the events of one email."""

    def __init__(self, event_log: EventLog) -> None:
        self._log = event_log

    async def of(self, email_id: str) -> list[TimelineRecord]:
        """What happened to an email, the earliest first, its acceptance at least.

        Args:
            email_id: As the caller wrote it.

        Raises:
            InvalidRequestError: It is no UUID.
            EmailNotFoundError: There is no such email.
            LogUnavailableError: PostgreSQL does not answer.
        """
        try:
            parsed = uuid.UUID(email_id)
        except ValueError as e:
            raise InvalidRequestError([FieldViolation("email_id", "must be a UUID, as SendEmail returned it")]) from e
        found = await self._log.timeline(parsed)
        if not found:
            raise EmailNotFoundError("there is no email with this id")
        return found
