"""Whatever a consumer is asked by operators: it answers, or says what is wrong."""

import base64
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st

from crash.bad_input.calls import OPERATIONS, Caller, assert_tells_why, bad_fields
from crash.bad_input.lasting_world import Logs, lasting_world
from crash.bad_input.requests import ADDRESSES, INT32, NANOS, SECONDS, TEXTS
from crash.bad_input.wire import broken, examples, field
from sred.email.v1 import email_pb2
from sred.email.v1 import operations_service_pb2 as pb
from sred_email_core.queue.keys import Lane
from sred_email_local.engines import ValkeyServer
from sred_email_local.sandbox.rules import Rule
from support.clean_databases import CleanDatabases
from support.world import World, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

REJECTED, MALFORMED = 4, 3
MAY_SAY = ("INVALID_ARGUMENT", "NOT_FOUND")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(
    tmp_path_factory: pytest.TempPathFactory, databases: CleanDatabases, valkey: ValkeyServer
) -> AsyncIterator[World]:
    """A pair of services and some dead letters; whatever is replayed is rejected again."""
    async with lasting_world(tmp_path_factory.mktemp("operations"), databases, valkey) as lasting:
        await lasting.start_pair()
        lasting.rules(Rule(status=422, name="validation_error"))
        for number in range(REJECTED):
            await lasting.send(f"rejected {number}")
        for number in range(MALFORMED):
            await lasting.redis.xadd(lasting.keys.stream(Lane.LOW), {"email_id": f"no id {number}"})
        await until(lambda: all_letters_are_open(lasting), "the dead letters are there")
        yield lasting


async def all_letters_are_open(world: World) -> bool:
    """Whether nothing is under way: each letter is there, once."""
    is_open = await world.pool.fetchval("SELECT count(*) FROM email_dead_letters WHERE resolved_at IS NULL")
    assert is_open <= REJECTED + MALFORMED
    return bool(is_open == REJECTED + MALFORMED)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def caller(world: World) -> AsyncIterator[Caller]:
    """A client of the consumer."""
    client = Caller(world.services[1].address, OPERATIONS)
    yield client
    await client.close()


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def all_is_well(world: World) -> AsyncIterator[None]:
    """After each test the processes live, and each dead letter is there or there again."""
    yield
    await until(lambda: all_letters_are_open(world), "the dead letters are there again")
    Logs(world).assert_all_is_well()


def token(*parts: object) -> str:
    """A page token that says so."""
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()


ID = str(uuid.UUID(int=1))
ODD_TIMES: list[Any] = [
    *("", "now", "2026-01-01", "2026-01-01T00:00:00", "2026-W01", "\ud800", "\x00", None, True, 5, 1e300, float("nan")),
    *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999+00:00", "9999-12-31T23:59:59-23:59", [], {}),
]
TIMES = st.sampled_from(ODD_TIMES)
TOKENS = st.one_of(
    TEXTS,
    st.binary(max_size=40).map(lambda data: base64.urlsafe_b64encode(data).decode()),
    st.builds(token, TIMES, st.one_of(TEXTS, st.sampled_from([ID, None, 5, [], ID.upper(), "{" + ID + "}"]))),
    st.sampled_from(
        [token(), token(1), token(1, 2, 3), "W" * 400, "x" * 100_000, token([[[[]]]] * 50, ID), "bnVsbA=="]
    ),
    st.just(base64.urlsafe_b64encode(b"[" * 300).decode()),
)
LISTS = st.builds(
    pb.ListDeadLettersRequest, reason=INT32, kind=INT32, page_size=INT32, page_token=TOKENS, error_group=TEXTS
)
FINE_LISTS = st.builds(
    pb.ListDeadLettersRequest,
    reason=st.integers(0, 5),
    error_group=st.one_of(st.none(), st.sampled_from(["", "x" * 200, "\x00"])),
    page_size=st.sampled_from([-(2**31), -1, 0, 1, 1000, 2**31 - 1]),
    page_token=st.one_of(st.just(""), TOKENS),
)


@examples(200)
@given(request=st.one_of(LISTS, FINE_LISTS))
async def test_a_list_is_a_page_or_says_what_was_wrong_with_the_question(caller: Caller, request: Any) -> None:
    answer = await caller.call("ListDeadLetters", request, allowed=MAY_SAY)
    if isinstance(answer, Status):
        assert_tells_why(answer)
    else:
        assert len(answer.dead_letters) <= REJECTED + MALFORMED
        assert request.page_size >= 0


async def test_a_page_token_that_is_none_of_ours_is_refused_or_is_the_start_of_a_page(caller: Caller) -> None:
    odd_ids: list[Any] = [ID, ID.upper(), None, 5, []]
    for time in ODD_TIMES:
        for last_id in odd_ids:
            request = pb.ListDeadLettersRequest(page_token=token(time, last_id))
            answer = await caller.call("ListDeadLetters", request, allowed=MAY_SAY)
            if isinstance(answer, Status):
                assert bad_fields(answer) == ["page_token"]


async def test_pages_of_any_size_tell_of_each_letter_once(caller: Caller) -> None:
    for size in (1, 2, 6, 7, 8, 2**31 - 1):
        found, page_token = [], ""
        while True:
            request = pb.ListDeadLettersRequest(page_size=size, page_token=page_token)
            page = await caller.call("ListDeadLetters", request)
            found += [letter.dead_letter_id for letter in page.dead_letters]
            page_token = page.next_page_token
            if not page_token:
                break
        assert len(found) == len(set(found)) == REJECTED + MALFORMED


IDS = st.lists(st.one_of(TEXTS, st.uuids().map(str), st.sampled_from(["0" * 32, "{" + ID + "}", "_" * 32])), max_size=5)


@st.composite
def replays(draw: Any) -> pb.ReplayDeadLettersRequest:
    """Replays of letters that are not there, of none, or of more than there are."""
    request = pb.ReplayDeadLettersRequest(limit=draw(INT32), include_outcome_unknown=draw(st.booleans()))
    match draw(st.sampled_from(["ids", "none", "not all", "reason", "malformed", "group"])):
        case "ids":
            request.ids.values.extend(draw(IDS))
            request.ids.SetInParent()
        case "not all":
            request.all = False
        case "group":
            request.group.reason = draw(INT32)
            request.group.error_group = draw(TEXTS)
            request.failed_until.seconds = draw(SECONDS)
        case "reason":
            request.reason = draw(INT32.filter(lambda reason: reason != 1))
        case "malformed":
            request.reason, request.limit = email_pb2.DEAD_LETTER_REASON_MALFORMED, draw(st.integers(0, 3))
    return request


@examples(200)
@given(request=replays())
async def test_a_replay_of_what_is_not_there_replays_nothing(caller: Caller, request: Any) -> None:
    answer = await caller.call("ReplayDeadLetters", request, allowed=MAY_SAY)
    if isinstance(answer, Status):
        assert_tells_why(answer)
    else:
        assert answer.replayed == 0
        assert request.limit >= 0


async def test_a_letter_is_replayed_however_its_id_is_written(caller: Caller, world: World) -> None:
    email_letters = "SELECT id::text FROM email_dead_letters WHERE email_id IS NOT NULL AND resolved_at IS NULL"
    for write in (str.upper, "{{{}}}".format, "urn:uuid:{}".format):
        written = write(await world.pool.fetchval(email_letters))
        twice = pb.DeadLetterIds(values=[written, written])
        answer = await caller.call("ReplayDeadLetters", pb.ReplayDeadLettersRequest(ids=twice))
        assert (answer.replayed, answer.skipped, answer.remaining) == (1, 0, 0)
        await until(lambda: all_letters_are_open(world), "it is rejected again")


async def test_of_a_hundred_thousand_bad_ids_some_are_named(caller: Caller) -> None:
    ids = pb.DeadLetterIds(values=["\x00 no id"] * 100_000)
    refused = await caller.call("ReplayDeadLetters", pb.ReplayDeadLettersRequest(ids=ids), allowed=MAY_SAY)
    assert bad_fields(refused) == [f"ids.values[{index}]" for index in range(50)]


OTHERS = ADDRESSES.filter(lambda address: "ada@" not in address.lower())
"""The emails of this world go to ada@example.com: that address stays free."""
STAMPS = st.one_of(st.none(), st.builds(Timestamp, seconds=SECONDS, nanos=NANOS))
SUPPRESSIONS = st.one_of(
    st.builds(pb.AddSuppressionRequest, address=OTHERS, reason=INT32, expires_at=STAMPS),
    st.builds(pb.AddSuppressionRequest, address=OTHERS, reason=st.integers(0, 3), expires_at=STAMPS),
    st.builds(pb.RemoveSuppressionRequest, address=OTHERS),
    st.builds(pb.ListSuppressionsRequest, address=OTHERS, page_size=INT32, page_token=TOKENS),
    st.builds(pb.ListSuppressionsRequest, page_size=st.sampled_from([-1, 0, 1, 2**31 - 1]), page_token=TOKENS),
)


@examples(200)
@given(request=SUPPRESSIONS)
async def test_whatever_is_asked_of_the_suppressions_is_done_or_refused_with_words(
    caller: Caller, request: Any
) -> None:
    method = type(request).__name__.removesuffix("Request")
    answer = await caller.call(method, request, allowed=MAY_SAY)
    if isinstance(answer, Status):
        assert_tells_why(answer)
    elif method == "AddSuppression":
        listed = await caller.call("ListSuppressions", pb.ListSuppressionsRequest(address=request.address))
        assert list(listed.suppressions) == [answer.suppression]


METHODS = [
    *("GetQueueStats", "ListDeadLetters", "ReplayDeadLetters", "PauseDelivery", "ResumeDelivery"),
    *("ListSuppressions", "AddSuppression", "RemoveSuppression", "GetEmailTimeline"),
    *("GetDeadLetter", "ListDeadLetterGroups", "ResolveDeadLetters", "DiscardDeadLetters"),
    *("EraseRecipient", "ListAuditEntries"),
]
RAW = st.one_of(
    st.binary(max_size=60),
    st.builds(field, st.integers(4, 20), st.binary(max_size=20)),
    broken(pb.ListDeadLettersRequest(page_size=5, page_token=token("2026-01-01", ID)).SerializeToString()),
    broken(pb.ReplayDeadLettersRequest(ids=pb.DeadLetterIds(values=[ID]), limit=3).SerializeToString()),
    st.sampled_from([b"\xff" * 20, b"\x0b" * 1000, b"\x22\x02\xff\xfe", b"\x0a\x04\x0a\x02\xff\xfe"]),
)


@examples(150)
@given(method=st.sampled_from(METHODS), raw=RAW.filter(lambda raw: b"\x10\x01" not in raw and b"\x18\x01" not in raw))
async def test_bytes_that_are_no_question_are_refused_with_words(caller: Caller, method: str, raw: bytes) -> None:
    answer = await caller.call(method, raw, allowed=MAY_SAY)
    if isinstance(answer, Status):
        assert_tells_why(answer)


async def test_every_call_of_the_contract_is_there(caller: Caller) -> None:
    assert sorted(METHODS) == sorted(m.name for m in OPERATIONS.methods)
    for method in METHODS:
        await caller.call(method, b"", allowed=MAY_SAY)


@pytest.mark.parametrize("until_", ["", "soon", "inf", "-inf", "nan", "1e300", "0x10", "-1", "\ud7ff", "1" * 400])
async def test_the_queue_is_told_whatever_redis_says_of_the_state(caller: Caller, world: World, until_: str) -> None:
    await caller.call("ResumeDelivery", b"")  # another test may have paused it
    for state in (b"PAUSED", b"", b"\xff", b"RUNNING_AWAY", b"UNSPECIFIED"):
        await world.redis.hset(world.keys.dispatch, mapping={"until": until_, "state": state, "reason": b"\xff\x00"})
        stats = await caller.call("GetQueueStats", b"")
        assert stats.dispatch_state == pb.DISPATCH_STATE_RUNNING or until_ in {"inf", "1e300"}
        assert stats.dead_letters == REJECTED + MALFORMED
    await world.redis.delete(world.keys.dispatch)
