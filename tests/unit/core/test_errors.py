"""Every error of the taxonomy has a status, and its details say what the caller can do."""

import inspect
from datetime import timedelta

import pytest
from google.protobuf.message import Message
from google.rpc import code_pb2
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo

from sred_email_core import errors
from sred_email_core.error_status import CODES, ERROR_DOMAIN, status_of
from sred_email_core.errors import (
    CancelObstacle,
    EmailDispatchError,
    EmailNotFoundError,
    FieldViolation,
    IdempotencyKeyReusedError,
    InvalidRequestError,
    LogUnavailableError,
    MalformedEntryError,
    NotCancellableError,
    OverloadedError,
    QueueUnavailableError,
    RetryLaterError,
    UnstorableError,
)

TAXONOMY = [
    error
    for _, error in inspect.getmembers(errors, inspect.isclass)
    if issubclass(error, Exception) and error.__module__ == errors.__name__
]


def unpack(error: EmailDispatchError, detail: Message) -> bool:
    """Fill the detail from the error's status; whether it is there, once."""
    fitting = [packed for packed in status_of(error).details if packed.Is(detail.DESCRIPTOR)]  # type: ignore[arg-type]
    assert len(fitting) <= 1
    return bool(fitting) and fitting[0].Unpack(detail)


@pytest.mark.parametrize("error", TAXONOMY)
def test_every_error_of_the_taxonomy_has_a_status(error: type[EmailDispatchError]) -> None:
    assert issubclass(error, EmailDispatchError)
    assert error in CODES


def test_every_status_belongs_to_an_error_of_the_taxonomy() -> None:
    assert set(CODES) == set(TAXONOMY)
    assert code_pb2.OK not in CODES.values()


@pytest.mark.parametrize("error", TAXONOMY)
def test_every_error_stands_in_the_tree_of_the_docstring(error: type[EmailDispatchError]) -> None:
    assert errors.__doc__ is not None
    assert error.__name__ in errors.__doc__


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidRequestError([FieldViolation("to", "is empty")]), code_pb2.INVALID_ARGUMENT),
        (IdempotencyKeyReusedError("an id"), code_pb2.ALREADY_EXISTS),
        (UnstorableError("words"), code_pb2.INVALID_ARGUMENT),
        (EmailNotFoundError("words"), code_pb2.NOT_FOUND),
        (NotCancellableError("an id", "SENDING", CancelObstacle.BEING_SENT), code_pb2.FAILED_PRECONDITION),
        (LogUnavailableError("words"), code_pb2.UNAVAILABLE),
        (QueueUnavailableError("words"), code_pb2.UNAVAILABLE),
        (OverloadedError("words"), code_pb2.RESOURCE_EXHAUSTED),
        (MalformedEntryError("words"), code_pb2.DATA_LOSS),
    ],
)
def test_a_status_has_the_code_of_the_contract_and_the_errors_words(error: EmailDispatchError, code: int) -> None:
    status = status_of(error)
    assert status.code == code
    assert status.message == str(error)


def test_a_bad_request_names_every_bad_field() -> None:
    violations = [FieldViolation("to[2]", "is no address"), FieldViolation("inline.subject", "is empty")]
    detail = BadRequest()
    assert unpack(InvalidRequestError(violations), detail)
    assert [(v.field, v.description) for v in detail.field_violations] == [
        ("to[2]", "is no address"),
        ("inline.subject", "is empty"),
    ]


def test_a_reused_key_has_its_reason_and_the_email_that_holds_it() -> None:
    detail = ErrorInfo()
    assert unpack(IdempotencyKeyReusedError("0190a1b2"), detail)
    assert detail.reason == "IDEMPOTENCY_KEY_REUSED"
    assert detail.domain == ERROR_DOMAIN
    assert dict(detail.metadata) == {"email_id": "0190a1b2"}


@pytest.mark.parametrize(
    ("obstacle", "words"),
    [
        (CancelObstacle.BEING_SENT, "is being sent now"),
        (CancelObstacle.MAY_HAVE_BEEN_ACCEPTED, "may already have been accepted"),
        (CancelObstacle.HAS_ENDED, "has already ended as SUCCESS"),
    ],
)
def test_what_can_not_be_cancelled_says_why_to_people_and_to_programs(obstacle: CancelObstacle, words: str) -> None:
    error = NotCancellableError("0190a1b2", "SUCCESS", obstacle)
    assert words in str(error)
    detail = ErrorInfo()
    assert unpack(error, detail)
    assert (detail.reason, detail.domain) == (obstacle.value, ERROR_DOMAIN)
    assert dict(detail.metadata) == {"email_id": "0190a1b2", "status": "SUCCESS"}


@pytest.mark.parametrize("error", [e for e in TAXONOMY if issubclass(e, RetryLaterError)])
def test_whoever_may_retry_is_told_when(error: type[RetryLaterError]) -> None:
    detail = RetryInfo()
    assert unpack(error("words", retry_after=timedelta(seconds=2.5)), detail)
    assert detail.retry_delay.ToTimedelta() == timedelta(seconds=2.5)
    assert unpack(error("words"), detail)
    assert detail.retry_delay.ToTimedelta() == timedelta(seconds=1)


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequestError([FieldViolation("to", "is empty")]),
        IdempotencyKeyReusedError("an id"),
        UnstorableError("words"),
        EmailNotFoundError("words"),
        NotCancellableError("an id", "SENDING", CancelObstacle.BEING_SENT),
    ],
)
def test_a_refused_request_is_told_no_time_to_retry(error: EmailDispatchError) -> None:
    assert not unpack(error, RetryInfo())


def test_the_message_of_an_invalid_request_counts_and_names_its_fields() -> None:
    one = InvalidRequestError([FieldViolation("to", "is empty")])
    two = InvalidRequestError([FieldViolation("to", "is empty"), FieldViolation("kind", "is required")])
    assert str(one) == "1 field is bad: to"
    assert str(two) == "2 fields are bad: to, kind"


def test_the_message_of_an_invalid_request_stays_short_however_many_fields_are_bad() -> None:
    error = InvalidRequestError([FieldViolation(f"attachments[{n}].content", "is too large") for n in range(1000)])
    assert str(error).startswith("1000 fields are bad: attachments[0].content, ")
    assert len(str(error)) < 300
