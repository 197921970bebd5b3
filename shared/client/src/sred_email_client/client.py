"""The client for asyncio."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

import grpc

from sred.email.v1.dispatch_service_pb2 import CancelEmailRequest
from sred.email.v1.dispatch_service_pb2_grpc import EmailDispatchServiceStub
from sred_email_client.connection import DEFAULT_TIMEOUT_S, Attempts, Connection, Tls
from sred_email_client.conversion import from_email, from_response, lookup, to_request
from sred_email_client.emails import Email, EmailEvent, EmailFields, EmailStatus, OutgoingEmail, SendResult
from sred_email_client.errors import EmailError, FailedPreconditionError
from sred_email_client.many import Batch, Outcomes
from sred_email_client.retry import RetryPolicy
from sred_email_client.status import error_of_call
from sred_email_client.watching import Watching

if TYPE_CHECKING:  # the stubs that know grpc.aio exist for type checkers only
    from sred.email.v1.dispatch_service_pb2_grpc import EmailDispatchServiceAsyncStub


class EmailClient:
    """Sends emails and tells what became of them.

    Open one for the life of the process; any number of tasks may share it. A call that finds the service away or full
    is repeated until its timeout, with backoff, and as late as the service asks. That is safe, since every email has
    its idempotency key.

    Example::

        async with EmailClient("localhost:50051") as client:
            await client.send(idempotency_key=key, kind="WELCOME", to=user.email, subject="Welcome", text="Hello")
    """

    def __init__(
        self,
        target: str,
        *,
        token: str | Callable[[], str] | None = None,
        tls: Tls | Literal["plaintext"] | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
        retry: RetryPolicy | None = None,
        options: Sequence[tuple[str, int | str]] = (),
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            target: Where the ingress is: ``host:port``. Of a name that has several addresses, such as a headless
                service of Kubernetes (``dns:///sred-email-ingress:50051``), all are used in turn.
            token: Bearer token; a function is asked anew for each call, for tokens that change.
            tls: How the connection is encrypted. None: not at all, and a token goes to this machine only.
                ``"plaintext"``: not at all, and a token goes to others, too, where the network may be trusted with it.
            timeout: Seconds that a call may take, repeats included; each call can say otherwise.
            retry: When calls are repeated; ``RetryPolicy(max_attempts=1)``: never.
            options: Further channel arguments of gRPC.

        Raises:
            ValueError: The target is empty, the timeout not positive, or a token would travel unencrypted.
        """
        self._connection = Connection(target, token, tls, timeout, retry or RetryPolicy(), options)
        self._channel: grpc.aio.Channel | None = None
        self._stub: EmailDispatchServiceAsyncStub | None = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Prepare the connection; ``async with`` does it by itself. It is made by the first call.

        Raises:
            OSError: A file of ``tls`` can't be read.
            ValueError: What ``tls`` names does not fit together.
        """
        connection = self._connection
        credentials = connection.credentials
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(connection.target, options=connection.channel_options)
        else:
            self._channel = grpc.aio.secure_channel(connection.target, credentials, options=connection.channel_options)
        self._stub = EmailDispatchServiceStub(self._channel)

    async def close(self) -> None:
        """End what is under way and close the connections."""
        self._stub = None
        if self._channel is not None:
            await self._channel.close()

    async def send(self, *, timeout: float | None = None, **fields: Unpack[EmailFields]) -> SendResult:
        """Send one email; it is stored durably when this returns.

        Args:
            timeout: Seconds, repeats included; None: that of the client.
            fields: Those of ``OutgoingEmail``; ``idempotency_key``, ``kind`` and ``to`` are required.

        Raises:
            RequestRefusedError: The request is wrong (``InvalidRequestError`` names each bad field) or its key belongs
                to another email (``IdempotencyKeyReusedError``); nothing was stored.
            RetryLaterError: The service stayed away, full or silent until the timeout; repeat with the same key.
            EmailError: Anything else; see ``errors``.
        """
        request = to_request(OutgoingEmail(**fields))
        return from_response(await self._call(self._opened.SendEmail, request, self._connection.attempts(timeout)))

    async def send_many(
        self, emails: Iterable[OutgoingEmail], *, timeout: float | None = None
    ) -> list[SendResult | EmailError]:
        """Send any number of emails, up to 1,000 with each call.

        Args:
            emails: Each with its own key.
            timeout: Seconds for each call of up to 1,000, repeats included; None: that of the client.

        Returns:
            What became of each, in their order: its result or its error. One that is refused does not touch the others.
        """
        outcomes, stub = Outcomes(emails), self._opened
        for batch in outcomes.batches():
            await self._send_batch(stub, batch, timeout)
        return outcomes.in_order()

    async def get(
        self, email_id: str | None = None, *, idempotency_key: str | None = None, timeout: float | None = None
    ) -> Email:
        """Tell the present state of one email, by its id or by its key.

        Raises:
            EmailNotFoundError: No such email, or it ended longer ago than the retention.
            EmailError: Anything else; see ``errors``.
        """
        request = lookup(email_id, idempotency_key)
        return from_email((await self._call(self._opened.GetEmail, request, self._connection.attempts(timeout))).email)

    async def cancel(self, email_id: str, *, timeout: float | None = None) -> Email:
        """Cancel an email that has not been sent; its state from then on.

        A call that was repeated, since its first answer was lost, and finds the email cancelled, has done it.

        Raises:
            EmailNotFoundError: No such email.
            FailedPreconditionError: It is being sent, may have been sent, or has ended; nothing was changed.
            EmailError: Anything else; see ``errors``.
        """
        attempts = self._connection.attempts(timeout)
        request = CancelEmailRequest(email_id=email_id)
        try:
            return from_email((await self._call(self._opened.CancelEmail, request, attempts)).email)
        except FailedPreconditionError as refused:
            if not attempts.may_have_done(refused):
                raise
            email = from_email((await self._call(self._opened.GetEmail, lookup(email_id, None), attempts)).email)
            if email.status is not EmailStatus.CANCELLED:
                raise
            return email

    async def watch(self, *email_ids: str, resume_token: str = "") -> AsyncGenerator[EmailEvent, None]:
        """Tell what happens to emails, until the caller stops listening. A broken connection is made anew, and goes on.

        In order for each email, and at least once: after a new connection, an event may come again. What
        happens while a connection is broken is told by the next one.

        Args:
            email_ids: Which emails; none: all. Of named ones the present state comes first, if there is no token.
            resume_token: Go on after the event it came with; empty: from the present.

        Raises:
            ResumeTokenExpiredError: The token is older than the events that are kept.
            EmailNotFoundError: One of the named emails does not exist.
            EmailError: Anything else that a new connection does not mend.
        """
        watching = Watching(email_ids, resume_token, self._connection.retry)
        while True:
            failure: EmailError | None = None
            call = self._opened.WatchEmails(watching.request(), metadata=self._connection.metadata())
            try:
                watching.begin(await call.initial_metadata())
                async for response in call:
                    event = watching.take(response)
                    if event is not None:
                        yield event
            except grpc.aio.AioRpcError as error:
                failure = error_of_call(error)
            finally:
                call.cancel()
            await asyncio.sleep(watching.pause_after(failure))

    @property
    def _opened(self) -> "EmailDispatchServiceAsyncStub":
        if self._stub is None:
            raise RuntimeError(
                "the client is not open: use `async with EmailClient(...) as client`, or open() and close()"
            )
        return self._stub

    async def _call(self, method: Callable[..., Any], request: object, attempts: Attempts) -> Any:  # noqa: ANN401
        while True:
            try:
                return await method(request, timeout=attempts.time_left_s, metadata=self._connection.metadata())
            except grpc.aio.AioRpcError as error:
                failure = error_of_call(error)
                pause = attempts.pause_after(failure)
                if pause is None:
                    raise failure from error
            await asyncio.sleep(pause)

    async def _send_batch(self, stub: "EmailDispatchServiceAsyncStub", batch: Batch, timeout: float | None) -> None:
        attempts = self._connection.attempts(timeout)
        while True:
            metadata = self._connection.metadata()
            try:
                open_for = batch.take(
                    await stub.BatchSendEmails(batch.request(), timeout=attempts.time_left_s, metadata=metadata)
                )
            except grpc.aio.AioRpcError as error:
                open_for = batch.fail(error_of_call(error))
            pause = None if open_for is None else attempts.pause_after(open_for)
            if pause is None:
                return
            await asyncio.sleep(pause)
