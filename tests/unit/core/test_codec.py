"""Between emails and stream entries: nothing is lost on the way, and what is no email is said to be none."""

import re
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from sred.email.v1 import email_pb2
from sred.email.v1.stream_message_pb2 import (
    EmailContent,
    EmailStreamMessage,
    EncryptedContent,
    RawStreamEntry,
    StoredContent,
)
from sred_email_core.encryption import envelope
from sred_email_core.encryption.key_ring import EncryptionKey
from sred_email_core.errors import MalformedEntryError
from sred_email_core.queue.codec import INLINE_LIMIT_BYTES, QueuedEmail, decode, encode, encode_raw_entry
from sred_email_core.queue.keys import Lane

EMAIL_ID = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
ACCEPTED_AT = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
KINDS = [name.removeprefix("EMAIL_KIND_") for name in email_pb2.EmailKind.keys()[1:]]

contents = st.builds(
    EmailContent,
    from_address=st.text(max_size=9),
    to=st.lists(st.text(max_size=9), max_size=3),
    subject=st.text(max_size=9),
    html=st.text(max_size=30),
    headers=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
)
moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001 - made aware


def queued(content: EmailContent | bytes, **fields: object) -> QueuedEmail:
    values: dict[str, object] = {
        "email_id": EMAIL_ID,
        "kind": "WELCOME",
        "priority": "HIGH",
        "accepted_at": ACCEPTED_AT,
        "expire_at": None,
        "content": content if isinstance(content, bytes) else content.SerializeToString(),
        **fields,
    }
    return QueuedEmail.of_content(**values)  # type: ignore[arg-type]


def small() -> EmailContent:
    return EmailContent(from_address="a@example.com", to=["b@example.com"], subject="s", html="<p>é</p>")


def message(**fields: object) -> EmailStreamMessage:
    values: dict[str, object] = {
        "email_id": EMAIL_ID,
        "kind": email_pb2.EMAIL_KIND_WELCOME,
        "priority": email_pb2.PRIORITY_HIGH,
        "accepted_at": Timestamp(seconds=1),
        "content": small(),
        **fields,
    }
    return EmailStreamMessage(**{name: value for name, value in values.items() if value is not None})  # type: ignore[arg-type]


def entry(of: EmailStreamMessage | bytes, email_id: str | bytes = EMAIL_ID) -> dict[bytes, bytes]:
    return {
        b"email_id": email_id.encode() if isinstance(email_id, str) else email_id,
        b"message": of if isinstance(of, bytes) else of.SerializeToString(),
    }


@given(
    content=contents,
    kind=st.sampled_from(KINDS),
    lane=st.sampled_from(Lane),
    accepted_at=moments,
    expire_at=st.none() | moments,
)
def test_an_email_comes_back_as_it_was_sent(
    content: EmailContent, kind: str, lane: Lane, accepted_at: datetime, expire_at: datetime | None
) -> None:
    email = queued(content, kind=kind, priority=lane.name, accepted_at=accepted_at, expire_at=expire_at)
    assert decode(entry(encode(email)), lane) == email


def test_the_lane_is_that_of_the_stream_whatever_the_message_says() -> None:
    assert decode(entry(encode(queued(small(), priority="LOW"))), Lane.HIGH).lane is Lane.HIGH


def test_what_is_encoded_twice_has_the_same_size_and_content() -> None:
    email = queued(small())
    assert EmailStreamMessage.FromString(encode(email)) == EmailStreamMessage.FromString(encode(email))
    assert email.size_bytes == small().ByteSize()


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16_383, 16_384, 60_000])
def test_content_that_is_serialized_already_travels_as_it_would_otherwise(length: int) -> None:
    content = EmailContent(from_address="a@example.com", to=["b@example.com"], subject="s", html="h" * length)
    email = queued(content)
    serialized = encode(replace(email, frozen=None))
    assert EmailStreamMessage.FromString(encode(replace(email, frozen=content.SerializeToString()))) == (
        EmailStreamMessage.FromString(serialized)
    )


@pytest.mark.parametrize("beyond", [0, 1])
def test_content_over_the_limit_stays_in_the_log(beyond: int) -> None:
    content = small()
    content.html = "x" * (INLINE_LIMIT_BYTES - content.ByteSize())
    content.html += "x" * (INLINE_LIMIT_BYTES - content.ByteSize() + beyond)
    email = queued(content)
    assert email.size_bytes == INLINE_LIMIT_BYTES + beyond
    decoded = decode(entry(encode(email)), Lane.HIGH)
    assert decoded.content == (None if beyond else content)
    assert decoded.size_bytes == email.size_bytes
    assert not decoded.alone
    assert len(encode(email)) < (200 if beyond else INLINE_LIMIT_BYTES + 200)


def test_an_attachment_makes_an_email_go_alone_and_stay_in_the_log() -> None:
    content = small()
    content.attachments.add(filename="a.txt", content=b"x")
    email = queued(content)
    assert email.alone
    decoded = decode(entry(encode(email)), Lane.HIGH)
    assert decoded.alone
    assert decoded.content is None
    assert decoded.size_bytes == content.ByteSize()


def test_an_email_whose_content_is_in_the_log_can_be_put_on_a_stream_again() -> None:
    content = small()
    content.attachments.add(filename="a.txt", content=b"x")
    stored = decode(entry(encode(queued(content))), Lane.LOW)
    assert decode(entry(encode(stored)), Lane.LOW) == stored


def encrypted(content: EmailContent, **fields: object) -> QueuedEmail:
    sealed = envelope.seal(
        EncryptionKey("a-key", b"k" * 32),
        EMAIL_ID,
        content.SerializeToString(),
        has_attachments=bool(content.attachments),
        sender_domain="example.com",
    )
    return queued(envelope.to_stored(sealed), **fields)


def test_encrypted_content_travels_as_it_is_kept_and_the_queue_knows_what_it_needs_to() -> None:
    email = encrypted(small())
    assert email.content is None
    assert b"<p>" not in encode(email)
    decoded = decode(entry(encode(email)), Lane.HIGH)
    assert decoded.encrypted == email.encrypted
    assert decoded.hints == email.hints
    assert decoded.hints.endswith(b" 0 0 example.com")
    assert EmailStreamMessage.FromString(encode(email)).kind == email_pb2.EMAIL_KIND_WELCOME  # for anybody to read


def test_what_was_decrypted_never_travels_so() -> None:
    email = replace(encrypted(small()), content=small())
    assert b"b@example.com" not in encode(email)
    assert decode(entry(encode(email)), Lane.HIGH).encrypted == email.encrypted


def test_encrypted_content_that_is_large_or_has_attachments_stays_in_the_log() -> None:
    large, attached = small(), small()
    large.html = "x" * INLINE_LIMIT_BYTES
    attached.attachments.add(filename="a.txt", content=b"x")
    for email, alone in ((encrypted(large), False), (encrypted(attached), True)):
        message_ = EmailStreamMessage.FromString(encode(email))
        assert message_.WhichOneof("body") == "stored"
        assert (email.alone, message_.alone) == (alone, alone)


def test_an_entry_that_is_encrypted_by_no_named_key_is_malformed() -> None:
    with pytest.raises(MalformedEntryError, match="without the name of a key"):
        decode(entry(message(content=None, encrypted=EncryptedContent(ciphertext=b"x"))), Lane.HIGH)


def test_fields_that_others_add_to_an_entry_do_not_disturb() -> None:
    email = queued(small())
    assert decode({**entry(encode(email)), b"traceparent": b"00-x", b"\xff": b"\xff"}, Lane.HIGH) == email


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "needs the fields"),
        ({b"message": b""}, "needs the fields"),
        ({b"email_id": EMAIL_ID.encode()}, "needs the fields"),
        ({b"EMAIL_ID": EMAIL_ID.encode(), b"MESSAGE": b""}, "needs the fields"),
        (entry(message(), ""), "no UUID"),
        (entry(message(), "not-a-uuid"), "no UUID"),
        (entry(message(), EMAIL_ID[:-1]), "no UUID"),
        (entry(message(), EMAIL_ID + "0"), "no UUID"),
        (entry(message(), "é" * 32), "no UUID"),
        (entry(message(), b"\xff\xfe"), "no UUID"),
        (entry(b"\xff\xff\xff"), "no EmailStreamMessage"),
        (entry(b"hello"), "no EmailStreamMessage"),
        (entry(message().SerializeToString()[:-3]), "no EmailStreamMessage"),
        (entry(b""), "does not belong"),
        (entry(message(email_id=str(uuid.UUID(int=1)))), "does not belong"),
        (entry(message(email_id="")), "does not belong"),
        (entry(message(email_id=EMAIL_ID.upper()), EMAIL_ID.upper()), "does not belong"),
        (entry(message(content=None)), "no body"),
        (entry(message(kind=email_pb2.EMAIL_KIND_UNSPECIFIED)), "no known kind"),
        (entry(message(kind=99)), "no known kind"),
        (entry(message(kind=-1)), "no known kind"),
        (entry(message(accepted_at=Timestamp(seconds=10**15))), "impossible time"),
        (entry(message(accepted_at=Timestamp(seconds=-(10**15)))), "impossible time"),
        (entry(message(accepted_at=Timestamp(nanos=-1))), "impossible time"),
        (entry(message(accepted_at=Timestamp(nanos=10**9))), "impossible time"),
        (entry(message(expire_at=Timestamp(seconds=2**63 - 1))), "impossible time"),
    ],
)
def test_each_kind_of_malformed_entry_is_told(fields: dict[bytes, bytes], words: str) -> None:
    with pytest.raises(MalformedEntryError, match=words):
        decode(fields, Lane.NORMAL)


def test_what_is_wrong_with_an_entry_is_told_without_its_content() -> None:
    fields = entry(message(kind=99, content=EmailContent(subject="secret", to=["ada@example.com"])), EMAIL_ID)
    with pytest.raises(MalformedEntryError) as raised:
        decode(fields, Lane.NORMAL)
    assert "secret" not in str(raised.value)
    assert "ada" not in str(raised.value)


def never_anything_else(fields: dict[bytes, bytes], lane: Lane) -> None:
    try:
        email = decode(fields, lane)
    except MalformedEntryError:
        return
    assert email.lane is lane
    assert str(uuid.UUID(email.email_id)) == email.email_id
    assert email.kind in KINDS
    assert EmailStreamMessage.FromString(encode(email)).email_id == email.email_id


@given(
    fields=st.dictionaries(
        st.sampled_from([b"email_id", b"message"]) | st.binary(max_size=5),
        st.just(EMAIL_ID.encode()) | st.binary(max_size=60),
        max_size=4,
    ),
    lane=st.sampled_from(Lane),
)
def test_arbitrary_fields_are_an_email_or_malformed_and_never_anything_else(
    fields: dict[bytes, bytes], lane: Lane
) -> None:
    never_anything_else(fields, lane)


@given(
    kind=st.integers(-(2**31), 2**31 - 1) | st.integers(0, 7),
    priority=st.integers(-(2**31), 2**31 - 1),
    seconds=st.integers(-(2**63), 2**63 - 1) | st.integers(-(10**12), 10**12),
    nanos=st.integers(-(2**31), 2**31 - 1) | st.integers(0, 10**9 - 1),
    size_bytes=st.integers(-(2**63), 2**63 - 1),
    alone=st.booleans(),
    stored=st.booleans(),
)
def test_any_message_is_an_email_or_malformed_and_never_anything_else(  # noqa: PLR0913, PLR0917 - its fields
    kind: int, priority: int, seconds: int, nanos: int, size_bytes: int, alone: bool, stored: bool
) -> None:
    moment = Timestamp(seconds=seconds, nanos=nanos)
    made = message(
        kind=kind, priority=priority, accepted_at=moment, expire_at=moment, size_bytes=size_bytes, alone=alone
    )
    if stored:
        made.stored.CopyFrom(StoredContent())
    never_anything_else(entry(made), Lane.NORMAL)


@given(cut=st.integers(0, 200), at=st.integers(0, 200), byte=st.integers(0, 255))
def test_a_damaged_message_is_an_email_or_malformed_and_never_anything_else(cut: int, at: int, byte: int) -> None:
    damaged = bytearray(message(expire_at=Timestamp(seconds=9)).SerializeToString())
    damaged[at % len(damaged)] = byte
    never_anything_else(entry(bytes(damaged[: cut or None])), Lane.NORMAL)


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b"]) | st.binary(max_size=9), st.binary(max_size=9)), max_size=5))
def test_a_raw_entry_keeps_every_field_as_it_was_in_order_also_those_that_stand_twice(
    pairs: list[tuple[bytes, bytes]],
) -> None:
    kept = RawStreamEntry.FromString(encode_raw_entry("sred:email:send", "1-2", pairs))
    assert (kept.stream, kept.entry_id) == ("sred:email:send", "1-2")
    assert [(field.name, field.value) for field in kept.fields] == pairs


@pytest.mark.parametrize(
    ("fields", "hints"),
    [
        ({}, b"32 0 0"),
        ({"alone": True}, b"32 1 0"),
        ({"expire_at": datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)}, b"32 0 1767323045678"),
        ({"expire_at": ACCEPTED_AT.astimezone(timezone(timedelta(hours=9)))}, b"32 0 1767323045678"),
        ({"delay": timedelta(hours=1)}, b"32 0 0"),
    ],
)
def test_hints_say_size_whether_it_goes_alone_and_when_it_expires(fields: dict[str, object], hints: bytes) -> None:
    assert queued(EmailContent(subject="x" * 30), **fields).hints == hints


def test_an_email_with_an_attachment_hints_that_it_goes_alone() -> None:
    content = EmailContent()
    content.attachments.add(filename="a.txt", content=b"x")
    assert queued(content).hints == b"%d 1 0" % content.ByteSize()


@given(content=contents, alone=st.booleans(), expire_at=st.none() | moments)
def test_hints_are_those_of_the_email_that_is_read_back(
    content: EmailContent, alone: bool, expire_at: datetime | None
) -> None:
    email = queued(content, alone=alone, expire_at=expire_at)
    assert decode(entry(encode(email)), Lane.HIGH).hints == email.hints


@given(content=contents, alone=st.booleans(), expire_at=st.none() | moments.filter(lambda at: at.timestamp() >= 1))
def test_hints_have_the_form_that_the_take_script_reads(
    content: EmailContent, alone: bool, expire_at: datetime | None
) -> None:
    assert re.fullmatch(rb"\d+ [01] \d+( [a-z0-9.-]+)?", queued(content, alone=alone, expire_at=expire_at).hints)


@given(content=contents, alone=st.booleans())
def test_an_email_that_must_go_alone_is_read_back_as_such(content: EmailContent, alone: bool) -> None:
    assert decode(entry(encode(queued(content, alone=alone))), Lane.HIGH).alone == alone


def test_a_delay_is_for_the_queue_and_does_not_travel() -> None:
    email = queued(small(), delay=timedelta(minutes=5))
    assert decode(entry(encode(email)), Lane.HIGH) == replace(email, delay=timedelta())


def test_hints_of_an_entry_are_not_believed_when_it_is_read() -> None:
    email = queued(small())
    assert decode({**entry(encode(email)), b"hints": b"\xff 7 x"}, Lane.HIGH) == email


@pytest.mark.parametrize("offset", [timedelta(hours=-5), timedelta(hours=9, minutes=30)])
def test_a_time_with_another_offset_is_the_same_moment(offset: timedelta) -> None:
    email = queued(small(), accepted_at=ACCEPTED_AT.astimezone(timezone(offset)))
    assert decode(entry(encode(email)), Lane.HIGH).accepted_at == ACCEPTED_AT


def test_a_trace_travels_beside_the_content_and_changes_none_of_its_bytes() -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    traced = queued(small(), traceparent=traceparent)
    entry = {b"email_id": EMAIL_ID.encode(), b"message": encode(traced)}
    assert decode(entry, Lane.HIGH).traceparent == traceparent
    assert decode(entry, Lane.HIGH).content == small()
    assert encode(replace(traced, traceparent=None)) == encode(queued(small()))
    assert traced.hints == queued(small()).hints
