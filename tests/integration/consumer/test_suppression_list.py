"""What operators see of the list of addresses that get no email, and do to it."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from redis.asyncio import Redis

from sred.email.v1 import email_pb2
from sred.email.v1 import operations_service_pb2 as pb
from sred_email_consumer.suppression_list import SuppressionList
from sred_email_consumer.suppressions_api import SuppressionCalls
from sred_email_core.addresses import digest_of
from sred_email_core.email_send_log.suppressions import SuppressionLog
from sred_email_core.errors import InvalidRequestError, NotSuppressedError, QueueUnavailableError
from sred_email_core.queue.keys import QueueKeys
from sred_email_core.queue.script_runner import ScriptRunner
from sred_email_core.queue.suppression_copy import SuppressionCopy


class FromHere:
    """As much of a call's context as the audit asks for."""

    def peer(self) -> str:
        """Where the call comes from."""
        return "ipv4:127.0.0.1:1"

    def invocation_metadata(self) -> tuple[tuple[str, bytes], ...]:
        """What it carries: nothing."""
        return ()


CONTEXT: Any = FromHere()
"""The calls ask nothing of it."""


class Operator:
    """Somebody who calls."""

    def __init__(self, pool: "asyncpg.Pool[Any]", redis: Redis) -> None:
        keys, log = QueueKeys(), SuppressionLog(pool)
        self.keys, self.redis = keys, redis
        self.copy = SuppressionCopy(log, ScriptRunner(redis, keys), keys)
        self.calls = SuppressionCalls(SuppressionList(log, self.copy))

    async def add(self, address: str, **fields: Any) -> email_pb2.Suppression:
        request = pb.AddSuppressionRequest(address=address, **fields)
        return (await self.calls.AddSuppression(request, CONTEXT)).suppression

    async def listed(self, **fields: Any) -> pb.ListSuppressionsResponse:
        return await self.calls.ListSuppressions(pb.ListSuppressionsRequest(**fields), CONTEXT)

    async def remove(self, address: str) -> None:
        await self.calls.RemoveSuppression(pb.RemoveSuppressionRequest(address=address), CONTEXT)


@pytest.fixture
def operator(pool: "asyncpg.Pool[Any]", redis: Redis) -> Operator:
    return Operator(pool, redis)


async def test_what_is_added_is_listed_and_in_force(operator: Operator) -> None:
    kept = await operator.add("Ada <ADA@Example.com>", reason=email_pb2.SUPPRESSION_REASON_COMPLAINED)
    assert (kept.address, kept.reason) == ("ada@example.com", email_pb2.SUPPRESSION_REASON_COMPLAINED)
    assert list((await operator.listed()).suppressions) == [kept]
    assert list((await operator.listed(address="ada@EXAMPLE.com")).suppressions) == [kept]
    assert list((await operator.listed(address="bob@example.com")).suppressions) == []
    assert await operator.copy.suppressed([digest_of("ada@example.com")])


async def test_to_add_again_replaces_reason_and_expiry(operator: Operator) -> None:
    first = await operator.add("ada@example.com", reason=email_pb2.SUPPRESSION_REASON_BOUNCED)
    until = Timestamp()
    until.FromDatetime(datetime.now(UTC) + timedelta(days=1))
    again = await operator.add("ada@example.com", expires_at=until)
    assert again.reason == email_pb2.SUPPRESSION_REASON_MANUAL
    assert again.expires_at == until
    assert again.created_at == first.created_at
    assert len((await operator.listed()).suppressions) == 1


async def test_pages_come_in_order_and_end(operator: Operator) -> None:
    addresses = [f"{name}@example.com" for name in "dacbe"]
    for address in addresses:
        await operator.add(address)
    seen: list[str] = []
    token = ""
    while True:
        page = await operator.listed(page_size=2, page_token=token)
        seen += [s.address for s in page.suppressions]
        token = page.next_page_token
        if not token:
            break
    assert seen == sorted(addresses)


async def test_what_is_removed_is_free_at_once(operator: Operator) -> None:
    await operator.add("ada@example.com")
    await operator.remove("Ada@example.com")
    assert not await operator.copy.suppressed([digest_of("ada@example.com")])
    with pytest.raises(NotSuppressedError):
        await operator.remove("ada@example.com")


async def test_while_redis_is_away_a_change_is_kept_and_comes_into_force_by_a_repeat(operator: Operator) -> None:
    await operator.redis.set(operator.keys.suppressed, "another type")  # what Redis refuses is as if it were away
    with pytest.raises(QueueUnavailableError):
        await operator.add("ada@example.com")
    await operator.redis.delete(operator.keys.suppressed)
    await operator.add("ada@example.com")
    assert await operator.copy.suppressed([digest_of("ada@example.com")])


BAD: list[tuple[str, Callable[[Operator], Awaitable[object]]]] = [
    ("address", lambda o: o.add("")),
    ("address", lambda o: o.add("no address")),
    ("address", lambda o: o.add("a@example.com, b@example.com")),
    ("reason", lambda o: o.add("a@example.com", reason=99)),
    ("expires_at", lambda o: o.add("a@example.com", expires_at=Timestamp(seconds=1))),
    ("expires_at", lambda o: o.add("a@example.com", expires_at=Timestamp(seconds=1 << 60))),
    ("expires_at", lambda o: o.add("a@example.com", expires_at=Timestamp(nanos=-5))),
    ("address", lambda o: o.listed(address="nobody")),
    ("page_size", lambda o: o.listed(page_size=-1)),
    ("page_token", lambda o: o.listed(page_token="forged")),
    ("page_token", lambda o: o.listed(page_token="WzEsMl0=")),
    ("page_token", lambda o: o.listed(page_token="x" * 5000)),
    ("address", lambda o: o.remove("")),
]


@pytest.mark.parametrize(("field", "call"), BAD)
async def test_a_bad_request_is_told_which_field(
    operator: Operator, field: str, call: Callable[[Operator], Awaitable[object]]
) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        await call(operator)
    assert [violation.field for violation in refused.value.violations] == [field]
    assert list((await operator.listed()).suppressions) == []


async def test_a_token_of_one_list_is_none_of_another(operator: Operator) -> None:
    for name in "ab":
        await operator.add(f"{name}@example.com")
    token = (await operator.listed(page_size=1)).next_page_token
    with pytest.raises(InvalidRequestError):
        await operator.listed(address="a@example.com", page_token=token)
