"""Sending many: what one call carries, and what became of each email."""

from collections.abc import Iterable, Iterator

from sred.email.v1.dispatch_service_pb2 import BatchSendEmailsRequest, BatchSendEmailsResponse, SendEmailRequest
from sred_email_client.conversion import from_result, to_request
from sred_email_client.emails import OutgoingEmail, SendResult
from sred_email_client.errors import EmailError, InvalidRequestError, UnexpectedError
from sred_email_client.retry import is_retryable

MAX_EMAILS = 1000
"""In one BatchSendEmails; the service takes no more."""
MAX_BYTES = 40 << 20
"""In one BatchSendEmails that holds more than one email; the service takes messages of 48 MB."""

Outcome = SendResult | EmailError


class Outcomes:
    """What became of each email, in their order. One that cannot even be written as a request has its error at once."""

    def __init__(self, emails: Iterable[OutgoingEmail]) -> None:
        self._requests: dict[int, SendEmailRequest] = {}
        self._outcomes: dict[int, Outcome] = {}
        for index, email in enumerate(emails):
            try:
                self._requests[index] = to_request(email)
            except InvalidRequestError as error:
                self._outcomes[index] = error

    def batches(self) -> Iterator["Batch"]:
        """Share the emails out over calls, each within what the service takes."""
        members: dict[int, SendEmailRequest] = {}
        size = 0
        for index, request in self._requests.items():
            request_size = request.ByteSize() + 16  # and its tag and length
            if members and (len(members) == MAX_EMAILS or size + request_size > MAX_BYTES):
                yield Batch(members, self._outcomes)
                members, size = {}, 0
            members[index] = request
            size += request_size
        if members:
            yield Batch(members, self._outcomes)

    def in_order(self) -> list[Outcome]:
        """One outcome for each email, once all batches are done."""
        return [self._outcomes[index] for index in sorted(self._outcomes)]


class Batch:
    """The emails of one call. Those that a later attempt may help stay in it for the next one."""

    def __init__(self, members: dict[int, SendEmailRequest], outcomes: dict[int, Outcome]) -> None:
        self._members = members
        self._outcomes = outcomes

    def request(self) -> BatchSendEmailsRequest:
        """Ask for what is still open."""
        return BatchSendEmailsRequest(requests=self._members.values())

    def take(self, response: BatchSendEmailsResponse) -> EmailError | None:
        """Note the results.

        Returns:
            Why some may be repeated, the one that asks for the longest pause; None: all is done.
        """
        if len(response.results) != len(self._members):
            return self.fail(UnexpectedError("the service answered for another number of emails", "INTERNAL"))
        for index, result in zip(self._members, response.results, strict=True):
            self._outcomes[index] = from_result(result)
        return self._keep_what_may_be_repeated()

    def fail(self, error: EmailError) -> EmailError | None:
        """Note that the call failed as a whole; the return value is that of ``take``."""
        self._outcomes.update(dict.fromkeys(self._members, error))
        return self._keep_what_may_be_repeated()

    def _keep_what_may_be_repeated(self) -> EmailError | None:
        open_members, reasons = {}, list[EmailError]()
        for index, request in self._members.items():
            outcome = self._outcomes[index]
            if isinstance(outcome, EmailError) and is_retryable(outcome):
                open_members[index] = request
                reasons.append(outcome)
        self._members = open_members
        return max(reasons, key=_asked_pause_s, default=None)


def _asked_pause_s(error: EmailError) -> float:
    retry_after = getattr(error, "retry_after", None)
    return 0.0 if retry_after is None else float(retry_after.total_seconds())
