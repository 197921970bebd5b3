"""What comes back by itself after something died."""

import asyncio

from sred_email_local.engines import ValkeyServer
from sred_email_local.ports import free_port
from sred_email_local.sandbox.rules import Action, Rule
from support.world import World, until


async def test_emails_that_redis_forgot_are_published_again(world: World) -> None:
    await world.start("ingress")
    ids = [(await world.send(f"forgotten {n}")).email_id for n in range(20)]
    await world.redis.flushall()
    await world.start("consumer")
    for n, email_id in enumerate(ids):
        await world.wait_for(email_id, "SUCCESS")
        assert world.deliveries(f"forgotten {n}") == 1
    await world.assert_redis_is_clean()


async def test_a_send_in_the_retry_set_that_redis_forgot_is_repeated_under_its_key(world: World) -> None:
    await world.start_pair()
    world.rules(Rule(action=Action.ACCEPT_THEN_500, headers={"retry-after": "3"}, times=1))
    email_id = (await world.send("once")).email_id
    await world.wait_for(email_id, "RETRYING")
    await world.redis.flushall()
    await world.wait_for(email_id, "SUCCESS")
    assert world.deliveries("once") == 1
    assert len({request.idempotency_key for request in world.requests}) == 1


async def test_with_redis_away_calls_are_accepted_and_delivered_later(world: World, valkey: ValkeyServer) -> None:
    await world.start_pair()
    valkey.kill()
    try:
        began = asyncio.get_running_loop().time()
        ids = [(await world.send(f"away {n}")).email_id for n in range(5)]
        assert asyncio.get_running_loop().time() - began < 5 * 0.6
    finally:
        await valkey.start()
    for n, email_id in enumerate(ids):
        await world.wait_for(email_id, "SUCCESS")
        assert world.deliveries(f"away {n}") == 1


async def test_a_consumer_killed_during_a_request_leaves_a_send_that_is_repeated(world: World) -> None:
    await world.start("ingress")
    first = await world.start("consumer")
    world.rules(Rule(action=Action.ACCEPT_THEN_HANG, times=1))
    email_id = (await world.send("killed")).email_id

    async def asked() -> bool:
        return bool(world.requests)

    await until(asked, "the provider has been asked")
    first.process.kill()
    await world.start("consumer")
    await world.wait_for(email_id, "SUCCESS", timeout_s=20)
    assert world.deliveries("killed") == 1
    assert len({request.idempotency_key for request in world.requests}) == 1
    await world.assert_redis_is_clean()


async def test_hazard_1_an_email_whose_ingress_is_killed_between_commit_and_publish_is_delivered(world: World) -> None:
    first = await world.start("ingress", SRED_EMAIL_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")  # nobody is there
    email_id = (await world.send("killed")).email_id
    first.process.kill()
    assert await world.redis.keys("*") == []
    await world.start_pair()
    await world.wait_for(email_id, "SUCCESS")
    assert world.deliveries("killed") == 1
    await world.assert_redis_is_clean()


async def test_when_the_ingress_that_reconciles_is_killed_another_one_does(world: World) -> None:
    services = [await world.start("ingress") for _ in range(2)]
    ids = [(await world.send(f"orphaned {n}")).email_id for n in range(5)]

    async def who_reconciles() -> list[bool]:
        metrics = [(await s.get("/metrics"))[1] for s in services if s.process.alive]
        told = ['sred_email_ingress_in_flight{where="places"}' in text for text in metrics]
        return told if any(told) else []

    reconciling = await until(who_reconciles, "one of them reconciles")
    assert sum(reconciling) == 1
    services[reconciling.index(True)].process.kill()
    await world.redis.flushall()
    await world.start("consumer")
    for n, email_id in enumerate(ids):
        await world.wait_for(email_id, "SUCCESS")
        assert world.deliveries(f"orphaned {n}") == 1
    await world.assert_redis_is_clean()


async def test_dead_letters_that_redis_forgot_are_shown_again(world: World) -> None:
    await world.start_pair()
    world.rules(Rule(action=Action.REJECT, status=422, name="validation_error"))
    email_id = (await world.send("refused")).email_id
    await world.wait_for(email_id, "FAILED")

    async def shown() -> object:
        entries = await world.redis.xrange(world.keys.dlq)
        return entries[0][1] if entries else None

    before = await until(shown, "the DLQ shows it")
    await world.redis.flushall()
    assert await until(shown, "the DLQ shows it again") == before
