"""Whatever an ingress is asked: it says what is wrong, or accepts the whole of it, and nothing is half-written."""

import time
import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from google.rpc import code_pb2
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st

from crash.bad_input.calls import DISPATCH, Caller, assert_tells_why, bad_fields
from crash.bad_input.lasting_world import Logs, lasting_world
from crash.bad_input.ledger import Ledger
from crash.bad_input.requests import ODD, TEXT_FIELDS, TEXTS, send_requests
from crash.bad_input.wire import broken, examples, field
from sred.email.v1.dispatch_service_pb2 import (
    BatchSendEmailsRequest,
    CancelEmailRequest,
    GetEmailRequest,
    SendEmailRequest,
)
from sred_email_local.engines import ValkeyServer
from support.clean_databases import CleanDatabases
from support.world import World, email_request, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


SENDS = send_requests()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(
    tmp_path_factory: pytest.TempPathFactory, databases: CleanDatabases, valkey: ValkeyServer
) -> AsyncIterator[World]:
    """One ingress and no consumer: what was accepted stays where it was put."""
    async with lasting_world(tmp_path_factory.mktemp("ingress"), databases, valkey) as lasting:
        await lasting.start("ingress")
        yield lasting


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def caller(world: World) -> AsyncIterator[Caller]:
    """A client of it."""
    client = Caller(world.services[0].address, DISPATCH)
    yield client
    await client.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ledger(world: World, caller: Caller) -> Ledger:
    """What it has accepted so far."""
    return Ledger(world, caller)


@pytest_asyncio.fixture(loop_scope="module")
async def nothing_is_half_written(world: World, ledger: Ledger) -> AsyncIterator[None]:
    """After the test the process lives, and what it has accepted is whole."""
    yield
    await ledger.assert_complete()
    Logs(world).assert_all_is_well()


WHOLE = pytest.mark.usefixtures("nothing_is_half_written")


@WHOLE
@examples(250)
@given(request=SENDS)
async def test_a_request_is_accepted_as_a_whole_or_refused_without_a_trace(
    ledger: Ledger, request: SendEmailRequest
) -> None:
    await ledger.send(request)


@WHOLE
@pytest.mark.parametrize("where", TEXT_FIELDS)
async def test_any_character_in_any_text_is_stored_or_refused(ledger: Ledger, where: str) -> None:
    requests = [email_request(f"{where} {number}") for number in range(len(ODD))]
    for request, character in zip(requests, ODD, strict=True):
        TEXT_FIELDS[where](request, character)
    results = await ledger.send_many(BatchSendEmailsRequest(requests=requests))
    assert {result.error.code for result in results} <= {code_pb2.OK, code_pb2.INVALID_ARGUMENT}
    assert results[ODD.index("\0")].HasField("error")


@WHOLE
@pytest.mark.parametrize(
    ("to", "cc", "fits"), [(0, 0, False), (0, 1, False), (1, 0, True), (1, 49, True), (1, 50, False)]
)
async def test_an_email_has_from_one_to_fifty_recipients(ledger: Ledger, to: int, cc: int, fits: bool) -> None:
    accepted = len(ledger.accepted)
    await ledger.send(email_request(f"to {to + cc}", to=["a@example.com"] * to, cc=["b@example.com"] * cc))
    assert len(ledger.accepted) == accepted + fits


@WHOLE
@examples(40)
@given(requests=st.lists(SENDS, max_size=12))
async def test_each_email_of_a_batch_is_accepted_or_refused_on_its_own(
    ledger: Ledger, requests: list[SendEmailRequest]
) -> None:
    assert len(await ledger.send_many(BatchSendEmailsRequest(requests=requests))) == len(requests)


@WHOLE
async def test_of_a_thousand_emails_good_and_bad_each_gets_its_own_answer(ledger: Ledger, world: World) -> None:
    requests = [email_request(f"one of 1000: {n}", to=["@"] if n % 3 == 0 else ["ada@example.com"]) for n in range(999)]
    requests.append(email_request("one of 1000: 1"))
    results = await ledger.send_many(BatchSendEmailsRequest(requests=requests))
    assert [result.HasField("error") for result in results] == [n % 3 == 0 for n in range(999)] + [False]
    assert results[999].response.deduplicated
    rows = await world.pool.fetch("SELECT id::text, idempotency_key FROM email_send_log")
    keys = {row["id"]: row["idempotency_key"] for row in rows}
    for request, result in zip(requests, results, strict=True):
        if result.HasField("error"):
            assert bad_fields(result.error) == ["to[0]"]
        else:
            assert keys[result.response.email_id] == request.idempotency_key


@WHOLE
async def test_one_email_more_than_a_thousand_is_refused_with_all_the_others(ledger: Ledger, caller: Caller) -> None:
    batch = BatchSendEmailsRequest(requests=[email_request(f"one of 1001: {n}") for n in range(1001)])
    assert bad_fields(await caller.call("BatchSendEmails", batch)) == ["requests"]
    await ledger.assert_no_more_than_accepted()


@WHOLE
async def test_an_ordinary_client_can_read_what_is_wrong_with_each_of_a_thousand_emails(ledger: Ledger) -> None:
    worst = email_request("", to=["\x00"] * 50, reply_to=["\x00"] * 50, tags={"\x00" * n: "" for n in range(41, 99)})
    worst.headers.update({"\x00" * number: "\n" for number in range(41, 91)})
    results = await ledger.send_many(
        BatchSendEmailsRequest(requests=[worst, email_request("beside it"), *[worst] * 998])
    )
    assert [result.HasField("error") for result in results] == [True, False] + [True] * 998


MEGABYTE = 1024 * 1024
LARGE = {
    "a body that just fits": (39.9, 0.0, True),
    "a body over the limit": (41.0, 0.0, False),
    "a file that just fits": (0.0, 29.9, True),
    "a file that does not fit after base64": (0.0, 30.1, False),
    "a file over the limit": (0.0, 41.0, False),
}


@WHOLE
@pytest.mark.parametrize("what", LARGE)
async def test_an_email_may_have_forty_megabytes_after_base64(ledger: Ledger, what: str) -> None:
    body, file, fits = LARGE[what]
    request = email_request(what, html="x" * int(body * MEGABYTE) or "x")
    if file:
        request.attachments.add(filename="large.bin", content=b"\xff" * int(file * MEGABYTE))
    accepted = len(ledger.accepted)
    await ledger.send(request)
    assert len(ledger.accepted) == accepted + fits


VALID = email_request("raw").SerializeToString()
MANY = {
    "unknown fields": VALID + b"\xf8\x7f\x01" * (8 * MEGABYTE),
    "unknown fields of the content": VALID + b"\x4a\x80\x80\x80\x06" + b"\xfa\x7f\x01x" * (3 * MEGABYTE),
    "attachments": VALID + b"\x62\x00" * (3 * MEGABYTE),
    "recipients": VALID + b"\x2a\x00" * (5 * MEGABYTE),
    "headers": VALID + b"".join(b"\x5a\x09\x0a\x07%07d" % number for number in range(MEGABYTE // 2)),
}


@WHOLE
@pytest.mark.parametrize("what", MANY)
async def test_a_request_of_millions_of_parts_is_refused_within_seconds(ledger: Ledger, what: str) -> None:
    refused, began = ledger.refused, time.monotonic()
    await ledger.send(MANY[what])
    assert ledger.refused == refused + 1
    assert time.monotonic() - began < 8


def nested(depth: int) -> bytes:
    """A template whose variables lie in each other."""
    value = b""
    for _ in range(depth):
        value = field(5, field(1, field(1, b"x") + field(2, value)))
    return field(10, field(2, field(1, field(1, b"x") + field(2, value))))


RAW = st.one_of(
    st.binary(max_size=300),
    broken(VALID),
    st.builds(lambda tag, text: VALID + field(tag, text), st.integers(1, 15), st.just(b"a\xff\xfe")),
    st.builds(lambda tag, data: VALID + field(tag, data), st.integers(1, 20), st.binary(max_size=30)),
    st.builds(
        lambda number, tail: VALID + field(number, field(1, tail)),
        st.sampled_from([9, 10, 11, 12, 13]),
        TEXTS.map(str.encode),
    ),
    st.sampled_from([10, 40, 1000]).map(lambda depth: VALID + nested(depth)),
    st.sampled_from(
        [b"\xff" * 20, b"\x0a\xff\xff\xff\xff\x0f", b"\x00\x01", b"\x0b" * 1000, b"\x0f", b"\x7a\x02\x08\xff"]
    ),
)


@WHOLE
@examples(250)
@given(raw=RAW)
async def test_bytes_that_are_no_request_are_refused_with_words(ledger: Ledger, raw: bytes) -> None:
    await ledger.send(raw)


@WHOLE
@examples(80)
@given(raws=st.lists(RAW, max_size=3), tail=st.binary(max_size=20))
async def test_bytes_that_are_no_batch_are_refused_with_words(ledger: Ledger, raws: list[bytes], tail: bytes) -> None:
    await ledger.send_many(b"".join(field(1, raw) for raw in raws) + tail)


IDS = st.one_of(
    TEXTS,
    st.uuids().map(str),
    st.sampled_from(
        [str(uuid.UUID(int=0)), "0" * 32, "{" + "f" * 32 + "}", "urn:uuid:" + "0" * 32, "\uff11" * 32, "_" * 32]
    ),
    st.sampled_from(["x" * 257, "x" * MEGABYTE, "\U0010ffff" * 1000, "-" * 36]),
)
LOOKUPS = st.one_of(
    IDS.map(lambda text: GetEmailRequest(email_id=text).SerializeToString()),
    IDS.map(lambda text: GetEmailRequest(idempotency_key=text).SerializeToString()),
    st.builds(lambda number: field(number, b"\xff"), st.integers(1, 3)),
    st.binary(max_size=60),
    broken(GetEmailRequest(email_id=str(uuid.UUID(int=1))).SerializeToString()),
)


@WHOLE
@examples(150)
@given(lookup=LOOKUPS)
async def test_an_email_that_is_none_is_neither_found_nor_cancelled(
    ledger: Ledger, caller: Caller, lookup: bytes
) -> None:
    answer = await caller.call("GetEmail", lookup)
    if isinstance(answer, Status):
        assert_tells_why(answer)
    await ledger.cancel(lookup)


@WHOLE
async def test_an_email_is_cancelled_once_however_its_id_is_written(ledger: Ledger, world: World) -> None:
    for write in (str.upper, "{{{}}}".format, "urn:uuid:{}".format, lambda text: text.replace("-", "")):
        cancelled = len(ledger.cancelled)
        request = email_request(f"cancelled {cancelled}")
        await ledger.send(request)
        email_id = (
            await world.dispatch().GetEmail(GetEmailRequest(idempotency_key=request.idempotency_key))
        ).email.email_id
        for _ in range(2):
            await ledger.cancel(CancelEmailRequest(email_id=write(email_id)))
        assert len(ledger.cancelled) == cancelled + 1


@WHOLE
async def test_every_accepted_email_can_be_read(ledger: Ledger) -> None:
    await ledger.send(email_request("read"))
    await ledger.assert_readable()


REFUSED_BY_THE_SANDBOX = {f"name {ODD.index(bracket)}" for bracket in "<>"}
"""Quoted names with angle brackets: it is stricter than the standard."""


async def test_every_accepted_email_can_be_delivered(ledger: Ledger, world: World) -> None:
    await ledger.send(email_request("delivered"))
    await ledger.send(email_request("never expires", expire_at={"seconds": 253_402_300_799, "nanos": 999_999_999}))
    await world.start("consumer", SRED_EMAIL_RESEND_BATCH_SIZE="20")

    async def all_ended() -> bool:
        return not await world.pool.fetchval("SELECT count(*) FROM email_send_log WHERE ended_at IS NULL")

    await until(all_ended, "every email has ended", timeout_s=30)
    rows = await world.pool.fetch("SELECT subject, status FROM email_send_log WHERE status <> 'CANCELLED'")
    sent = [row["subject"] for row in rows if row["status"] == "SUCCESS"]
    assert {row["subject"] for row in rows} - {*sent} <= REFUSED_BY_THE_SANDBOX
    assert len(sent) == len(world.sandbox.provider.mailbox)
    await world.assert_redis_is_clean()
    Logs(world).assert_all_is_well()
