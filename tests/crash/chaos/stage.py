"""Everything that takes part in a run: engines, provider, the services and the connections between them."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from crash.chaos.options import SERVICE_SETTINGS, Options
from crash.chaos.postbox import Postbox
from crash.chaos.schedule import Upstream
from sred_email_core.email_send_log.migrate import migrate
from sred_email_core.redis_connection import open_redis
from sred_email_local.engines import PostgresServer, ValkeyServer
from sred_email_local.ports import LOOPBACK
from sred_email_local.process import describe_exit
from sred_email_local.sandbox.provider import Options as ProviderOptions
from sred_email_local.sandbox.server import SandboxServer
from support.tcp_proxy import TcpProxy
from support.world import Service, World

_POLL_S = 0.02
_DRAINED = frozenset({0, -signal.SIGTERM})
"""How a service ends by SIGTERM; by the signal itself, if it came before the service was there to hear it."""


class Keeper:
    """Starts a service again when it has ended, as an orchestrator would, and tells ends that nobody asked for."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.unasked: list[str] = []
        self._down_s: float | None = None  # not None: its end is asked for
        self._terminated = False

    @property
    def name(self) -> str:
        """Of the process."""
        return self.service.process.name

    def kill(self, down_s: float) -> bool:
        """SIGKILL; whether it ran. It is started again after some seconds."""
        if not self.service.process.alive:
            return False
        self._down_s, self._terminated = down_s, False
        self.service.process.kill()
        return True

    def terminate(self, down_s: float) -> bool:
        """SIGTERM; whether it ran. It is started again some seconds after its end."""
        if not self.service.process.alive:
            return False
        self._down_s, self._terminated = down_s, True
        self.service.process.send_signal(signal.SIGTERM)
        return True

    def freeze(self) -> bool:
        """SIGSTOP; whether it ran."""
        self.service.process.send_signal(signal.SIGSTOP)
        return self.service.process.alive

    def thaw(self) -> None:
        """SIGCONT."""
        self.service.process.send_signal(signal.SIGCONT)

    async def run(self) -> None:
        """Keep it running until cancelled."""
        while True:
            await asyncio.sleep(_POLL_S)
            code = self.service.process.exit_code
            if code is None:
                continue
            if self._down_s is None or (self._terminated and code not in _DRAINED):
                asked = "after SIGTERM" if self._terminated else "by itself"
                self.unasked.append(f"{self.name} ended {asked} with {describe_exit(code)}")
            await asyncio.sleep(self._down_s or 0)
            self._down_s, self._terminated = None, False
            self.service.process.kill()  # what it may have left behind
            self.service.process.start()


@dataclass(slots=True)
class Stage:
    """What takes part.

    Attributes:
        links: The connections of each service, by its name and where they lead.
    """

    options: Options
    world: World
    postgres: PostgresServer
    valkey: ValkeyServer
    postbox: Postbox
    keepers: dict[str, Keeper] = field(default_factory=dict)
    links: dict[tuple[str, Upstream], TcpProxy] = field(default_factory=dict)

    @property
    def ingresses(self) -> list[Service]:
        """The services that take calls."""
        return [keeper.service for keeper in self.keepers.values() if keeper.service.kind == "ingress"]

    def links_of(self, service: str | None, upstream: Upstream | None) -> list[TcpProxy]:
        """The connections of a service, or of all, to one upstream or to all."""
        return [
            link for (who, where), link in self.links.items() if service in {None, who} and upstream in {None, where}
        ]


@asynccontextmanager
async def open_stage(options: Options) -> AsyncIterator[Stage]:
    """Everything, running and ready; all of it ends with the context."""
    async with AsyncExitStack() as stack:
        postgres = await stack.enter_async_context(PostgresServer(options.folder / "postgres"))
        await migrate(postgres.dsn)
        valkey = await stack.enter_async_context(ValkeyServer(options.folder / "valkey"))
        sandbox = await stack.enter_async_context(SandboxServer(options=ProviderOptions(requests_per_second=0)))
        postbox = sandbox.provider.mailbox = Postbox()
        redis = await stack.enter_async_context(open_redis(valkey.url, timeout=timedelta(seconds=5)))
        world = await stack.enter_async_context(World(options.folder, postgres.dsn, valkey.url, redis, sandbox))
        stage = Stage(options, world, postgres, valkey, postbox)
        names = [f"ingress{n}" for n in range(options.ingresses)] + [f"consumer{n}" for n in range(options.consumers)]
        for name in names:
            await _launch(stack, stage, name)
        await asyncio.gather(*(keeper.service.ready() for keeper in stage.keepers.values()))
        tasks = [asyncio.create_task(keeper.run(), name=keeper.name) for keeper in stage.keepers.values()]
        try:
            yield stage
        finally:
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks)


async def _launch(stack: AsyncExitStack, stage: Stage, name: str) -> None:
    kind = name.rstrip("0123456789")
    ports = {Upstream.POSTGRES: stage.postgres.port, Upstream.VALKEY: stage.valkey.port}
    if kind == "consumer":
        ports[Upstream.PROVIDER] = stage.world.sandbox.port
    links = {where: await stack.enter_async_context(TcpProxy(port)) for where, port in ports.items()}
    service = stage.world.launch(kind, **SERVICE_SETTINGS, **_addresses(links))
    assert service.process.name == name
    stage.keepers[name] = Keeper(service)
    stage.links.update({(name, where): link for where, link in links.items()})


def _addresses(links: Mapping[Upstream, TcpProxy]) -> dict[str, str]:
    addresses = {
        "SRED_EMAIL_POSTGRES_DSN": f"postgresql://postgres@{LOOPBACK}:{links[Upstream.POSTGRES].port}/postgres",
        "SRED_EMAIL_REDIS_URL": f"redis://{LOOPBACK}:{links[Upstream.VALKEY].port}/0",
    }
    if Upstream.PROVIDER in links:
        addresses["SRED_EMAIL_RESEND_BASE_URL"] = f"http://{LOOPBACK}:{links[Upstream.PROVIDER].port}"
    return addresses
