"""A rolling restart of consumers while PostgreSQL does not answer."""

import signal
import time
from urllib.parse import urlsplit

from support.tcp_proxy import TcpProxy
from support.world import World, until


async def test_a_consumer_stops_in_time_while_postgres_hangs_and_what_it_had_is_sent_once(world: World) -> None:
    dsn = world.env["SRED_EMAIL_POSTGRES_DSN"]
    port = urlsplit(dsn).port
    assert port is not None
    await world.start("ingress")
    async with TcpProxy(port) as proxy:
        through_it = dsn.replace(f":{port}/", f":{proxy.port}/")
        consumer = await world.start("consumer", SRED_EMAIL_POSTGRES_DSN=through_it, SRED_EMAIL_DRAIN_TIMEOUT="2")
        assert await world.wait_for((await world.send("before")).email_id) == "SUCCESS"
        proxy.stall()
        email_id = (await world.send("hangs")).email_id

        async def taken() -> bool:
            group = (await world.redis.xinfo_groups("sred:email:send"))[0]
            return int(group["pending"]) > 0

        await until(taken, "the consumer has taken it, and waits for PostgreSQL")
        began_s = time.monotonic()
        consumer.process.send_signal(signal.SIGTERM)
        assert await consumer.process.wait(20) == 0
        assert time.monotonic() - began_s < 2 + 5 + 3
    await world.start("consumer")
    assert await world.wait_for(email_id) == "SUCCESS"
    assert world.deliveries("hangs") == 1
