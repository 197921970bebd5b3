"""The trace that an email was accepted in, wherever the log gives the email out again."""

import uuid

from integration.core.log_builder import LONG, LogWorld, new_email

from sred.email.v1.stream_message_pb2 import EmailContent
from sred_email_core.email_send_log.records import FailureAction
from sred_email_core.email_send_log.recovery import RecoveryLog

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
MESSAGE = EmailContent(from_address="a@example.com", to=["b@example.com"], html="<p>x</p>").SerializeToString()


async def test_the_reconciler_publishes_an_email_in_its_trace_whether_redis_holds_its_content_or_not(
    world_of_log: LogWorld,
) -> None:
    large = EmailContent(html="x" * 70_000).SerializeToString()
    ids = [(await world_of_log.accept(message=message, traceparent=TRACEPARENT))[0] for message in (MESSAGE, large)]
    emails, _ = await RecoveryLog(world_of_log.pool).load(ids)
    assert {email.email_id: email.traceparent for email in emails} == dict.fromkeys(ids, TRACEPARENT)


async def test_a_duplicate_call_publishes_an_email_in_the_trace_of_the_first(world_of_log: LogWorld) -> None:
    first = new_email("key", traceparent=TRACEPARENT)
    await world_of_log.acceptance.accept([first])
    again = new_email("key", traceparent=TRACEPARENT.replace("0af7", "ffff"))
    assert not await world_of_log.acceptance.accept([again])
    assert (await world_of_log.acceptance.find_by_keys(["key"]))["key"].traceparent == TRACEPARENT


async def test_repeats_and_replays_go_on_in_the_trace_of_the_email(world_of_log: LogWorld) -> None:
    traced = await world_of_log.accept(traceparent=TRACEPARENT)
    untraced = await world_of_log.accept()
    await world_of_log.retrying(*traced, *untraced)
    await world_of_log.change(traced[0], "next_attempt_at = now()")
    repeat = await world_of_log.repeat(traced[0])
    assert [member.traceparent for member in repeat.members] == [TRACEPARENT, None]
    assert repeat.claim is not None
    letters = await world_of_log.fail(repeat.claim, FailureAction.BURY)
    ids = [uuid.UUID(letter) for letter in letters.values() if letter is not None]
    replayed = await world_of_log.dead_letters(LONG).replay(ids, include_outcome_unknown=False, include_poison=False)
    assert [email.traceparent for email in replayed] == [TRACEPARENT, None]
