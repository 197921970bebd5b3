"""The sandbox' rate limit, and what it keeps in memory."""

from datetime import UTC, datetime

import pytest

from sred_email_local.sandbox.email import read_email
from sred_email_local.sandbox.mailbox import Mailbox
from sred_email_local.sandbox.rate_limit import RateLimit
from sred_email_local.sandbox.refusal import Refusal
from sred_email_local.sandbox.request_log import RequestLog, RequestRecord

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def fill(mailbox: Mailbox, subjects: str, size: int = 1) -> None:
    for subject in subjects:
        source = {"from": "a@b.example", "to": "c@d.example", "subject": subject, "text": "text"}
        mailbox.accept(read_email(source, in_batch=False), NOW, None, size)


def test_a_window_of_a_second_takes_its_limit_and_says_what_is_left() -> None:
    now = [100.2]
    limit = RateLimit(2, lambda: now[0])
    assert limit.take() == {"ratelimit-limit": "2", "ratelimit-remaining": "1", "ratelimit-reset": "1"}
    assert limit.take()["ratelimit-remaining"] == "0"
    with pytest.raises(Refusal) as caught:
        limit.take()
    assert (caught.value.status, caught.value.name) == (429, "rate_limit_exceeded")
    assert caught.value.headers["retry-after"] == "1"
    now[0] = 101.0
    assert limit.take()["ratelimit-remaining"] == "1"


def test_no_limit_has_no_headers() -> None:
    assert RateLimit(0, lambda: 0.0).take() == {}


def test_the_mailbox_forgets_the_oldest_beyond_its_number() -> None:
    mailbox = Mailbox(most=2)
    fill(mailbox, "abc")
    assert [delivery.email.subject for delivery in mailbox] == ["c", "b"]


def test_the_mailbox_forgets_the_oldest_beyond_its_bytes_but_keeps_the_newest() -> None:
    mailbox = Mailbox(most_bytes=100)
    fill(mailbox, "ab", size=60)
    assert list(mailbox.by_subject()) == ["b"]
    fill(mailbox, "c", size=1000)
    assert list(mailbox.by_subject()) == ["c"]


def test_the_same_subject_twice_shows_as_two_deliveries() -> None:
    mailbox = Mailbox()
    fill(mailbox, "aba")
    assert {subject: len(ids) for subject, ids in mailbox.by_subject().items()} == {"a": 2, "b": 1}


def test_the_request_log_is_bounded_by_the_emails_in_it() -> None:
    log = RequestLog()
    for number in range(1_002):
        log.add(RequestRecord(float(number), "/emails/batch", None, 100, [], 0, ""))
    assert len(log.as_json()) == 1_000
    assert log.as_json()[0]["at"] == 2.0
