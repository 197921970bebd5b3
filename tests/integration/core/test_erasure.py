"""A person is forgotten, on a real PostgreSQL."""

import json
import uuid
from typing import Any

import pytest
from integration.core.log_builder import LONG, NO_TIME, LogWorld, accepted, malformed

from sred.email.v1.stream_message_pb2 import EmailContent
from sred_email_core.addresses import digest_of
from sred_email_core.email_send_log.audit import AuditLog, Deed
from sred_email_core.email_send_log.erasure import END, START, Erased, ErasureLog
from sred_email_core.email_send_log.records import FailureAction
from sred_email_core.email_send_log.suppressions import SuppressionLog
from sred_email_core.email_send_log.webhook_events import WebhookEvent, WebhookLog
from sred_email_core.encryption.key_ring_file import KeyRingFile

ADA = "ada@example.com"
TABLES = ("email_send_log", "email_sends", "email_send_members", "email_dead_letters", "email_events")
MORE_TABLES = ("email_webhook_events", "email_suppressions", "email_audit", "email_erasures")


class Eraser:
    """Erases Ada as the service does, page by page."""

    def __init__(self, world: LogWorld, **fields: Any) -> None:
        self.world = world
        self.log = ErasureLog(world.pool, KeyRingFile(None), **{"horizon": LONG, **fields})

    async def erase(self, *, page: int = 2) -> Erased:
        await self.log.erase_traces(ADA, deed=Deed("ERASE"))
        total, after = Erased(), START
        while after != END:
            last = await self.log.page_end(after, size=page)
            found = await self.log.addressed(ADA, after, last)
            done = await self.log.erase(found.ids, digest_of(ADA), in_copy=found.in_copy)
            await self.log.erase_words(ADA, after, last)
            total = Erased(
                total.erased + done.erased,
                total.deferred + done.deferred,
                total.cancelled + done.cancelled,
                total.letters + done.letters,
            )
            after = last
        return total

    async def finish(self) -> int:
        erased = 0
        for digest, ids in (await self.log.due(size=10)).items():
            erased += (await self.log.erase(ids, digest)).erased
        return erased

    async def assert_nothing_is_left(self) -> None:
        for table in (*TABLES, *MORE_TABLES):
            rows = await self.world.pool.fetch(f"SELECT to_jsonb(t)::text FROM {table} t")  # noqa: S608 - ours
            for (row,) in rows:
                text = row + "".join(
                    bytes.fromhex(v[2:]).decode("latin-1")
                    for v in json.loads(row).values()
                    if isinstance(v, str) and v.startswith("\\x")
                )
                assert ADA not in text.lower(), table


@pytest.fixture
def eraser(world_of_log: LogWorld) -> Eraser:
    """What erases Ada."""
    return Eraser(world_of_log)


def content(**fields: Any) -> bytes:
    return EmailContent(**{"to": [ADA], "subject": "Hello Ada", "text": "Dear Ada", **fields}).SerializeToString()


async def to_ada(world: LogWorld, **fields: Any) -> str:
    values = {"recipients": ["Ada <ADA@Example.com>"], "subject": "Hello Ada", "message": content(), **fields}
    (email_id,) = await world.accept(**values)
    return email_id


async def test_an_email_that_was_sent_keeps_neither_address_nor_subject(world_of_log: LogWorld, eraser: Eraser) -> None:
    email_id = await to_ada(world_of_log, recipients=["Ada <ADA@Example.com>", "bob@example.com"])
    claim = await world_of_log.claimed(email_id)
    await world_of_log.log.record_answers([accepted(claim.send_id, email_id)])
    assert (await eraser.erase()).erased == 1
    row = await world_of_log.email(email_id)
    assert (row["recipients"], row["subject"], row["status"]) == (["erased", "bob@example.com"], "", "SUCCESS")
    assert (await world_of_log.events(email_id))[-1] == "ERASED"
    await eraser.assert_nothing_is_left()
    assert (await eraser.erase()).erased == 0


async def test_an_email_that_waits_is_cancelled(world_of_log: LogWorld, eraser: Eraser) -> None:
    email_id = await to_ada(world_of_log)
    others = await world_of_log.accept(5)
    assert (await eraser.erase()).cancelled == [email_id]
    row = await world_of_log.email(email_id)
    assert (row["status"], row["message"], row["recipients"]) == ("CANCELLED", None, ["erased"])
    assert {(await world_of_log.email(other))["status"] for other in others} == {"QUEUED"}
    await eraser.assert_nothing_is_left()


async def test_an_address_that_is_only_copied_to_is_found(world_of_log: LogWorld, eraser: Eraser) -> None:
    hidden = content(to=["bob@example.com"], bcc=["Ada@Example.COM"])
    copied = await to_ada(world_of_log, recipients=["bob@example.com"], message=hidden)
    spoken_of = await to_ada(
        world_of_log, recipients=["bob@example.com"], message=content(to=["bob@example.com"], text=f"Write to {ADA}")
    )
    assert (await eraser.erase()).cancelled == [copied]
    assert (await world_of_log.email(copied))["recipients"] == ["bob@example.com"]
    assert (await world_of_log.email(spoken_of))["status"] == "QUEUED"


async def test_what_may_have_been_accepted_is_erased_when_its_send_has_ended(
    world_of_log: LogWorld, eraser: Eraser
) -> None:
    email_id = await to_ada(world_of_log)
    await world_of_log.retrying(email_id)
    before = await world_of_log.snapshot()
    done = await eraser.erase()
    assert (done.erased, done.deferred) == (0, 1)
    assert await world_of_log.snapshot() == before
    assert await eraser.finish() == 0
    claim = await world_of_log.repeated(email_id)
    await world_of_log.log.record_answers([accepted(claim.send_id, email_id)])
    assert await eraser.finish() == 1
    assert await world_of_log.count("email_erasures") == 0
    await eraser.assert_nothing_is_left()


async def test_a_dead_letter_goes_with_its_email(world_of_log: LogWorld, eraser: Eraser) -> None:
    email_id = await to_ada(world_of_log)
    letters = await world_of_log.buried(email_id, error=f"no answer about {ADA}")
    assert (await eraser.erase()).letters == [letters[email_id]]
    letter = await world_of_log.letter(letters[email_id])
    assert (letter["resolution"], letter["error"]) == ("DISCARDED", "erased")
    assert await world_of_log.count("email_sends") == await world_of_log.count("email_send_members") == 0
    await eraser.assert_nothing_is_left()


async def test_a_dead_batch_that_can_be_repeated_stays_whole_until_its_horizon(world_of_log: LogWorld) -> None:
    email_id, (other,) = await to_ada(world_of_log), await world_of_log.accept()
    await world_of_log.buried(email_id, other)
    assert (await Eraser(world_of_log).erase()).deferred == 1
    assert (await world_of_log.email(email_id))["message"] is not None
    assert await Eraser(world_of_log).finish() == 0
    assert await Eraser(world_of_log, horizon=NO_TIME).finish() == 1
    assert (await world_of_log.email(other))["message"] == b"message"
    await Eraser(world_of_log).assert_nothing_is_left()


async def test_errors_that_name_the_address_are_forgotten_also_of_emails_to_others(
    world_of_log: LogWorld, eraser: Eraser
) -> None:
    claim = await world_of_log.claimed(*await world_of_log.accept(2))
    await world_of_log.recorded(claim, FailureAction.RELEASE, error=f"bad address: {ADA.upper()}")
    await world_of_log.log.record_malformed(malformed(raw_entry=f"to {ADA}".encode(), error="no email"))
    await eraser.erase()
    await eraser.assert_nothing_is_left()


async def test_a_suppression_stays_in_force_as_a_digest(world_of_log: LogWorld, eraser: Eraser) -> None:
    suppressions, webhooks = SuppressionLog(world_of_log.pool), WebhookLog(world_of_log.pool)
    told = WebhookEvent("evt", "BOUNCED", uuid.uuid4(), None, None, f"550 {ADA}", ADA, "BOUNCED")
    await webhooks.store([told])
    await eraser.erase()
    await eraser.assert_nothing_is_left()
    (kept,) = await suppressions.page(address=ADA, after=None, size=10)
    assert (kept.address, kept.reason) == (f"erased:{digest_of(ADA).hex()}", "BOUNCED")
    assert await suppressions.free(ADA)


async def test_the_audit_tells_of_an_erasure_also_where_nothing_was_kept(
    world_of_log: LogWorld, eraser: Eraser
) -> None:
    await eraser.erase()
    (entry,) = await AuditLog(world_of_log.pool).page(before=None, size=10)
    assert (entry.action, entry.count) == ("ERASE", 0)
