"""What the provider tells of emails, on their rows."""

import asyncio
import itertools
import uuid
from datetime import timedelta
from typing import Any

import pytest
from integration.core.log_builder import LogWorld, accepted, send_of

from sred_email_core.email_send_log.records import Claim, FailureAction
from sred_email_core.email_send_log.retention import RetentionLog
from sred_email_core.email_send_log.suppressions import SuppressionLog
from sred_email_core.email_send_log.webhook_events import REMEMBERED, WebhookEvent, WebhookLog, Worked

SEVERITY = ("SENT", "DELAYED", "DELIVERED", "DELIVERY_FAILED", "BOUNCED", "COMPLAINED")

_numbers = itertools.count(1)


def event(delivery: str, email_id: str | None = None, **fields: Any) -> WebhookEvent:
    values: dict[str, Any] = {
        "svix_id": f"msg-{next(_numbers)}",
        "email_id": None if email_id is None else uuid.UUID(email_id),
        "provider_message_id": None if email_id is None else f"provider-{email_id}",
        **fields,
    }
    return WebhookEvent(delivery=delivery, **values)


class Told:
    """The log, and what the provider tells it."""

    def __init__(self, world: LogWorld) -> None:
        self.world = world
        self.log = WebhookLog(world.pool)

    async def work(self, *events: WebhookEvent) -> Worked:
        await self.log.store(events)
        return await self.log.work(size=100)

    async def sent(self, count: int = 1) -> list[str]:
        """Emails that the provider took, as one send."""
        ids = await self.world.accept(count)
        claim = await self.world.claimed(*ids)
        await self.world.log.record_answers([accepted(claim.send_id, *ids)])
        return ids


@pytest.fixture
def told(world_of_log: LogWorld) -> Told:
    return Told(world_of_log)


@pytest.mark.parametrize("order", [("SENT", "DELIVERED", "COMPLAINED"), ("COMPLAINED", "SENT", "DELIVERED")])
async def test_events_in_any_order_leave_the_worst_state(told: Told, order: tuple[str, ...]) -> None:
    (email_id,) = await told.sent()
    for delivery in order:
        await told.work(event(delivery, email_id))
    row = await told.world.email(email_id)
    assert (row["status"], row["delivery"]) == ("SUCCESS", "COMPLAINED")


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(SEVERITY, 2)))
async def test_hazard_21_a_state_gives_way_to_a_worse_one_only(told: Told, first: str, second: str) -> None:
    (email_id,) = await told.sent()
    await told.work(event(first, email_id), event(second, email_id))
    assert (await told.world.email(email_id))["delivery"] == max(first, second, key=SEVERITY.index)


async def test_events_of_one_email_that_are_worked_together_are_each_told(told: Told) -> None:
    (email_id,) = await told.sent()
    worked = await told.work(
        event("DELAYED", email_id), event("DELIVERED", email_id), event("BOUNCED", email_id, detail="gone")
    )
    assert worked.taken == 3
    assert await told.world.events(email_id) == ["ACCEPTED", "SENT", "DELAYED", "DELIVERED", "BOUNCED"]
    told_of = await told.world.pool.fetch(
        "SELECT delivery, status, reason FROM email_events WHERE delivery IS NOT NULL ORDER BY sequence"
    )
    assert [tuple(row) for row in told_of][-1] == ("BOUNCED", "SUCCESS", "gone")
    assert (await told.world.email(email_id))["last_error"] == "gone"


async def test_a_milder_event_leaves_no_trace_on_the_email(told: Told) -> None:
    (email_id,) = await told.sent()
    await told.work(event("BOUNCED", email_id))
    before = await told.world.email(email_id)
    await told.work(event("DELIVERED", email_id))
    assert await told.world.email(email_id) == before
    assert (await told.world.events(email_id))[-1] == "BOUNCED"


async def test_an_event_is_kept_once_however_often_it_is_delivered(told: Told) -> None:
    (email_id,) = await told.sent()
    once = event("DELIVERED", email_id)
    assert await told.log.store([once, once]) == [True, False]
    await told.log.work(size=100)
    assert await told.log.store([once]) == [False]
    assert (await told.log.work(size=100)).taken == 0


async def test_an_event_without_the_emails_id_finds_it_by_the_providers(told: Told) -> None:
    (email_id,) = await told.sent()
    await told.work(event("DELIVERED", provider_message_id=f"provider-{email_id}"))
    assert (await told.world.email(email_id))["delivery"] == "DELIVERED"


async def test_an_event_whose_email_is_not_known_yet_is_tried_again(told: Told) -> None:
    (email_id,) = await told.world.accept()
    claim = await told.world.claimed(email_id)
    worked = await told.work(event("DELIVERED", provider_message_id=f"provider-{email_id}"))
    assert (worked.unknown, worked.given_up) == (1, [])
    assert (await told.log.work(size=100)).taken == 0  # not yet due again
    await told.world.log.record_answers([accepted(claim.send_id, email_id)])
    await told.world.pool.execute("UPDATE email_webhook_events SET due_at = now()")
    await told.log.work(size=100)
    assert (await told.world.email(email_id))["delivery"] == "DELIVERED"


async def test_an_event_of_anothers_email_is_given_up_after_a_day(told: Told) -> None:
    await told.log.store([event("DELIVERED", str(uuid.uuid4()), detail="words")])
    await told.world.pool.execute("UPDATE email_webhook_events SET received_at = now() - interval '25 h'")
    worked = await told.log.work(size=100)
    assert len(worked.given_up) == 1
    row = await told.world.one("SELECT * FROM email_webhook_events")
    assert row["worked_at"] is not None
    assert row["detail"] is None


async def test_an_event_that_comes_before_the_answer_closes_the_email(told: Told) -> None:
    (email_id,) = await told.world.accept()
    claim = await told.world.claimed(email_id)
    worked = await told.work(event("SENT", email_id))
    assert worked.closed == [email_id]
    row = await told.world.email(email_id)
    assert (row["status"], row["delivery"], row["attempts"]) == ("SUCCESS", "SENT", 1)
    assert row["provider_message_id"] == f"provider-{email_id}"
    assert row["message"] is None
    assert row["sent_at"] is not None
    assert await told.world.count("email_sends") == await told.world.count("email_send_members") == 0
    await told.world.log.record_answers([accepted(claim.send_id, email_id)])
    assert await told.world.email(email_id) == row
    assert await told.world.events(email_id) == ["ACCEPTED", "SENT"]


async def test_an_event_closes_an_email_that_waits_for_its_repeat(told: Told) -> None:
    (email_id,) = await told.world.accept()
    await told.world.retrying(email_id)
    worked = await told.work(event("DELIVERED", email_id))
    assert [(f.email_id, f.first_of_send) for f in worked.finished] == [(email_id, email_id)]
    row = await told.world.email(email_id)
    assert (row["status"], row["delivery"], row["attempts"]) == ("SUCCESS", "DELIVERED", 1)
    assert row["next_attempt_at"] is None
    assert await told.world.count("email_sends") == 0


@pytest.mark.parametrize("reason", ["OUTCOME_UNKNOWN", "ATTEMPTS_EXHAUSTED"])
async def test_an_event_resolves_the_dead_letter_of_an_email_that_was_sent_after_all(told: Told, reason: str) -> None:
    (email_id,) = await told.world.accept()
    letters = await told.world.buried(email_id, reason=reason)
    worked = await told.work(event("BOUNCED", email_id))
    assert worked.letters == [letters[email_id]]
    letter = await told.world.letter(letters[email_id])
    assert letter["resolution"] == "DELIVERED"
    row = await told.world.email(email_id)
    assert (row["status"], row["delivery"], row["message"]) == ("SUCCESS", "BOUNCED", None)
    assert await told.world.count("email_sends") == await told.world.count("email_send_members") == 0


async def test_an_event_wins_over_expired(told: Told) -> None:
    (email_id,) = await told.world.accept()
    await told.world.retrying(email_id)
    claim = await told.world.repeated(email_id)
    await told.world.fail(claim, FailureAction.EXPIRE)
    await told.work(event("DELIVERED", email_id))
    assert (await told.world.email(email_id))["status"] == "SUCCESS"


async def test_an_event_of_one_member_leaves_its_send_whole_for_the_others(told: Told) -> None:
    first, second = await told.world.accept(2)
    claim = await told.world.retrying(first, second)
    worked = await told.work(event("DELIVERED", first))
    assert worked.closed == [first]
    assert worked.finished == []
    assert await told.world.members(claim.send_id) == [first, second]
    repeat = await told.world.repeat(second)
    assert [member.message for member in repeat.members] == [b"message", b"message"]
    assert repeat.claim is not None
    await told.world.log.record_answers([accepted(claim.send_id, first, second)])
    row = await told.world.email(first)
    assert (row["status"], row["delivery"], row["message"], row["attempts"]) == ("SUCCESS", "DELIVERED", None, 1)
    assert (await told.world.email(second))["status"] == "SUCCESS"
    assert await told.world.count("email_send_members") == 0


async def test_after_an_event_of_one_member_no_refusal_dissolves_the_send(told: Told) -> None:
    first, second = await told.world.accept(2)
    claim = await told.world.claimed(first, second)
    await told.work(event("SENT", first))
    recorded = await told.world.recorded(claim, FailureAction.RELEASE)
    assert recorded.action is FailureAction.RETRY
    send = await told.world.open_send(claim.send_id)
    assert send["maybe_accepted"]
    assert send["first_post_at"] is not None
    assert (await told.world.email(first))["status"] == "SUCCESS"
    assert (await told.world.email(second))["status"] == "RETRYING"


async def test_the_event_of_the_last_member_ends_the_send_and_forgets_every_content(told: Told) -> None:
    ids = await told.world.accept(3)
    claim = await told.world.retrying(*ids)
    await told.work(event("SENT", ids[1]))
    await told.work(event("SENT", ids[0]))
    worked = await told.work(event("DELIVERED", ids[1]), event("SENT", ids[2]))
    assert {f.email_id for f in worked.finished} == set(ids)
    assert {f.first_of_send for f in worked.finished} == {ids[0]}
    assert await told.world.send(claim.send_id) is None
    assert await told.world.pool.fetchval("SELECT count(*) FROM email_send_log WHERE message IS NOT NULL") == 0
    assert (await told.world.email(ids[1]))["delivery"] == "DELIVERED"


async def test_a_dead_letter_of_another_member_keeps_the_send_so_that_it_can_be_replayed(told: Told) -> None:
    first, second = await told.world.accept(2)
    letters = await told.world.buried(first, second)
    await told.work(event("DELIVERED", first))
    (replayed,) = await told.world.letters.replay(
        [uuid.UUID(letters[second])], include_outcome_unknown=True, include_poison=False
    )
    assert (replayed.email_id, replayed.repeats) == (second, True)
    repeat = await told.world.repeat(second)
    assert [member.message for member in repeat.members] == [b"message", b"message"]
    assert (await told.world.email(first))["status"] == "SUCCESS"


async def test_events_of_two_members_that_are_worked_at_once_end_their_send(told: Told) -> None:
    first, second = await told.world.accept(2)
    claim = await told.world.retrying(first, second)
    await told.log.store([event("SENT", first)])
    other = WebhookLog(told.world.pool)
    await told.log.store([event("SENT", second)])
    await asyncio.gather(told.log.work(size=1), other.work(size=1))
    assert await told.world.send(claim.send_id) is None
    assert await told.world.pool.fetchval("SELECT count(*) FROM email_send_log WHERE message IS NOT NULL") == 0


async def test_an_event_waits_for_whoever_changes_its_email(told: Told) -> None:
    (email_id,) = await told.world.accept()
    await told.log.store([event("SENT", email_id)])
    async with told.world.uncommitted("lock_email", uuid.UUID(email_id)):
        working = asyncio.create_task(told.log.work(size=1))
        await told.world.until_blocked(working)
    assert (await working).closed == [email_id]


async def test_events_that_one_process_works_are_passed_over_by_another(told: Told) -> None:
    ids = await told.sent(2)
    await told.log.store([event("DELIVERED", ids[0]), event("DELIVERED", ids[1])])
    async with told.world.uncommitted("take_webhook_events", 1):
        assert (await told.log.work(size=100)).taken == 1
    assert (await told.log.work(size=100)).taken == 1


async def test_what_was_worked_keeps_nothing_of_the_recipient(told: Told) -> None:
    (email_id,) = await told.sent()
    await told.work(event("BOUNCED", email_id, detail="550", suppress="b@example.com", suppress_reason="BOUNCED"))
    row = await told.world.one("SELECT detail, suppress FROM email_webhook_events")
    assert tuple(row) == (None, None)


async def test_the_lag_is_the_age_of_the_event_that_waits_longest(told: Told) -> None:
    assert await told.log.lag() == timedelta()
    await told.log.store([event("SENT", str(uuid.uuid4()))])
    await told.world.pool.execute("UPDATE email_webhook_events SET due_at = now() - interval '1 h'")
    assert await told.log.lag() > timedelta(minutes=59)


async def test_events_are_forgotten_when_they_can_come_no_more(told: Told) -> None:
    (email_id,) = await told.sent()
    await told.work(event("SENT", email_id), event("DELIVERED", email_id))
    await told.world.pool.execute(
        "UPDATE email_webhook_events SET worked_at = now() - interval '31 d' WHERE delivery = 'SENT'"
    )
    kept = RetentionLog(told.world.pool)
    assert await kept.forget_webhook_events(older_than=REMEMBERED, size=100) == 1
    assert await told.world.count("email_webhook_events") == 1


async def test_an_email_that_an_event_closed_is_not_claimed_any_more(told: Told) -> None:
    (email_id,) = await told.world.accept()
    await told.work(event("DELIVERED", email_id))
    (answer,) = await told.world.log.claim([send_of(email_id)])
    assert not isinstance(answer, Claim)
    assert answer[email_id].ended


async def test_an_event_of_anothers_email_suppresses_its_address_once(told: Told) -> None:
    bounced = event("BOUNCED", provider_message_id="another's", suppress="b@example.com", suppress_reason="BOUNCED")
    assert (await told.work(bounced)).suppressed
    await told.world.pool.execute("UPDATE email_webhook_events SET due_at = now()")
    assert await SuppressionLog(told.world.pool).free("b@example.com")  # an operator knows better
    worked = await told.log.work(size=100)
    assert (worked.unknown, worked.suppressed) == (1, False)
    assert await SuppressionLog(told.world.pool).page(address=None, after=None, size=1) == []
