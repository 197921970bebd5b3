"""When emails expire, and how the table of lifetimes is read."""

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from sred.email.v1.dispatch_service_pb2 import SendEmailRequest
from sred_email_core.errors import FieldViolation
from sred_email_ingress.expiry import DEFAULT_EXPIRY, ExpiryPolicy, expire_at_of, parse_lifetimes, short_lifetimes

NOW = datetime(2025, 6, 15, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)


def test_links_to_a_password_and_to_an_address_expire_others_do_not() -> None:
    policy = ExpiryPolicy(DEFAULT_EXPIRY)
    assert policy.lifetime("PASSWORD_RESET") == timedelta(hours=1)
    assert policy.lifetime("EMAIL_CONFIRMATION") == timedelta(days=1)
    for kind in ("WELCOME", "SUBSCRIPTION_CHANGED", "QUOTA_WARNING", "SYSTEM_NOTIFICATION"):
        assert policy.lifetime(kind) is None


@pytest.mark.parametrize("expire_at", [None, NOW + TICK, NOW + timedelta(days=10_000)])
def test_a_time_in_the_future_is_fine_and_so_is_none(expire_at: datetime | None) -> None:
    assert ExpiryPolicy({}).objection(expire_at, NOW) is None


@pytest.mark.parametrize("expire_at", [NOW, NOW - TICK, datetime(1, 1, 1, tzinfo=UTC)])
def test_a_time_that_has_come_is_objected_to(expire_at: datetime) -> None:
    assert ExpiryPolicy({}).objection(expire_at, NOW) == FieldViolation(
        "expire_at", "is in the past: it must be in the future"
    )


def test_what_a_call_does_not_say_is_none_and_1970_is_not_nothing() -> None:
    assert expire_at_of(SendEmailRequest()) is None
    assert expire_at_of(SendEmailRequest(expire_at=Timestamp())) == datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("seconds", [-62_135_596_800, 253_402_300_799])
def test_the_first_and_the_last_time_that_validation_lets_pass_can_be_read(seconds: int) -> None:
    assert expire_at_of(SendEmailRequest(expire_at=Timestamp(seconds=seconds, nanos=999_999_999))) is not None


def test_lifetimes_under_an_hour_are_pointed_out_and_those_that_are_built_in_are_none() -> None:
    assert short_lifetimes(DEFAULT_EXPIRY) == []
    assert short_lifetimes(parse_lifetimes("WELCOME=3599.9,QUOTA_WARNING=3600,PASSWORD_RESET=900")) == [
        "PASSWORD_RESET",
        "WELCOME",
    ]


@pytest.mark.parametrize(
    ("text", "lifetimes"),
    [
        ("PASSWORD_RESET=3600,EMAIL_CONFIRMATION=86400", dict(DEFAULT_EXPIRY)),
        ("WELCOME=0.5", {"WELCOME": timedelta(seconds=0.5)}),
        (" welcome = 1e3 , QUOTA_WARNING=60 ", {"WELCOME": timedelta(seconds=1000), "QUOTA_WARNING": timedelta(0, 60)}),
        ("off", {}),
        (" OFF ", {}),
    ],
)
def test_lifetimes_are_read(text: str, lifetimes: dict[str, timedelta]) -> None:
    assert parse_lifetimes(text) == lifetimes


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("3600", "entry 1 is not KIND=SECONDS"),
        ("WELCOME=1,", "entry 2 is not KIND=SECONDS"),
        (",", "entry 1 is not KIND=SECONDS; entry 2 is not KIND=SECONDS"),
        ("WELCOME=1,BIRTHDAY=2", "entry 2 names no kind (kinds are WELCOME, EMAIL_CONFIRMATION, PASSWORD_RESET, "),
        ("UNSPECIFIED=2", "entry 1 names no kind"),
        ("WELCOME=1,welcome=2", "entry 2 names a kind a second time"),
        *(
            (f"WELCOME={bad}", "entry 1 needs a number of seconds")
            for bad in ("", "1h", "0", "-1", "nan", "inf", "1e9")
        ),
        ("WELCOME=1e-9", "entry 1 needs a number of seconds"),
        ("WELCOME=1=2", "entry 1 needs a number of seconds"),
    ],
)
def test_what_is_wrong_with_lifetimes_is_named_without_their_text(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match="entry") as refused:
        parse_lifetimes(text)
    assert problem in str(refused.value)
    assert "BIRTHDAY" not in str(refused.value)
