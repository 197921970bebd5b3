"""The clients themselves, on a mailbox in memory: their own code, so that their face cannot differ."""

import asyncio
import threading
from collections.abc import AsyncIterator, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

from sred.email.v1.dispatch_service_pb2 import (
    CancelEmailRequest,
    CancelEmailResponse,
    GetEmailRequest,
    GetEmailResponse,
    SendEmailRequest,
    SendEmailResponse,
    WatchEmailsRequest,
    WatchEmailsResponse,
)
from sred_email_client.client import EmailClient
from sred_email_client.conversion import from_response, to_request
from sred_email_client.emails import OutgoingEmail, SendResult
from sred_email_client.errors import EmailError
from sred_email_client.sync_client import SyncEmailClient
from sred_email_client.testing.mailbox import FakeMailbox

if TYPE_CHECKING:  # the stubs that know grpc.aio exist for type checkers only
    from sred.email.v1.dispatch_service_pb2_grpc import EmailDispatchServiceAsyncStub, EmailDispatchServiceStub

_NOWHERE = "fake:0"


class FakeEmailClient(EmailClient):
    """``EmailClient`` for tests: accepts emails in memory and sends none.

    Attributes:
        mailbox: What was sent, and what becomes of it: ``mailbox.sent``, ``mailbox.fail``, ``mailbox.end``.
    """

    def __init__(self, mailbox: FakeMailbox | None = None) -> None:
        super().__init__(_NOWHERE)
        self.mailbox = mailbox or FakeMailbox()

    async def open(self) -> None:
        """Prepare; there is nothing to connect to."""
        self._stub = cast("EmailDispatchServiceAsyncStub", _AsyncService(self.mailbox))

    async def send_many(
        self,
        emails: Iterable[OutgoingEmail],
        *,
        timeout: float | None = None,  # noqa: ARG002 - nothing here takes time
    ) -> list[SendResult | EmailError]:
        """Accept emails, each on its own."""
        _ = self._opened
        return _accept_many(self.mailbox, emails)


class FakeSyncEmailClient(SyncEmailClient):
    """``SyncEmailClient`` for tests: accepts emails in memory and sends none.

    Attributes:
        mailbox: What was sent, and what becomes of it: ``mailbox.sent``, ``mailbox.fail``, ``mailbox.end``.
    """

    def __init__(self, mailbox: FakeMailbox | None = None) -> None:
        super().__init__(_NOWHERE)
        self.mailbox = mailbox or FakeMailbox()

    @property
    def _opened(self) -> "EmailDispatchServiceStub":
        return cast("EmailDispatchServiceStub", _SyncService(self.mailbox))

    def send_many(
        self,
        emails: Iterable[OutgoingEmail],
        *,
        timeout: float | None = None,  # noqa: ARG002 - nothing here takes time
    ) -> list[SendResult | EmailError]:
        """Accept emails, each on its own."""
        return _accept_many(self.mailbox, emails)


def _accept_many(mailbox: FakeMailbox, emails: Iterable[OutgoingEmail]) -> list[SendResult | EmailError]:
    outcomes = list[SendResult | EmailError]()
    for email in emails:
        try:
            request = to_request(email)
            mailbox.raise_failure()
            outcomes.append(from_response(mailbox.accept(request)))
        except EmailError as error:
            outcomes.append(error)
    return outcomes


class _SyncService:
    """Answers as the service does, at once."""

    def __init__(self, mailbox: FakeMailbox) -> None:
        self._mailbox = mailbox

    def SendEmail(self, request: SendEmailRequest, **_: Any) -> SendEmailResponse:  # noqa: N802, ANN401 - the contract's
        self._mailbox.raise_failure()
        return self._mailbox.accept(request)

    def GetEmail(self, request: GetEmailRequest, **_: Any) -> GetEmailResponse:  # noqa: N802, ANN401 - the contract's
        self._mailbox.raise_failure()
        return GetEmailResponse(email=self._mailbox.get(request))

    def CancelEmail(self, request: CancelEmailRequest, **_: Any) -> CancelEmailResponse:  # noqa: N802, ANN401 - the contract's
        self._mailbox.raise_failure()
        return CancelEmailResponse(email=self._mailbox.cancel(request.email_id))

    def WatchEmails(self, request: WatchEmailsRequest, **_: Any) -> "_Watch":  # noqa: N802, ANN401 - the contract's
        self._mailbox.raise_failure()
        return _Watch(self._mailbox, request)


class _AsyncService:
    """The same, to be awaited."""

    def __init__(self, mailbox: FakeMailbox) -> None:
        self._service = _SyncService(mailbox)

    async def SendEmail(self, request: SendEmailRequest, **_: Any) -> SendEmailResponse:  # noqa: N802, ANN401 - the contract's
        return self._service.SendEmail(request)

    async def GetEmail(self, request: GetEmailRequest, **_: Any) -> GetEmailResponse:  # noqa: N802, ANN401 - the contract's
        return self._service.GetEmail(request)

    async def CancelEmail(self, request: CancelEmailRequest, **_: Any) -> CancelEmailResponse:  # noqa: N802, ANN401 - the contract's
        return self._service.CancelEmail(request)

    def WatchEmails(self, request: WatchEmailsRequest, **_: Any) -> "_Watch":  # noqa: N802, ANN401 - the contract's
        return self._service.WatchEmails(request)


class _NoMetadata(tuple[tuple[str, str], ...]):
    """Nothing, to be awaited or not."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, "_NoMetadata"]:
        return self
        yield


class _Watch:
    """A call that streams what happens, to be iterated with or without ``async``."""

    def __init__(self, mailbox: FakeMailbox, request: WatchEmailsRequest) -> None:
        self._mailbox = mailbox
        self._email_ids = frozenset(request.email_ids)
        self._first, self._seen = mailbox.begin_watch(request)

    def initial_metadata(self) -> "_NoMetadata":
        """Nothing comes first: a fake's connection does not break."""
        return _NoMetadata()

    def cancel(self) -> None:
        """Nothing is under way between two events."""

    def __iter__(self) -> Iterator[WatchEmailsResponse]:
        yield from self._first
        happened = threading.Event()
        stop_listening = self._mailbox.listen(happened.set)
        try:
            while True:
                happened.clear()
                yield from self._next()
                happened.wait()
        finally:
            stop_listening()

    async def __aiter__(self) -> AsyncIterator[WatchEmailsResponse]:
        for response in self._first:
            yield response
        happened = asyncio.Event()
        stop_listening = self._mailbox.listen(happened.set)
        try:
            while True:
                happened.clear()
                for response in self._next():
                    yield response
                await happened.wait()
        finally:
            stop_listening()

    def _next(self) -> Iterator[WatchEmailsResponse]:
        seen, self._seen = self._seen, self._mailbox.event_count
        return self._mailbox.events_after(seen, self._email_ids)
