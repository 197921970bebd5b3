"""A bad hour at the provider costs time, and nothing else: no attempt, no email, no flood of requests."""

import itertools
import re
from collections.abc import Sequence

import pytest

from crash.interleavings.stage import Consumer, Stage
from sred.email.v1.email_pb2 import EmailKind
from sred_email_core.queue.keys import Lane
from sred_email_local.sandbox.rules import Action, Rule

DOWN = Rule(status=503, name="service_unavailable")
BAD_KEY = Rule(status=401, name="invalid_api_key", message="API key is invalid")
USED_UP = Rule(status=429, name="daily_quota_exceeded", headers={"retry-after": "7200"})
NOT_VERIFIED = Rule(status=403, name="validation_error", message="The bad.example domain is not verified.")
INTERVAL_S = 15


async def state_of(consumer: Consumer) -> tuple[str, str]:
    """The state of delivery, and why."""
    stats = (await consumer.parts.operations.stats()).queue
    return stats.dispatch.state, stats.dispatch.reason


async def attempts(stage: Stage, ids: Sequence[str]) -> list[int]:
    """Of each email."""
    return [(await stage.row(email_id))["attempts"] for email_id in ids]


async def pass_hours(stage: Stage, consumers: Sequence[Consumer], *, hours: float, step_s: float) -> list[int]:
    """Let everybody work over and over; how many requests were made in each step, as those who made them count."""
    made = []
    for _ in range(round(hours * 3600 / step_s)):
        before = posts(consumers)
        for consumer in consumers:
            await consumer.parts.promoter.run_once()
            await consumer.take()
        made.append(posts(consumers) - before)
        await stage.time_passes(step_s)
    return made


def posts(consumers: Sequence[Consumer]) -> int:
    """Requests that consumers have begun; a provider that is given up counts one later, or never."""
    return sum(step.startswith("POST ") for consumer in consumers for step in consumer.process.steps)


async def finish(stage: Stage, consumers: Sequence[Consumer], ids: Sequence[str], subjects: Sequence[str]) -> None:
    """Let the provider be well again, and everything be sent."""
    stage.rules()
    for _ in range(40):
        await stage.time_passes(INTERVAL_S * 2)
        for consumer in consumers:
            await consumer.work()
    for email_id, subject in zip(ids, subjects, strict=True):
        await stage.assert_sent_once(email_id, subject)
    await stage.assert_nothing_left()


@pytest.mark.parametrize(
    ("weather", "batch_size"),
    [(DOWN, 1), (DOWN, 100), (Rule(action=Action.RESET), 1), (Rule(action=Action.ACCEPT_THEN_500), 100)],
    ids=["503-1", "503-100", "cut-1", "accepted-100"],
)
async def test_hazard_14_an_hour_of_outage_costs_no_attempts_and_one_probe_an_interval(
    stage: Stage, weather: Rule, batch_size: int
) -> None:
    # A long first delay: no repeat is due while the first sends, one by one, come to five.
    consumers = [stage.consumer(resend_batch_size=batch_size, consumer_slots=6, retry_base_delay=60) for _ in range(2)]
    subjects = [f"outage {n}" for n in range(60)]
    ids = await stage.accept(*subjects)
    stage.rules(weather)
    if batch_size > 1:  # five sends that fail one after the other
        for n, consumer in enumerate([*consumers, *consumers, *consumers]):
            await consumer.take()
            await stage.accept(f"more {n}")
    else:
        await consumers[0].take()
    assert (await state_of(consumers[1]))[0] == "PROVIDER_DOWN"
    begun = len(stage.requests)
    made = await pass_hours(stage, consumers, hours=1, step_s=5)
    assert max(sum(made[n : n + 3]) for n in range(len(made) - 2)) <= 1
    assert 200 <= sum(made) <= 240
    assert len({r.idempotency_key for r in stage.requests[begun : begun + 40]}) >= (30 if batch_size == 1 else 6)
    assert max(await attempts(stage, ids)) <= 1  # of those that failed before anybody could know
    assert await stage.pool.fetchval("SELECT count(*) FROM email_dead_letters") == 0
    stage.rules()
    for _ in range(60):
        await stage.time_passes(INTERVAL_S * 2)
        for consumer in consumers:
            await consumer.work()
    assert (await state_of(consumers[0])) == ("RUNNING", "")
    for email_id, subject in zip(ids, subjects, strict=True):
        await stage.assert_sent_once(email_id, subject)
    assert max(await attempts(stage, ids)) <= 2


async def test_hazard_14_connections_that_are_refused_stop_delivery_even_for_one_email(stage: Stage) -> None:
    consumer = stage.consumer(breaker_failures=3)
    email_id = await stage.accept_one("lonely")
    url = stage._resend._base_url  # noqa: SLF001 - where nobody listens
    stage._resend._base_url = "http://127.0.0.1:1"  # noqa: SLF001
    for _ in range(8):
        await consumer.work()
        await stage.time_passes(2)
    assert (await state_of(consumer))[0] == "PROVIDER_DOWN"
    row = await stage.row(email_id)
    assert (row["status"], row["attempts"]) == ("RETRYING", 0)
    stage._resend._base_url = url  # noqa: SLF001
    await finish(stage, [consumer], [email_id], ["lonely"])


async def test_hazard_14_one_email_that_fails_alone_spends_its_attempts_and_stops_nobody(stage: Stage) -> None:
    consumer = stage.consumer(max_attempts=8, breaker_failures=2)
    email_id = await stage.accept_one("bad one")
    stage.rules(Rule(status=500, subject=re.compile("bad")))
    for n in range(12):
        await consumer.work()
        await stage.accept(f"good {n}")
        await consumer.work()
        assert (await state_of(consumer))[0] == "RUNNING"
        await stage.time_passes(3700)
    assert (await stage.row(email_id))["reason"] == "ATTEMPTS_EXHAUSTED"


@pytest.mark.parametrize(("weather", "state"), [(BAD_KEY, "MISCONFIGURED"), (USED_UP, "QUOTA_EXHAUSTED")])
async def test_hazards_15_and_17_delivery_stops_burns_nothing_and_goes_on_by_itself(
    stage: Stage, weather: Rule, state: str
) -> None:
    consumers = [stage.consumer(), stage.consumer()]
    subjects = [f"stopped {n}" for n in range(30)]
    ids = await stage.accept(*subjects)
    stage.rules(weather)
    await consumers[0].take()
    begun = len(stage.requests)
    for consumer in consumers:
        assert await consumer.take() == 0
        assert (await state_of(consumer))[0] == state
    assert weather.name in (await state_of(consumers[0]))[1]
    made = await pass_hours(stage, consumers, hours=1, step_s=5)
    assert sum(made) <= (240 if state == "MISCONFIGURED" else 0)
    assert (sum(made) > 200) == (state == "MISCONFIGURED")
    probed = [r.subjects for r in stage.requests[begun:]]
    assert all(one != other for one, other in itertools.pairwise(probed))
    assert set(await attempts(stage, ids)) == {0}
    await stage.time_passes(7200)
    await finish(stage, consumers, ids, subjects)


async def test_hazard_15_a_probe_is_another_email_than_the_one_that_stopped_delivery(stage: Stage) -> None:
    consumer = stage.consumer(consumer_slots=1, resend_batch_size=1)
    bad, good = await stage.accept("the bad one", "the good one")
    stage.rules(Rule(status=401, name="invalid_api_key", subject=re.compile("bad")))
    await consumer.take()
    await stage.time_passes(INTERVAL_S + 1)
    await consumer.parts.promoter.run_once()
    assert await consumer.take() == 1
    await stage.assert_sent_once(good, "the good one")
    assert (await state_of(consumer))[0] == "RUNNING"
    assert await attempts(stage, [bad]) == [0]


async def test_hazard_15_a_refused_probe_is_followed_at_once_by_the_next_email(stage: Stage) -> None:
    consumer = stage.consumer(consumer_slots=1, resend_batch_size=1)
    ids = await stage.accept("cause", "invalid 1", "invalid 2", "fine")
    stage.rules(
        Rule(status=401, name="invalid_api_key", subject=re.compile("cause"), times=1),
        Rule(status=422, name="validation_error", subject=re.compile("invalid")),
    )
    await consumer.take()
    await stage.time_passes(INTERVAL_S + 1)
    for _ in range(3):
        await consumer.take()
    assert [await stage.status(i) for i in ids[1:]] == ["FAILED", "FAILED", "SUCCESS"]
    assert (await state_of(consumer))[0] == "RUNNING"


async def test_hazard_16_one_domain_that_is_not_verified_delays_nobody_else(stage: Stage) -> None:
    consumers = [stage.consumer(consumer_slots=2) for _ in range(2)]
    bad_subjects = [f"bad {n}" for n in range(20)]
    good_subjects = [f"good {n}" for n in range(20)]
    bad = await stage.accept(*bad_subjects, from_address="A <a@bad.example>")
    good = await stage.accept(*good_subjects, from_address="B <b@good.example>")
    stage.rules(Rule(**{f: getattr(NOT_VERIFIED, f) for f in ("status", "name", "message")}, subject=re.compile("bad")))
    for _ in range(60):
        for consumer in consumers:
            await consumer.take()
    for email_id, subject in zip(good, good_subjects, strict=True):
        await stage.assert_sent_once(email_id, subject)
    state, reason = await state_of(consumers[0])
    assert state == "RUNNING"
    assert "bad.example" in reason
    before = len(stage.requests)
    for _ in range(20):
        await stage.time_passes(INTERVAL_S + 1)
        for consumer in consumers:
            await consumer.work()
    assert 15 <= len(stage.requests) - before <= 21
    assert set(await attempts(stage, bad)) <= {0}
    await finish(stage, consumers, bad, bad_subjects)
    assert (await state_of(consumers[0])) == ("RUNNING", "")


async def test_twenty_refusals_in_a_row_of_several_kinds_and_domains_stop_delivery(stage: Stage) -> None:
    consumer = stage.consumer(consumer_slots=1, resend_batch_size=1)
    subjects = [f"refused {n}" for n in range(40)]
    ids = []
    for n, subject in enumerate(subjects):
        kind = EmailKind.EMAIL_KIND_WELCOME if n % 2 else EmailKind.EMAIL_KIND_PASSWORD_RESET
        ids.append(await stage.accept_one(subject, kind=kind, from_address=f"A <a@d{n % 3}.example>"))
    stage.rules(Rule(status=422, name="invalid_from_address"))
    await consumer.work()
    assert (await state_of(consumer))[0] == "MISCONFIGURED"
    statuses = [await stage.status(email_id) for email_id in ids]
    assert statuses.count("FAILED") == 20
    for _ in range(30):
        await stage.time_passes(INTERVAL_S + 1)
        await consumer.work()
    assert [await stage.status(email_id) for email_id in ids].count("FAILED") == 20
    stage.rules()
    for _ in range(5):
        await stage.time_passes(INTERVAL_S + 1)
        await consumer.work()
    assert (await state_of(consumer))[0] == "RUNNING"
    assert [await stage.status(email_id) for email_id in ids].count("SUCCESS") == 20


async def test_many_refusals_of_one_kind_are_those_emails_fault(stage: Stage) -> None:
    consumer = stage.consumer()
    await stage.accept(*[f"refused {n}" for n in range(40)])
    stage.rules(Rule(status=422, name="validation_error"))
    await consumer.work()
    assert (await state_of(consumer))[0] == "RUNNING"
    assert await stage.pool.fetchval("SELECT count(*) FROM email_dead_letters WHERE reason = 'REJECTED'") == 40


async def test_a_pause_outlives_redis_and_binds_every_replica(stage: Stage) -> None:
    consumers = [stage.consumer(), stage.consumer()]
    await consumers[0].parts.control.pause(None, "maintenance")
    email_id = await stage.accept_one("paused")
    for consumer in consumers:
        assert await consumer.take() == 0
        assert await state_of(consumer) == ("PAUSED", "maintenance")
    await stage.redis.flushall()
    await stage.reconcile()
    for consumer in [*consumers, stage.consumer()]:
        assert await consumer.take() == 0
    await consumers[1].parts.control.resume(None)
    await consumers[0].work()
    await stage.assert_sent_once(email_id, "paused")


async def test_pauses_come_into_force_although_the_log_was_restored_and_counts_anew(stage: Stage) -> None:
    consumer = stage.consumer()
    for _ in range(5):
        await consumer.parts.control.pause(None, "long ago")
    await stage.pool.execute("DELETE FROM email_pauses")
    await stage.pool.execute("DELETE FROM email_operation_settings")
    email_id = await stage.accept_one("restored")
    await consumer.parts.control.resume(None)
    await consumer.work()
    await stage.assert_sent_once(email_id, "restored")


async def test_a_lane_that_is_paused_waits_alone(stage: Stage) -> None:
    consumer = stage.consumer()
    await consumer.parts.control.pause(Lane.HIGH, "")
    high = await stage.accept_one("high", kind=EmailKind.EMAIL_KIND_PASSWORD_RESET)
    normal = await stage.accept_one("normal", kind=EmailKind.EMAIL_KIND_QUOTA_WARNING)
    await consumer.work()
    assert [await stage.status(i) for i in (high, normal)] == ["QUEUED", "SUCCESS"]
    await consumer.parts.control.resume(Lane.HIGH)
    await consumer.work()
    assert await stage.status(high) == "SUCCESS"


async def test_resuming_delivery_probes_a_provider_that_stopped_it(stage: Stage) -> None:
    consumer = stage.consumer()
    email_id = await stage.accept_one("quota")
    stage.rules(Rule(status=429, name="monthly_quota_exceeded", headers={"retry-after": "864000"}, times=1))
    await consumer.take()
    await stage.time_passes(INTERVAL_S + 1)
    await consumer.work()
    assert (await state_of(consumer))[0] == "QUOTA_EXHAUSTED"
    await consumer.parts.control.resume(None)
    await consumer.work()
    await stage.assert_sent_once(email_id, "quota")
