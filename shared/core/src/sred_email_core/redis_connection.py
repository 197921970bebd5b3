"""The connection to Redis: always to the server in charge, and nothing is repeated behind anybody's back."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ConnectionError,  # noqa: A004 - the library's
    ReadOnlyError,
    TimeoutError,  # noqa: A004 - the library's
    TryAgainError,
)

from sred_email_core.redis_address import Credentials, RedisAddress, RedisCertificates, Topology, parse_redis_url
from sred_email_core.redis_primary import ClusterPrimary, Node, OnlyServer, Primary, SentinelPrimary

_NOT_IN_CHARGE = (ReadOnlyError, AskError, ClusterDownError)
"""READONLY; ASK and MOVED; CLUSTERDOWN and MASTERDOWN."""
_ASKING_TIMEOUT_S = 1.0
"""For one Sentinel or node that is asked who is in charge: then the next one is."""
_MOST_CONNECTIONS = 100


class _InCharge(AbstractConnection):
    """A connection that is good for the server in charge only.

    What says "not here, not now" (READONLY, MOVED, ASK, TRYAGAIN, CLUSTERDOWN, MASTERDOWN, LOADING) is told as a
    ConnectionError: nothing was done, and it may be tried again later.
    """

    def __init__(self, *, primary: Primary, **kwargs: Any) -> None:  # noqa: ANN401 - the library's options
        super().__init__(**kwargs)
        self._primary = primary
        self._generation = primary.generation
        self.server: dict[str, Any] = {}
        """What the server says of itself: ``server``, ``version``, ``mode``, ``role`` and more."""

    async def connect(self) -> None:
        """Connect, unless it is connected to the server that is thought to be in charge."""
        if self._generation != self._primary.generation:
            await self.disconnect()
            self._generation = self._primary.generation
        await super().connect()  # type: ignore[no-untyped-call] # so in the library

    async def on_connect_check_health(self, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - the library's signature
        """Introduce this client.

        Raises:
            ConnectionError: The server is a replica.
        """
        await super().on_connect_check_health(check_health)
        await self.send_command("HELLO", self.protocol, check_health=check_health)
        told = [part.decode() if isinstance(part, bytes) else part for part in await self.read_response()]
        self.server = dict(zip(told[::2], told[1::2], strict=False))
        if self.server.get("role") == "replica":
            self._primary.doubt(self._generation)
            raise ConnectionError(f"{self._host_error()} is a replica: nothing is read from one")

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - the library's signature
        """Send a command.

        Raises:
            ConnectionError: The connection is gone; uvloop says so by a RuntimeError.
        """
        try:
            await super().send_packed_command(command, check_health)
        except RuntimeError as e:
            raise ConnectionError(str(e)) from e

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever Redis answers
        """Read the answer to a command.

        Raises:
            ConnectionError: The server is not in charge, or can't serve now.
        """
        try:
            return await super().read_response(*args, **kwargs)
        except TryAgainError as e:
            raise ConnectionError(f"{self._host_error()}: the slot of the keys is being moved: {e}") from e
        except _NOT_IN_CHARGE as e:
            self._primary.doubt(self._generation)
            await self.disconnect(nowait=True)
            raise ConnectionError(f"{self._host_error()} is not in charge now: {type(e).__name__} {e}") from e
        except (ConnectionError, TimeoutError, OSError):
            self._primary.miss(self._generation)
            raise


class _TcpConnection(_InCharge, Connection):
    """Over TCP, to wherever the server in charge is."""

    async def _connect(self) -> None:
        self.host, self.port = await self._primary.find()
        try:
            await super()._connect()  # type: ignore[no-untyped-call] # so in the library
        except OSError:  # TimeoutError of asyncio is one
            self._primary.miss(self._generation)
            raise


class _TlsConnection(_TcpConnection, SSLConnection):
    """The same with TLS."""

    async def _connect(self) -> None:
        self.ssl_context.context = None  # certificates are replaced while we run
        await super()._connect()


class _SocketConnection(_InCharge, UnixDomainSocketConnection):
    """Over a socket of this machine."""


@asynccontextmanager
async def open_redis(
    url: str,
    *,
    timeout: timedelta,
    prefix: str = "sred:email",
    certificates: RedisCertificates | None = None,
    max_connections: int | None = None,
) -> AsyncIterator[Redis]:
    """A client while the context is open; it connects when first used, to the server in charge.

    The library repeats commands on its own by default, around both the sending and the answer. Here it does not: each
    caller knows whether a repeat is safe and how long it may take.

    Args:
        url: See ``parse_redis_url``.
        timeout: For connecting and for each answer.
        prefix: Of the keys; on a cluster it decides whose they are.
        certificates: For TLS.
        max_connections: The most connections; None: 100.
    """
    address = parse_redis_url(url)
    timeout_s = timeout.total_seconds()
    encryption = _encryption(certificates or RedisCertificates()) if address.tls else {}
    primary = _primary(address, prefix, min(timeout_s, _ASKING_TIMEOUT_S), encryption)
    connection_class = _SocketConnection if address.path else _TlsConnection if address.tls else _TcpConnection
    pool = ConnectionPool(
        connection_class,
        max_connections or _MOST_CONNECTIONS,
        primary=primary,
        db=address.database,
        **_options(address.credentials, timeout_s),
        **({"path": address.path} if address.path else {"socket_keepalive": True, **encryption}),
    )
    client: Redis = Redis(connection_pool=pool)
    try:
        yield client
    finally:
        await client.aclose()
        await pool.aclose()
        await primary.aclose()


async def server_of(redis: Redis) -> dict[str, Any]:
    """What the server in charge says of itself: ``server``, ``version``, ``mode``, ``role`` and more.

    Raises:
        RedisError: It does not answer.
    """
    pool: Any = redis.connection_pool
    connection: _InCharge = await pool.get_connection()
    try:
        return connection.server
    finally:
        await pool.release(connection)


def _options(credentials: Credentials, timeout_s: float) -> dict[str, Any]:
    return {
        "username": credentials.username,
        "password": credentials.password,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "driver_info": None,  # CLIENT SETINFO is one command more to be allowed
    }


def _encryption(certificates: RedisCertificates) -> dict[str, Any]:
    return {
        "ssl_ca_certs": certificates.ca_file,
        "ssl_certfile": certificates.cert_file,
        "ssl_keyfile": certificates.key_file,
    }


def _primary(address: RedisAddress, prefix: str, timeout_s: float, encryption: dict[str, Any]) -> Primary:
    ssl = {"ssl": True, **encryption} if address.tls else {}
    if address.topology is Topology.SENTINEL:
        options = _options(address.sentinel_credentials, timeout_s)
        sentinel = Sentinel(address.nodes, sentinel_kwargs={**options, **ssl})  # type: ignore[no-untyped-call] # so there
        return SentinelPrimary(sentinel, address.service)
    if address.topology is Topology.CLUSTER:
        options = _options(address.credentials, timeout_s)

        def open_node(node: Node) -> Redis:
            return Redis(host=node[0], port=node[1], **options, **ssl)

        return ClusterPrimary(address.nodes, prefix, open_node)
    return OnlyServer(address.nodes[0] if address.nodes else ("", 0))
