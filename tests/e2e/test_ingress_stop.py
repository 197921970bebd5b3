"""A rolling restart, as callers see it."""

import asyncio
import signal
from collections import Counter

import grpc

from support.world import World, email_request

_CALLERS = 40


async def test_an_ingress_that_stops_answers_every_call_or_lets_it_be_repeated(world: World) -> None:
    ingress = await world.start("ingress")
    stub = world.dispatch(ingress)
    codes: Counter[str] = Counter()
    accepted: list[str] = []
    stopped = asyncio.Event()

    async def call(caller: int) -> None:
        number = 0
        while not stopped.is_set():
            number += 1
            try:
                answer = await stub.SendEmail(email_request(f"stop {caller} {number}"), timeout=10)
                accepted.append(answer.email_id)
                codes["OK"] += 1
            except grpc.aio.AioRpcError as e:
                codes[e.code().name] += 1
                await asyncio.sleep(0)  # other callers go on

    callers = [asyncio.create_task(call(caller)) for caller in range(_CALLERS)]
    while codes["OK"] < 2 * _CALLERS:
        await asyncio.sleep(0.01)
    ingress.process.send_signal(signal.SIGTERM)
    assert await ingress.process.wait(15) == 0
    stopped.set()
    await asyncio.gather(*callers)
    assert set(codes) == {"OK", "UNAVAILABLE"}, codes
    assert await world.pool.fetchval("SELECT count(*) FROM email_send_log") >= len(accepted)
    known = await world.pool.fetchval("SELECT count(*) FROM email_send_log WHERE id = ANY ($1::uuid[])", accepted)
    assert known == len(accepted)
