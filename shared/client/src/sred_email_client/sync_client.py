"""The client for code without an event loop, such as Django views and Celery tasks."""

import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Literal, Self, Unpack

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


class SyncEmailClient:
    """``EmailClient`` without ``await``, on gRPC's own threads. Any number of threads may share one.

    The connection is made by the first call, and by the first one in each process: a client made before a fork (a
    module of a prefork server, a Celery worker) works in every child. gRPC itself does not survive a fork, so the
    parent must not have sent before it forks.
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
        """Prepare; nothing is opened yet. The arguments are those of ``EmailClient``.

        Raises:
            ValueError: The target is empty, the timeout not positive, or a token would travel unencrypted.
        """
        self._connection = Connection(target, token, tls, timeout, retry or RetryPolicy(), options)
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._inherited: list[grpc.Channel | None] = []
        self._channel: grpc.Channel | None = None
        self._stub: EmailDispatchServiceStub | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what is under way and close the connections. A later call opens them again."""
        with self._lock:
            channel, self._channel, self._stub = self._channel, None, None
        if channel is not None:
            channel.close()

    def send(self, *, timeout: float | None = None, **fields: Unpack[EmailFields]) -> SendResult:
        """``EmailClient.send``: send one email; it is stored durably when this returns.

        Raises:
            EmailError: As there.
        """
        request = to_request(OutgoingEmail(**fields))
        return from_response(self._call(self._opened.SendEmail, request, self._connection.attempts(timeout)))

    def send_many(
        self, emails: Iterable[OutgoingEmail], *, timeout: float | None = None
    ) -> list[SendResult | EmailError]:
        """``EmailClient.send_many``: the result or the error of each, in their order."""
        outcomes, stub = Outcomes(emails), self._opened
        for batch in outcomes.batches():
            self._send_batch(stub, batch, timeout)
        return outcomes.in_order()

    def get(
        self, email_id: str | None = None, *, idempotency_key: str | None = None, timeout: float | None = None
    ) -> Email:
        """``EmailClient.get``: the present state of one email, by its id or by its key.

        Raises:
            EmailError: As there.
        """
        request = lookup(email_id, idempotency_key)
        return from_email(self._call(self._opened.GetEmail, request, self._connection.attempts(timeout)).email)

    def cancel(self, email_id: str, *, timeout: float | None = None) -> Email:
        """``EmailClient.cancel``: cancel an email that has not been sent; its state from then on.

        Raises:
            EmailError: As there.
        """
        attempts = self._connection.attempts(timeout)
        request = CancelEmailRequest(email_id=email_id)
        try:
            return from_email(self._call(self._opened.CancelEmail, request, attempts).email)
        except FailedPreconditionError as refused:
            if not attempts.may_have_done(refused):
                raise
            email = from_email(self._call(self._opened.GetEmail, lookup(email_id, None), attempts).email)
            if email.status is not EmailStatus.CANCELLED:
                raise
            return email

    def watch(self, *email_ids: str, resume_token: str = "") -> Generator[EmailEvent, None, None]:
        """``EmailClient.watch``: what happens to emails, until the caller stops listening. Blocks between events.

        Raises:
            EmailError: As there.
        """
        watching = Watching(email_ids, resume_token, self._connection.retry)
        while True:
            failure: EmailError | None = None
            call = self._opened.WatchEmails(watching.request(), metadata=self._connection.metadata())
            try:
                watching.begin(call.initial_metadata())
                for response in call:
                    event = watching.take(response)
                    if event is not None:
                        yield event
            except grpc.RpcError as error:
                failure = _meaning(error)
            finally:
                call.cancel()
            time.sleep(watching.pause_after(failure))

    @property
    def _opened(self) -> EmailDispatchServiceStub:
        if self._pid != os.getpid():
            self._forget()
        with self._lock:
            if self._stub is None:
                self._channel = self._open()
                self._stub = EmailDispatchServiceStub(self._channel)
            return self._stub

    def _open(self) -> grpc.Channel:
        connection = self._connection
        credentials = connection.credentials
        if credentials is None:
            return grpc.insecure_channel(connection.target, options=connection.channel_options)
        return grpc.secure_channel(connection.target, credentials, options=connection.channel_options)

    def _forget(self) -> None:
        """In the child of a fork: what was the parent's is not used, nor closed, which would need its threads."""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._inherited.append(self._channel)
        self._channel, self._stub = None, None

    def _call(self, method: Callable[..., Any], request: object, attempts: Attempts) -> Any:  # noqa: ANN401
        while True:
            try:
                return method(request, timeout=attempts.time_left_s, metadata=self._connection.metadata())
            except grpc.RpcError as error:
                failure = _meaning(error)
                pause = attempts.pause_after(failure)
                if pause is None:
                    raise failure from error
            time.sleep(pause)

    def _send_batch(self, stub: EmailDispatchServiceStub, batch: Batch, timeout: float | None) -> None:
        attempts = self._connection.attempts(timeout)
        while True:
            metadata = self._connection.metadata()
            try:
                open_for = batch.take(
                    stub.BatchSendEmails(batch.request(), timeout=attempts.time_left_s, metadata=metadata)
                )
            except grpc.RpcError as error:
                open_for = batch.fail(_meaning(error))
            pause = None if open_for is None else attempts.pause_after(open_for)
            if pause is None:
                return
            time.sleep(pause)


def _meaning(error: grpc.RpcError) -> EmailError:
    if not isinstance(error, grpc.Call):
        raise error
    return error_of_call(error)
