"""Both services as real processes, from a gRPC call to the provider."""

import asyncio
import re
import signal
from typing import Any

import grpc
import pytest

from sred.email.v1 import email_pb2
from sred.email.v1.operations_service_pb2 import (
    GetQueueStatsRequest,
    ListDeadLettersRequest,
    ReplayDeadLettersRequest,
)
from sred_email_local.sandbox.rules import Action, Rule
from support.world import API_KEY, World, email_request, until


async def test_an_email_of_each_kind_goes_from_the_call_to_the_provider(world: World) -> None:
    await world.start_pair()
    ids = {}
    for kind in email_pb2.EmailKind.keys()[1:]:
        ids[kind] = (await world.send(kind, kind=email_pb2.EmailKind.Value(kind))).email_id
    for kind, email_id in ids.items():
        assert await world.wait_for(email_id) == "SUCCESS"
        assert world.deliveries(kind) == 1
        email = await world.get_email(email_id)
        assert email.attempts == 1
        assert email.provider_message_id
        assert email.delivery == email_pb2.DELIVERY_STATE_SENT
        assert email.HasField("sent_at")
    await world.assert_redis_is_clean()
    assert await world.pool.fetchval("SELECT count(*) FROM email_send_log WHERE message IS NOT NULL") == 0
    assert await world.pool.fetchval("SELECT count(*) FROM email_sends") == 0
    assert await world.pool.fetchval("SELECT count(*) FROM email_send_members") == 0


async def test_everything_of_a_request_reaches_the_provider(world: World) -> None:
    await world.start_pair()
    request = email_request(
        "full",
        from_address="Other <other@example.com>",
        to=["a@example.com", "Bé <b@example.com>"],
        cc=["c@example.com"],
        bcc=["d@example.com"],
        reply_to=["r@example.com"],
        headers={"X-One": "1"},
        tags={"team": "core"},
    )
    request.inline.text = "plain"
    request.attachments.add(filename="a.txt", content_type="text/plain", content=b"\0\xff", content_id="logo")
    answer = await world.dispatch().SendEmail(request)
    await world.wait_for(answer.email_id, "SUCCESS")
    (delivery,) = world.sandbox.provider.mailbox
    source: dict[str, Any] = dict(delivery.email.source)
    assert source["from"] == "Other <other@example.com>"
    assert source["to"] == ["a@example.com", "Bé <b@example.com>"]
    assert (source["cc"], source["bcc"], source["reply_to"]) == (
        ["c@example.com"],
        ["d@example.com"],
        ["r@example.com"],
    )
    assert (source["html"], source["text"]) == ("<p>Hello</p>", "plain")
    assert source["headers"] == {"X-One": "1"}
    assert {tag["name"]: tag["value"] for tag in source["tags"]} == {
        "team": "core",
        "email_id": answer.email_id,
        "kind": "SYSTEM_NOTIFICATION",
    }
    assert source["attachments"] == [
        {"filename": "a.txt", "content": "AP8=", "content_type": "text/plain", "content_id": "logo"}
    ]


async def test_fifty_calls_at_once_with_one_key_are_one_email(world: World) -> None:
    await world.start_pair()
    answers = await asyncio.gather(*(world.send("same") for _ in range(50)))
    assert len({answer.email_id for answer in answers}) == 1
    assert sum(not answer.deduplicated for answer in answers) == 1
    await world.wait_for(answers[0].email_id, "SUCCESS")
    again = await world.send("same")
    assert again.deduplicated
    assert again.status == email_pb2.EMAIL_STATUS_SUCCESS
    assert world.deliveries("same") == 1


async def test_a_key_with_other_content_is_refused_and_nothing_is_queued(world: World) -> None:
    await world.start("ingress")
    await world.send("first", idempotency_key="k")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.send("second", idempotency_key="k")
    assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert await world.pool.fetchval("SELECT count(*) FROM email_send_log") == 1
    assert sum([await world.redis.xlen(stream) for stream in world.keys.streams]) == 1


async def test_after_429_an_email_waits_in_the_retry_set_and_then_is_sent(world: World) -> None:
    await world.start_pair()
    limited = Rule(status=429, name="rate_limit_exceeded", headers={"retry-after": "1"}, times=1)
    world.rules(limited)
    answer = await world.send("limited")

    async def parked() -> bool:
        return await world.redis.zscore(world.keys.retry, answer.email_id) is not None

    await until(parked, "the email is in the retry set")
    await world.wait_for(answer.email_id, "SUCCESS")
    email = await world.get_email(answer.email_id)
    assert email.attempts == 1  # the wait for a rate limit is no attempt
    first, second = world.requests
    assert (first.status, second.status) == (429, 200)
    await world.assert_redis_is_clean()


async def test_what_the_provider_refuses_becomes_a_dead_letter_that_can_be_replayed(world: World) -> None:
    await world.start_pair()
    world.rules(Rule(subject=re.compile("bad"), status=422, name="validation_error", message="No such planet."))
    answer = await world.send("bad")
    assert await world.wait_for(answer.email_id) == "FAILED"
    stats = await until(lambda: _with_dead_letter(world), "the DLQ shows it")
    assert stats == 1
    listed = await world.operations().ListDeadLetters(ListDeadLettersRequest())
    (letter,) = listed.dead_letters
    assert letter.reason == email_pb2.DEAD_LETTER_REASON_REJECTED
    assert "No such planet." in letter.error
    assert not letter.may_have_been_accepted
    assert (letter.email_id, list(letter.to), letter.subject) == (answer.email_id, ["ada@example.com"], "bad")

    world.rules()
    replay = ReplayDeadLettersRequest()
    replay.ids.values.append(letter.dead_letter_id)
    answered = await world.operations().ReplayDeadLetters(replay)
    assert (answered.replayed, answered.skipped, answered.remaining) == (1, 0, 0)
    assert await world.wait_for(answer.email_id) == "SUCCESS"
    assert world.deliveries("bad") == 1
    assert await world.redis.xlen(world.keys.dlq) == 0
    again = await world.operations().ReplayDeadLetters(replay)
    assert (again.replayed, again.skipped) == (0, 1)
    await world.assert_redis_is_clean()


async def _with_dead_letter(world: World) -> int:
    stats = await world.operations().GetQueueStats(GetQueueStatsRequest())
    return stats.dead_letters if await world.redis.xlen(world.keys.dlq) == 1 else 0


async def test_while_the_provider_is_down_nothing_is_lost_and_no_attempt_is_spent(world: World) -> None:
    await world.start_pair()
    await world.sandbox.listen(on=False)
    ids = [(await world.send(f"down {n}")).email_id for n in range(10)]
    for email_id in ids:
        await world.wait_for(email_id, "RETRYING")
    await world.sandbox.listen(on=True)
    for n, email_id in enumerate(ids):
        await world.wait_for(email_id, "SUCCESS")
        assert (await world.get_email(email_id)).attempts == 1
        assert world.deliveries(f"down {n}") == 1


@pytest.mark.parametrize("action", [Action.ACCEPT_THEN_RESET, Action.ACCEPT_THEN_500])
async def test_an_email_accepted_without_an_answer_is_repeated_under_its_key(world: World, action: Action) -> None:
    await world.start_pair()
    world.rules(Rule(action=action, times=1))
    answer = await world.send("once")
    await world.wait_for(answer.email_id, "SUCCESS")
    assert world.deliveries("once") == 1
    keys = {request.idempotency_key for request in world.requests}
    bodies = {request.body_sha256 for request in world.requests}
    assert len(world.requests) == 2
    assert len(keys) == len(bodies) == 1
    assert (await world.get_email(answer.email_id)).attempts == 2
    await world.assert_redis_is_clean()


@pytest.mark.parametrize(
    ("status", "name"),
    [(401, "invalid_api_key"), (403, "invalid_permission"), (429, "daily_quota_exceeded")],
)
async def test_answers_that_are_no_emails_fault_park_without_an_attempt(world: World, status: int, name: str) -> None:
    await world.start_pair()
    world.rules(Rule(status=status, name=name, headers={"retry-after": "1"}, times=1))
    answer = await world.send("parked")
    await world.wait_for(answer.email_id, "RETRYING")
    assert (await world.get_email(answer.email_id)).attempts == 0
    await world.wait_for(answer.email_id, "SUCCESS")
    assert (await world.get_email(answer.email_id)).attempts == 1


async def test_sigterm_in_mid_work_finishes_what_is_being_sent_and_leaves_the_rest(world: World) -> None:
    await world.start("ingress")
    world.rules(Rule(action=Action.DELAY, delay_s=0.5))
    ids = [(await world.send(f"stop {n}")).email_id for n in range(30)]
    first = await world.start("consumer", SRED_EMAIL_CONSUMER_SLOTS="4")
    await until(lambda: _requests(world), "the provider is being asked")
    first.process.send_signal(signal.SIGTERM)
    assert await first.process.wait(10) == 0
    sent = len(world.requests)
    assert 1 <= sent < 30
    for stream in world.keys.streams:
        assert (await world.redis.xpending(stream, "email-consumers"))["pending"] == 0
        assert await world.redis.xinfo_consumers(stream, "email-consumers") == []
    world.rules()
    await world.start("consumer")
    for n, email_id in enumerate(ids):
        await world.wait_for(email_id, "SUCCESS")
        assert world.deliveries(f"stop {n}") == 1


async def _requests(world: World) -> int:
    return len(world.requests)


async def test_no_log_line_tells_the_key_the_content_or_an_address(world: World) -> None:
    ingress, consumer = await world.start_pair()
    answer = await world.send("quiet", html="<p>reset-link-token</p>")
    await world.wait_for(answer.email_id, "SUCCESS")
    logs = ingress.process.log.read_text() + consumer.process.log.read_text()
    assert answer.email_id in logs
    for secret in (API_KEY, "reset-link-token", "ada@example.com", "quiet"):
        assert secret not in logs
