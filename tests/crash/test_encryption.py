"""Content that is encrypted where it is kept: nothing is lost or doubled, whatever becomes of the keys."""

import asyncio
import base64
import re
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from crash.interleavings.stage import Consumer, Stage
from sred.email.v1.email_pb2 import Attachment
from sred.email.v1.stream_message_pb2 import EmailContent, EmailStreamMessage
from sred_email_core.email_send_log.audit import Deed
from sred_email_core.errors import KeyMissingError
from sred_email_local.sandbox.rules import Action, Rule

ONE, TWO, THREE = (f"{name} {base64.b64encode(name.encode() * 32)[:43].decode()}=\n" for name in ("1", "2", "3"))
OTHER_ONE = ONE.replace("1 M", "1 N")
PROBE_S = 20


class Ring:
    """A file of keys."""

    def __init__(self, file: Path, *keys: str) -> None:
        self.file = file
        self.hold(*keys)

    def hold(self, *keys: str) -> None:
        """Let it hold these lines from now on."""
        self.file.write_text("".join(keys))


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    """The file that everybody has."""
    return Ring(tmp_path / "keys", ONE)


@pytest.fixture
def other_ring(tmp_path: Path) -> Ring:
    """The file of one consumer."""
    return Ring(tmp_path / "others", TWO)


def encrypting(stage: Stage, ring: Ring) -> None:
    """Let the ingress encrypt."""
    stage.ingress = stage.start_ingress(encryption_keys_file=ring.file)


async def state_of(consumer: Consumer) -> tuple[str, str]:
    dispatch = (await consumer.parts.operations.stats()).queue.dispatch
    return dispatch.state, dispatch.reason


async def all_that_is_kept(stage: Stage) -> bytes:
    """Everything in both engines that may hold content."""
    redis: Any = stage.redis
    kept = [row["message"] or b"" for row in await stage.pool.fetch("SELECT message FROM email_send_log")]
    kept += [await redis.dump(key) or b"" for key in await redis.keys()]
    for stream in (*stage.keys.streams, stage.keys.dlq):
        kept += [value for _, fields in await redis.xrange(stream) for value in fields.values()]
    kept += await redis.hvals(stage.keys.parked)
    return b"\n".join(kept)


async def finish(stage: Stage, consumer: Consumer) -> None:
    """Let time pass until all is sent, also what a busy machine let time out."""
    for _ in range(4):
        await stage.time_passes(PROBE_S)
        await consumer.work()
    assert await state_of(consumer) == ("RUNNING", "")


async def assert_all_sent_once(stage: Stage, ids: Sequence[str], subjects: Sequence[str]) -> None:
    for email_id, subject in zip(ids, subjects, strict=True):
        await stage.assert_sent_once(email_id, subject)
    await stage.assert_nothing_left()


async def test_what_emails_say_is_nowhere_to_be_read_and_arrives_as_it_was_written(stage: Stage, ring: Ring) -> None:
    encrypting(stage, ring)
    secret = "the-reset-link"
    fields = {"html": f"<p>{secret}</p>", "cc": ["carol@example.com"], "headers": {"X-Word": secret}}
    small = await stage.accept_one("small", **fields)
    large = await stage.accept_one("large", **{**fields, "html": f"<p>{secret}{'x' * 70_000}</p>"})
    attached = await stage.accept_one(
        "attached", attachments=[Attachment(filename="a.txt", content=secret.encode())], **fields
    )
    soon = Timestamp()
    soon.FromDatetime(datetime.now(UTC) + timedelta(minutes=30))
    await stage.accept_one("scheduled", send_at=soon, **fields)
    consumer = stage.consumer(encryption_keys_file=ring.file, resend_batch_size=1)
    stage.rules(
        Rule(status=422, name="validation_error", subject=re.compile("large")),
        Rule(status=429, name="rate_limit_exceeded", times=1),
    )
    kept = await all_that_is_kept(stage)
    assert await consumer.take()
    kept += await all_that_is_kept(stage)
    assert secret.encode() not in kept
    assert b"carol@example.com" not in kept
    await stage.time_passes(5)
    await consumer.work()
    kept = await all_that_is_kept(stage)
    assert await stage.redis.xlen(stage.keys.dlq) == 1
    assert secret.encode() not in kept
    assert (await stage.status(large)) == "FAILED"
    await stage.assert_sent_once(small, "small")
    await stage.assert_sent_once(attached, "attached")
    (sent,) = [delivery.email for delivery in stage.sandbox.provider.mailbox if delivery.email.subject == "small"]
    assert (sent.html, sent.cc) == (f"<p>{secret}</p>", ("carol@example.com",))


async def test_whoever_reads_the_stream_still_learns_which_email_it_is(stage: Stage, ring: Ring) -> None:
    encrypting(stage, ring)
    email_id = await stage.accept_one("plain to see")
    entries: Any = await stage.redis.xrange(stage.keys.streams[1])
    ((_, fields),) = entries
    message = EmailStreamMessage.FromString(fields[b"message"])
    assert message.email_id == email_id
    assert message.WhichOneof("body") == "encrypted"
    assert message.encrypted.key_id == "1"


async def test_the_same_key_is_the_same_email_whatever_keys_encrypt_it(stage: Stage, ring: Ring) -> None:
    email_id = await stage.accept_one("once")
    for keys in (ONE, TWO + ONE):
        ring.hold(keys)
        encrypting(stage, ring)
        assert await stage.accept_one("once") == email_id
    await stage.consumer(encryption_keys_file=ring.file).work()
    await assert_all_sent_once(stage, [email_id], ["once"])


@pytest.mark.parametrize("batch_size", [1, 100])
@pytest.mark.parametrize("keys", [TWO, TWO + OTHER_ONE, None], ids=["missing", "another", "off"])
async def test_a_key_that_is_missing_stops_delivery_burns_nothing_and_goes_on_by_itself(
    stage: Stage, ring: Ring, other_ring: Ring, keys: str | None, batch_size: int
) -> None:
    encrypting(stage, ring)
    subjects = [f"mail {n}" for n in range(20)]
    ids = await stage.accept(*subjects)
    other_ring.hold(keys or "")
    settings = {} if keys is None else {"encryption_keys_file": other_ring.file}
    consumer = stage.consumer(resend_batch_size=batch_size, **settings)
    for _ in range(10):
        await consumer.take()
        await stage.time_passes(PROBE_S)
    state, reason = await state_of(consumer)
    assert state == "MISCONFIGURED"
    assert f"consumer {consumer.process.name}: the encryption key " in reason
    assert '"1" is another one' in reason if keys == TWO + OTHER_ONE else '"1" is missing' in reason
    assert "SRED_EMAIL_ENCRYPTION_KEYS_FILE" in reason
    assert stage.requests == []
    assert {(await stage.row(i))["attempts"] for i in ids} == {0}
    assert {(await stage.row(i))["status"] for i in ids} == {"QUEUED"}
    assert await stage.pool.fetchval("SELECT count(*) FROM email_dead_letters") == 0
    if keys is None:
        consumer = stage.consumer(resend_batch_size=batch_size, encryption_keys_file=ring.file)
    other_ring.hold(TWO, ONE)
    await finish(stage, consumer)
    await assert_all_sent_once(stage, ids, subjects)


async def test_while_a_key_is_missing_an_email_that_another_key_reads_does_not_let_the_others_go_on(
    stage: Stage, ring: Ring, other_ring: Ring
) -> None:
    encrypting(stage, ring)
    needs_one = await stage.accept("first")  # alone, so that the next one to be tried is another's
    ring.hold(TWO, ONE)
    encrypting(stage, ring)
    needs_two = await stage.accept(*(f"later {n}" for n in range(5)))
    consumer = stage.consumer(encryption_keys_file=other_ring.file, resend_batch_size=1, consumer_slots=1)
    for _ in range(8):
        await consumer.take()
        assert (await state_of(consumer))[0] == "MISCONFIGURED"
        await stage.time_passes(PROBE_S)
    assert stage.requests == []
    other_ring.hold(TWO, ONE)
    await consumer.work()
    await assert_all_sent_once(stage, [*needs_one, *needs_two], ["first", *(f"later {n}" for n in range(5))])


async def test_delivery_goes_on_when_no_email_needs_the_missing_key_any_more(
    stage: Stage, ring: Ring, other_ring: Ring
) -> None:
    encrypting(stage, ring)  # an ingress with a wrong file
    wrong = await stage.accept("wrong 0", "wrong 1")
    encrypting(stage, other_ring)
    right = await stage.accept("right 0", "right 1")
    consumer = stage.consumer(encryption_keys_file=other_ring.file, consumer_slots=1)
    for cancelled in (None, *wrong):
        if cancelled:
            await stage.cancel(cancelled)
        await stage.time_passes(PROBE_S)
        if cancelled != wrong[-1]:
            await consumer.take()
            assert (await state_of(consumer))[0] == "MISCONFIGURED"
            assert stage.requests == []
    await finish(stage, consumer)
    await assert_all_sent_once(stage, right, ["right 0", "right 1"])


async def test_a_repeat_whose_key_is_missing_waits_and_is_then_the_same_request(
    stage: Stage, ring: Ring, other_ring: Ring
) -> None:
    encrypting(stage, ring)
    ids = await stage.accept("a", "b", "c")
    stage.rules(Rule(action=Action.ACCEPT_THEN_500, times=1))
    consumer = stage.consumer(encryption_keys_file=ring.file, consumer_slots=1)
    await consumer.take()
    assert len(stage.requests) == 1
    without = stage.consumer(encryption_keys_file=other_ring.file, consumer_slots=1)
    for _ in range(4):
        await stage.time_passes(PROBE_S)
        await without.parts.promoter.run_once()
        await without.take()
    assert (await state_of(without))[0] == "MISCONFIGURED"
    assert len(stage.requests) == 1
    assert {(await stage.row(i))["status"] for i in ids} == {"RETRYING"}
    other_ring.hold(ONE, TWO)
    await stage.time_passes(PROBE_S)
    await without.work()
    stage.assert_one_send("a", requests=2)
    await assert_all_sent_once(stage, ids, ["a", "b", "c"])


async def test_turning_it_on_rotating_and_turning_it_off_again_loses_and_doubles_nothing(
    stage: Stage, ring: Ring
) -> None:
    consumers = [stage.consumer(encryption_keys_file=ring.file, resend_batch_size=7) for _ in range(2)]
    subjects: list[str] = []
    ids: list[str] = []
    steps = (None, ONE, ONE + TWO, TWO + ONE, TWO + ONE, THREE + TWO + ONE, None)
    for step, keys in enumerate(steps):
        if keys is None:
            stage.ingress = stage.start_ingress()
        else:
            ring.hold(keys)
            encrypting(stage, ring)
        named = [f"step {step} mail {n}" for n in range(6)]
        subjects += named
        working = asyncio.gather(*(consumer.take() for consumer in consumers))
        ids += await stage.accept(*named)
        await working
        stage.rules(Rule(action=Action.ACCEPT_THEN_500, times=1))
        await asyncio.gather(*(consumer.take() for consumer in consumers))
        if step == 3:
            await stage.redis.flushdb()
            await stage.reconcile()
    stage.rules()
    for _ in range(5):
        await stage.time_passes(3700)
        await stage.reconcile()
        for consumer in consumers:
            await consumer.take_over()
    await assert_all_sent_once(stage, ids, subjects)


async def damage(stage: Stage, email_id: str) -> None:
    """Change one bit of what the log keeps."""
    message = bytearray((await stage.row(email_id))["message"])
    message[-1] ^= 1
    change = "UPDATE email_send_log SET message = $2 WHERE id = $1"
    await stage.pool.execute(change, uuid.UUID(email_id), bytes(message))


async def forget_redis(stage: Stage) -> None:
    await stage.redis.delete(*stage.keys.streams, stage.keys.places)
    await stage.reconcile()


async def test_content_that_is_damaged_is_its_own_emails_matter_and_stops_nobody(stage: Stage, ring: Ring) -> None:
    encrypting(stage, ring)
    damaged, *others = await stage.accept("damaged", "good", "better")
    await damage(stage, damaged)
    await forget_redis(stage)
    consumer = stage.consumer(encryption_keys_file=ring.file, consumer_slots=1)
    await finish(stage, consumer)
    row = await stage.row(damaged)
    assert (row["status"], row["reason"], row["attempts"]) == ("FAILED", "POISON", 0)
    assert row["error"] == "its content is damaged: it can't be decrypted"
    await assert_all_sent_once(stage, others, ["good", "better"])
    assert stage.requests_about("damaged") == []


async def test_an_entry_whose_content_is_damaged_or_forged_is_read_from_the_log(stage: Stage, ring: Ring) -> None:
    encrypting(stage, ring)
    ids = await stage.accept("one", "two")
    redis: Any = stage.redis
    entries = await redis.xrange(stage.keys.streams[1])
    for (entry_id, fields), key_id in zip(entries, ("1", "nobody knows"), strict=True):
        message = EmailStreamMessage.FromString(fields[b"message"])
        message.encrypted.ciphertext = b"changed"
        message.encrypted.key_id = key_id
        await redis.xdel(stage.keys.streams[1], entry_id)
        changed = {**fields, b"message": message.SerializeToString()}
        new = await redis.xadd(stage.keys.streams[1], changed)
        await redis.hset(stage.keys.places, message.email_id, b"stream:2:" + new)
    consumer = stage.consumer(encryption_keys_file=ring.file)
    await finish(stage, consumer)
    await assert_all_sent_once(stage, ids, ["one", "two"])


async def test_a_send_with_damaged_content_is_not_repeated_and_a_person_decides(stage: Stage, ring: Ring) -> None:
    encrypting(stage, ring)
    one, two = await stage.accept("one", "two")
    stage.rules(Rule(action=Action.ACCEPT_THEN_500, times=1))
    consumer = stage.consumer(encryption_keys_file=ring.file, consumer_slots=1)
    await consumer.take()
    await damage(stage, two)
    await stage.time_passes(60)
    await consumer.work()
    assert len(stage.requests) == 1
    for email_id in (one, two):
        row = await stage.row(email_id)
        assert (row["status"], row["reason"]) == ("FAILED", "OUTCOME_UNKNOWN")


async def test_what_a_lost_key_encrypted_becomes_dead_letters_and_the_rest_goes_on(stage: Stage, ring: Ring) -> None:
    encrypting(stage, ring)
    lost = await stage.accept_one("lost")
    ring.hold(TWO, "1 lost\n")
    encrypting(stage, ring)
    found = await stage.accept_one("found")
    consumer = stage.consumer(encryption_keys_file=ring.file)
    await consumer.work()
    row = await stage.row(lost)
    assert (row["status"], row["reason"], row["error"]) == ("FAILED", "POISON", 'its encryption key "1" is lost')
    await assert_all_sent_once(stage, [found], ["found"])
    ring.hold(TWO, ONE)  # somebody had it after all
    consumer.parts.encryption_keys.refresh()
    replayed = await consumer.replay(ids=[row["letter"]])
    assert replayed.replayed == 1
    await consumer.work()
    await stage.assert_sent_once(lost, "lost")


async def test_a_key_whose_id_was_used_again_is_declared_lost_by_the_check_that_the_reason_names(
    stage: Stage, ring: Ring, other_ring: Ring
) -> None:
    encrypting(stage, ring)
    lost = await stage.accept_one("lost")
    other_ring.hold(OTHER_ONE)
    encrypting(stage, other_ring)
    found = await stage.accept_one("found")
    consumer = stage.consumer(encryption_keys_file=other_ring.file, consumer_slots=1)
    await consumer.take()
    check = re.search(r"its check is ([0-9a-f]{16})", (await state_of(consumer))[1])
    assert check is not None
    other_ring.hold(OTHER_ONE, f"1 lost:{check[1]}\n")
    await finish(stage, consumer)
    row = await stage.row(lost)
    assert (row["status"], row["reason"], row["error"]) == ("FAILED", "POISON", 'its encryption key "1" is lost')
    await assert_all_sent_once(stage, [found], ["found"])


async def test_a_version_that_knows_of_no_encryption_finds_nothing_that_it_could_send(stage: Stage, ring: Ring) -> None:
    encrypting(stage, ring)
    email_id = await stage.accept_one("too new")
    with pytest.raises(DecodeError):
        EmailContent.FromString((await stage.row(email_id))["message"])


async def test_a_person_is_found_in_copies_that_are_encrypted_and_erased(stage: Stage, ring: Ring) -> None:
    encrypting(stage, ring)
    copied = await stage.accept_one("copied", cc=["Ada <ADA@example.com>"], to=["b@example.com"])
    blind = await stage.accept_one("blind", bcc=["ada@example.com"], to=["b@example.com"])
    other = await stage.accept_one("other", to=["xada@example.com"], cc=["carol@example.com"])
    consumer = stage.consumer(encryption_keys_file=ring.file)
    erased, deferred = await consumer.parts.erasure.erase("ada@example.com", Deed("ERASE"))
    assert (erased, deferred) == (2, 0)
    assert [await stage.status(i) for i in (copied, blind, other)] == ["CANCELLED", "CANCELLED", "QUEUED"]


async def test_where_a_key_is_missing_an_erasure_says_that_it_is_not_complete(
    stage: Stage, ring: Ring, other_ring: Ring
) -> None:
    encrypting(stage, ring)
    hidden = await stage.accept_one("hidden", cc=["ada@example.com"], to=["b@example.com"])
    ring.hold(TWO, ONE)
    encrypting(stage, ring)
    found = await stage.accept_one("found", to=["ada@example.com"])
    consumer = stage.consumer(encryption_keys_file=other_ring.file)
    with pytest.raises(KeyMissingError, match="1 emails are erased, others could not be looked into") as raised:
        await consumer.parts.erasure.erase("ada@example.com", Deed("ERASE"))
    assert raised.value.key_id == "1"
    assert [await stage.status(i) for i in (hidden, found)] == ["QUEUED", "CANCELLED"]
    other_ring.hold(TWO, ONE)
    consumer.parts.encryption_keys.refresh()
    assert await consumer.parts.erasure.erase("ada@example.com", Deed("ERASE")) == (1, 0)
    assert await stage.status(hidden) == "CANCELLED"


async def test_a_cause_that_is_none_of_ours_holds_nobody(stage: Stage, ring: Ring) -> None:
    encrypting(stage, ring)
    ids = await stage.accept("a", "b")
    redis: Any = stage.redis
    await redis.hset(
        stage.keys.dispatch,
        mapping={"state": "MISCONFIGURED", "reason": "?", "number": "1", "refused_name": "encryption_key 1 abc"},
    )
    consumer = stage.consumer(encryption_keys_file=ring.file)
    await consumer.work()
    await assert_all_sent_once(stage, ids, ["a", "b"])
