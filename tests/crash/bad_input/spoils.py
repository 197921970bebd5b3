"""What may be wrong with what stands in Redis."""

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from crash.bad_input.entries import SOMEBODY, message
from sred_email_core.queue.keys import GROUP, Lane, QueueKeys

Spoil = Callable[[Any, QueueKeys], Awaitable[Any]]
"""Of a Redis."""
SpoilOfEmail = Callable[[Any, QueueKeys, str], Awaitable[Any]]
"""Of what a Redis holds of an email."""

HINTS = [b"", b"x", b"-1 0 0", b"9" * 400 + b" 0 0", b"0 0 " + b"9" * 400, b"1e9 2 0", b"\xff", b"0 0 0 0", b"0x10 0 0"]
SCORES = [0.0, -1.0, 1e12, 1e17, 1e300, float("inf"), float("-inf")]
MEMBERS = [b"", b"\xff\x00", b"x" * 10_000, b"no id", b"\xef\xbc\x91" * 36]
MESSAGES = [b"", b"\xff\n\x00", b"0 0 0\n" + message()]
PLACES = [
    *("", "\x00", "retry:2", "retry:9", "send:", "send:x", "send:" + SOMEBODY),
    *("stream:2:1-1", "stream:9:0-0", "stream:2:x", "stream:2:" + "9" * 30 + "-1"),
]

IN_RETRY_SET: dict[str, SpoilOfEmail] = {
    "parked as garbage": lambda r, k, i: r.hset(k.parked, i, b"\xff\n\xff"),
    "parked without a line feed": lambda r, k, i: r.hset(k.parked, i, b"0 0 0"),
    "parked as another": lambda r, k, i: r.hset(k.parked, i, b"0 0 0\n" + message()),
    "parked without its kind": lambda r, k, i: r.hset(k.parked, i, b"\n" + message(i, kind=0)),
    "not parked": lambda r, k, i: r.hdel(k.parked, i),
    "no place": lambda r, k, i: r.hdel(k.places, i),
    "no such lane": lambda r, k, i: r.hset(k.places, i, "retry:7"),
    "in a send of its own": lambda r, k, i: r.hset(k.places, i, f"send:{i}"),
    "no member": lambda r, k, i: r.zrem(k.retry, i),
    "long due": lambda r, k, i: r.zadd(k.retry, {i: float("-inf")}),
}

STATE: dict[str, Spoil] = {
    "holds without end": lambda r, k: r.hset(k.dispatch, mapping={"set": "1e300", "until": "1e300"}),
    "holds of garbage": lambda r, k: r.hset(
        k.dispatch, mapping={"set": "\xff", "until": "soon", "served_since": "\xff"}
    ),
    "holds until never": lambda r, k: r.hset(k.dispatch, mapping={"set": "nan", "until": "inf", "served_since": "inf"}),
    "grants of garbage": lambda r, k: r.zadd(
        k.grants, {b"\xff": float("-inf"), "": float("inf"), "soon": 1e300, "1": -1}
    ),
    "an epoch of garbage": lambda r, k: r.set(k.epoch, b"\xff" * 1000),
    "an epoch of a sweep of nobody": lambda r, k: r.append(k.epoch, " sweep x"),
    "a doorbell full of garbage": lambda r, k: r.lpush(k.doorbell, *[b"\xff" * 100] * 1000),
    "consumers that are none": lambda r, k: r.zadd(
        k.consumers, {b"\xff": float("-inf"), b"\x00": float("inf"), b"": 5, b"x" * 10_000: 0}
    ),
    "members of the group that are none": lambda r, k: r.xgroup_createconsumer(
        k.stream(Lane.HIGH), GROUP, b"\xff \x00"
    ),
    "another group": lambda r, k: r.xgroup_create(k.stream(Lane.NORMAL), b"\xff", id="0"),
    "no group": lambda r, k: r.xgroup_destroy(k.stream(Lane.NORMAL), GROUP),
    "keys that are nobody's": lambda r, k: r.set(f"{k.prefix}:nobody", "x"),
}


def letters_index(real_id: bytes, real_entry: bytes) -> dict[bytes, bytes]:
    """An index of letters that are none, beside a real one: by garbage, and by ids that no letter has."""
    index = {b"": b"", b"\xff": b"\x00", b"x": b"1-1", b"y" * 10_000: b"z", real_id.upper(): real_entry}
    entries = [b"", b"\x00", b"x", b"1-1", real_entry]
    return index | {str(uuid.UUID(int=number)).encode(): entry for number, entry in enumerate(entries)}


async def replace_by_another_type(redis: Any, keys: QueueKeys, names: list[str]) -> None:
    """Let a list stand where something else is, or a string where a list is."""
    pipe = redis.pipeline(transaction=True)  # or the services would write it between the two
    for name in names:
        pipe.delete(name)
        _ = pipe.set(name, "x") if name == keys.doorbell else pipe.rpush(name, "x")
    await pipe.execute()


async def wrong_types_met(redis: Any) -> int:
    """How often Redis has answered that a key is of another type."""
    stats = await redis.info("errorstats")
    return int(stats.get("errorstat_WRONGTYPE", {"count": 0})["count"])
