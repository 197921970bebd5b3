"""A watch that survives its connections: where it is, and how it goes on."""

import logging
import random
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from sred.email.v1.dispatch_service_pb2 import WatchEmailsRequest, WatchEmailsResponse
from sred_email_client.conversion import from_event
from sred_email_client.emails import EmailEvent
from sred_email_client.errors import EmailError, RetryLaterError
from sred_email_client.retry import RetryPolicy, is_retryable

_BEGINNING = "resume-token"

log = logging.getLogger(__name__)


class Watching:
    """Remembers the last token, so that a new connection goes on after the last event."""

    def __init__(self, email_ids: Sequence[str], resume_token: str, retry: RetryPolicy) -> None:
        self._email_ids = email_ids
        self._token = resume_token
        self._retry = retry
        self._failures = 0

    def request(self) -> WatchEmailsRequest:
        """Ask for what comes after the last event."""
        return WatchEmailsRequest(email_ids=self._email_ids, resume_token=self._token)

    def begin(self, metadata: Iterable[Any] | None) -> None:
        """Note the token that comes as a watch begins, so that one which breaks before its first event misses nothing.

        Args:
            metadata: Pairs of key and value, which the service sent first; None: it sent nothing.
        """
        token = next((value for key, value in metadata or () if key == _BEGINNING), "")
        if isinstance(token, str) and token:
            self._token = token

    def take(self, response: WatchEmailsResponse) -> EmailEvent | None:
        """Note how far the watch has come; the event, if there is one."""
        self._failures = 0
        self._token = response.resume_token or self._token
        return from_event(response) if response.HasField("event") else None

    def pause_after(self, error: EmailError | None) -> float:
        """How many seconds to wait before a new connection.

        Args:
            error: What the last one ended with; None: the service closed it, as one that stops does.

        Raises:
            EmailError: This error, since a new connection would not help.
        """
        if error is not None and not is_retryable(error):
            raise error
        self._failures += 1
        if self._failures == 1:
            log.warning("watching emails: the connection broke (%s); connecting anew", error or "closed by the service")
        pause = self._retry.backoff(self._failures, jitter=random.random())  # noqa: S311 - no secret
        if isinstance(error, RetryLaterError) and error.retry_after is not None:
            pause += error.retry_after
        return pause / timedelta(seconds=1)
