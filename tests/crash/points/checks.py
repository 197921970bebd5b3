"""What must hold when the system has come to rest, whatever happened before."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crash.points.system import System
from support.world import ENDED

if TYPE_CHECKING:
    import asyncpg

_STATE = """
SELECT e.id::text, e.subject, e.status, e.ended_at IS NOT NULL AS ended, e.message IS NOT NULL AS has_message,
       e.last_error, d.id::text AS letter, d.reason, d.may_have_been_accepted,
       (SELECT count(*) FROM email_events v WHERE v.email_id = e.id AND v.what = 'SENT') AS sent_events,
       (SELECT count(*) FROM email_events v WHERE v.email_id = e.id AND v.what = 'ACCEPTED') AS accepted_events,
       EXISTS (SELECT FROM email_events v WHERE v.email_id = e.id AND v.what NOT IN ('ACCEPTED', 'CANCELLED')
               AND v.at < e.send_at) AS too_early
FROM email_send_log e
LEFT JOIN email_dead_letters d ON d.email_id = e.id AND d.resolved_at IS NULL
"""


@dataclass(frozen=True, slots=True)
class AtRest:
    """An email when all has ended.

    Attributes:
        deliveries: Emails that the provider made of it.
        reason: Of its open dead letter; None: it has none.
    """

    status: str
    deliveries: int
    reason: str | None


async def check_at_rest(system: System) -> Mapping[str, AtRest]:
    """Hold the four promises against what is there.

    Returns:
        What became of each email, by subject.

    Raises:
        AssertionError: One is broken; every fault that was found is named.
    """
    rows = await system.pool.fetch(_STATE)
    deliveries = {subject: len(ids) for subject, ids in system.provider.mailbox.by_subject().items()}
    faults = [fault for row in rows for fault in _faults_of(row, deliveries.get(row["subject"], 0))]
    in_log = {row["id"] for row in rows}
    faults += [
        f"{s}: was accepted as {i}, and is not in the log" for s, i in system.answered.items() if i not in in_log
    ]
    faults += await _faults_of_sends(system)
    faults += await _faults_in_redis(system)
    faults += await _faults_of_dead_letters(system)
    assert not faults, "\n".join(faults)
    return {r["subject"]: AtRest(r["status"], deliveries.get(r["subject"], 0), r["reason"]) for r in rows}


def check_logs(entries: Sequence[Mapping[str, Any]]) -> None:
    """Look for bugs in what was logged.

    Raises:
        AssertionError: There are errors. That a group is gone again while it was being made is none.
    """
    errors = [entry for entry in entries if entry["log_level"] in {"error", "critical"}]
    bugs = [entry for entry in errors if "NOGROUP" not in entry.get("reason", "")]
    assert not bugs, f"bugs were logged: {bugs}"


def _faults_of(row: "asyncpg.Record", deliveries: int) -> list[str]:
    """What is wrong with one email."""
    status, letter = row["status"], row["letter"]
    wrong = {
        f"is {status}, not at an end": status not in ENDED or not row["ended"],
        f"was delivered {deliveries} times": deliveries > 1,
        "is SUCCESS, and was not delivered": status == "SUCCESS" and deliveries == 0,
        f"is {status}, and was delivered": status in {"CANCELLED", "SUPPRESSED"} and deliveries > 0,
        "is EXPIRED and was delivered, and does not say so": status == "EXPIRED"
        and deliveries > 0
        and not row["last_error"],
        f"is FAILED ({row['reason']}) and was delivered, and its letter does not say so": status == "FAILED"
        and deliveries > 0
        and not row["may_have_been_accepted"],
        "is FAILED, and has no open dead letter": status == "FAILED" and letter is None,
        f"is {status}, and has an open dead letter": status != "FAILED" and letter is not None,
        f"is {status}, and its content is still there": status != "FAILED" and row["has_message"],
        "was sent before its time": row["too_early"],
        f"has {row['accepted_events']} events of acceptance": row["accepted_events"] != 1,
        f"is {status}, and has {row['sent_events']} events of sending": row["sent_events"] != (status == "SUCCESS"),
    }
    return [f"{row['subject']} {what}" for what, so in wrong.items() if so]


async def _faults_of_sends(system: System) -> list[str]:
    sends = await system.pool.fetch(
        "SELECT s.id, s.state FROM email_sends s WHERE s.state = 'OPEN' OR NOT EXISTS"
        " (SELECT FROM email_send_members m JOIN email_send_log e ON e.id = m.email_id"
        "  WHERE m.send_id = s.id AND e.status = 'FAILED')"
    )
    members = await system.pool.fetch(
        "SELECT m.email_id, m.send_id FROM email_send_members m WHERE NOT EXISTS"
        " (SELECT FROM email_sends s WHERE s.id = m.send_id)"
    )
    return [f"the send {s['id']} is left, {s['state']}" for s in sends] + [
        f"{m['email_id']} is left as a member of {m['send_id']}, which is gone" for m in members
    ]


async def _faults_in_redis(system: System) -> list[str]:
    keys, redis = system.keys, system.redis
    faults = [f"Redis: {name} holds {count}" for name, count in (await system.counts_in_redis()).items() if count]
    known = {value for name in dir(type(keys)) if isinstance(value := getattr(keys, name), str) and name != "prefix"}
    known |= set(keys.streams)
    found = {_text(key) for key in await redis.keys("*")}
    return faults + [f"Redis: nobody knows the key {key}" for key in sorted(found - known)]


async def _faults_of_dead_letters(system: System) -> list[str]:
    in_log = {
        str(r["id"]) for r in await system.pool.fetch("SELECT id FROM email_dead_letters WHERE resolved_at IS NULL")
    }
    entries: Any = await system.redis.xrange(system.keys.dlq)
    by_entry = {_text(entry): _text(fields[b"dead_letter_id"]) for entry, fields in entries}
    shown = Counter(by_entry.values())
    index = {_text(v): _text(k) for k, v in (await system.redis.hgetall(system.keys.letters)).items()}
    faults = [f"the dead letter {letter} is not in the DLQ" for letter in in_log - set(shown)]
    faults += [f"the DLQ shows {letter}, which is no open dead letter" for letter in set(shown) - in_log]
    faults += [f"the DLQ shows the dead letter {letter} {n} times" for letter, n in shown.items() if n > 1]
    if index != by_entry:
        faults.append("the DLQ and its index do not agree")
    return faults


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
