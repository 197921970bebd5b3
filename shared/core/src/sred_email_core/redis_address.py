"""Where Redis is: one server, behind Sentinels, or a cluster; told by one URL."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import parse_qsl, unquote

_URL = re.compile(
    r"(?P<scheme>[a-z+]+)://(?:(?P<user>[^@/?#]*)@)?(?P<hosts>[^/?#]*)(?P<path>/[^?#]*)?(?:\?(?P<options>.*))?"
)
_HOST = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^:\[\]\s]+)(?::(?P<port>\d{1,5}))?")
_HASH_TAG = re.compile(r"^[^{]*\{[^}]+\}")
_SENTINEL_PORT, _REDIS_PORT = 26379, 6379


class Topology(StrEnum):
    """How many servers there are, and who says which of them is in charge."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


_SCHEMES = {
    "redis": (Topology.SINGLE, False),
    "rediss": (Topology.SINGLE, True),
    "unix": (Topology.SINGLE, False),
    "redis+sentinel": (Topology.SENTINEL, False),
    "rediss+sentinel": (Topology.SENTINEL, True),
    "redis+cluster": (Topology.CLUSTER, False),
    "rediss+cluster": (Topology.CLUSTER, True),
}
_OPTIONS: dict[str, frozenset[str]] = {
    "unix": frozenset({"db"}),
    "redis+sentinel": frozenset({"sentinel_username", "sentinel_password"}),
    "rediss+sentinel": frozenset({"sentinel_username", "sentinel_password"}),
}


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who a client is; both None: the user default, without a password."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class RedisCertificates:
    """Files for connections with TLS, read anew for each connection.

    Attributes:
        ca_file: Who signs the servers' certificates; None: those whom this machine trusts.
        cert_file: This client's certificate; None: it shows none.
        key_file: The key of that.
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A URL, understood.

    Attributes:
        topology: What stands there.
        nodes: Host and port of the server, of the Sentinels, or of some nodes of the cluster; empty: it is a socket.
        tls: Whether connections are encrypted, those to Sentinels too.
        credentials: For the servers.
        database: Number of the logical database.
        service: What the Sentinels call the servers; empty: there are no Sentinels.
        sentinel_credentials: For the Sentinels.
        path: Of the socket; empty: it is none.
    """

    topology: Topology
    nodes: tuple[tuple[str, int], ...]
    tls: bool = False
    credentials: Credentials = Credentials()
    database: int = 0
    service: str = ""
    sentinel_credentials: Credentials = Credentials()
    path: str = ""


def parse_redis_url(url: str) -> RedisAddress:
    """Understand a URL.

    Args:
        url: ``redis://[user:password@]host[:port][/db]``, ``rediss://…`` with TLS, ``unix://[user:password@]/path[?db=n]``,
            ``redis+sentinel://[user:password@]host[:port][,…]/service[/db][?sentinel_username=…&sentinel_password=…]``,
            ``redis+cluster://[user:password@]host[:port][,…]``, and both of these with ``rediss``. What a name or a
            password holds besides letters and digits is percent-encoded.

    Raises:
        ValueError: It can't be understood; the text says what is wrong, and nothing of what the URL holds.
    """
    match = _URL.fullmatch(url)
    if not match or match["scheme"] not in _SCHEMES:
        schemes = ", ".join(f"{scheme}://" for scheme in _SCHEMES)
        raise ValueError(f"must begin with one of {schemes}")
    scheme, path = match["scheme"], unquote(match["path"] or "")
    topology, tls = _SCHEMES[scheme]
    credentials = _credentials(match["user"])
    options = _options(scheme, match["options"] or "")
    if scheme == "unix":
        if not path or match["hosts"]:
            raise ValueError("must name a socket, for example unix:///run/redis.sock")
        return RedisAddress(topology, (), credentials=credentials, database=_database(options.get("db", "")), path=path)
    nodes = _nodes(match["hosts"], _SENTINEL_PORT if topology is Topology.SENTINEL else _REDIS_PORT)
    service, database = "", path.strip("/")
    if topology is Topology.SENTINEL:
        service, _, database = path.strip("/").partition("/")
        if not service:
            raise ValueError("must name the service that the Sentinels watch: redis+sentinel://host:26379/service")
    if topology is Topology.SINGLE and len(nodes) > 1:
        raise ValueError("several hosts are redis+sentinel://… or redis+cluster://…")
    if topology is Topology.CLUSTER and database not in ("", "0"):
        raise ValueError("a cluster has the database 0 only")
    return RedisAddress(
        topology,
        nodes,
        tls=tls,
        credentials=credentials,
        database=_database(database),
        service=service,
        sentinel_credentials=Credentials(options.get("sentinel_username"), options.get("sentinel_password")),
    )


def check_prefix(address: RedisAddress, prefix: str) -> None:
    """Return if keys under this prefix can be used there.

    Raises:
        ValueError: They would be spread over a cluster, where a script can touch the keys of one slot only.
    """
    if address.topology is Topology.CLUSTER and not _HASH_TAG.match(prefix):
        raise ValueError(f"must hold a hash tag on a cluster, so that all keys are in one slot: {{{prefix}}}")


def _credentials(text: str | None) -> Credentials:
    if not text:
        return Credentials()
    username, _, password = text.partition(":")
    return Credentials(unquote(username) or None, unquote(password) or None)


def _options(scheme: str, text: str) -> dict[str, str]:
    options = dict(parse_qsl(text, keep_blank_values=True))
    known = _OPTIONS.get(scheme, frozenset())
    if not options.keys() <= known:
        allowed = f"may have the options {', '.join(sorted(known))} only" if known else "takes no options"
        raise ValueError(f"a URL that begins with {scheme}:// {allowed}; certificates have variables of their own")
    return {name: value for name, value in options.items() if value}


def _nodes(text: str, default_port: int) -> tuple[tuple[str, int], ...]:
    found = []
    for part in text.split(","):
        match = _HOST.fullmatch(part.strip())
        port = int(match["port"] or default_port) if match else 0
        if not match or not 0 < port < 65536:  # noqa: PLR2004 - the range of ports
            raise ValueError("must name a host, or host:port; several, where they are allowed, separated by commas")
        found.append((match["host"].strip("[]"), port))
    return tuple(found)


def _database(text: str) -> int:
    if not re.fullmatch(r"\d{0,5}", text):
        raise ValueError("must end with the number of a database, or with none")
    return int(text or 0)
