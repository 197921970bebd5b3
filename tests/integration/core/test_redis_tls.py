"""Connections with TLS, to a Redis that has it: the Valkey that comes along has not."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from redis.exceptions import ConnectionError  # noqa: A004 - as it is named there

from sred_email_core.redis_address import RedisCertificates
from sred_email_core.redis_connection import open_redis
from sred_email_local.ports import LOOPBACK, free_port
from sred_email_local.process import Process
from support.redis_cluster import PREFIX
from support.world import until

PROGRAM = shutil.which("redis-server")
PATIENCE = timedelta(seconds=2)

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs redis-server with TLS: apt-get install redis-server")


@dataclass(frozen=True, slots=True)
class Secured:
    """A cluster of one node, which asks for certificates; to who does not ask for a cluster it is a server."""

    port: int
    folder: Path
    certificates: RedisCertificates

    @property
    def node(self) -> str:
        return f"{LOOPBACK}:{self.port}"


@pytest.fixture
async def secured(tmp_path: Path) -> AsyncIterator[Secured]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    write(authority.issue_cert(LOOPBACK), tmp_path, "server")
    write(authority.issue_cert("sred-email"), tmp_path, "client")
    port = free_port()
    process = Process(
        "Redis",
        [
            str(PROGRAM),
            *("--port", "0", "--tls-port", str(port), "--bind", LOOPBACK, "--dir", str(tmp_path), "--save", ""),
            *("--tls-cert-file", "server.pem", "--tls-key-file", "server.key", "--tls-ca-cert-file", "ca.pem"),
            *("--tls-auth-clients", "yes", "--tls-cluster", "yes", "--cluster-enabled", "yes"),
            *("--cluster-port", str(free_port()), "--cluster-announce-ip", LOOPBACK),
        ],
        env={"PATH": "/usr/bin:/bin"},
        log=tmp_path / "redis.log",
    )
    process.start()
    found = RedisCertificates(*(str(tmp_path / name) for name in ("ca.pem", "client.pem", "client.key")))
    server = Secured(port, tmp_path, found)
    try:
        async with open_redis(f"rediss://{server.node}", timeout=PATIENCE, certificates=found) as redis:
            assert await until(lambda: answers(redis), "Redis answers")
            await redis.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)  # type: ignore[no-untyped-call]
            await until(lambda: answers(redis, "SET", PREFIX, ""), "the cluster is formed")
        yield server
    finally:
        process.kill()


async def test_a_server_and_a_cluster_are_connected_to_with_certificates_on_both_sides(secured: Secured) -> None:
    for url in (f"rediss://{secured.node}", f"rediss+cluster://{secured.node}"):
        async with open_redis(url, timeout=PATIENCE, prefix=PREFIX, certificates=secured.certificates) as redis:
            assert await redis.get(PREFIX) == b""


async def test_who_is_not_known_or_shows_nothing_gets_no_connection(secured: Secured) -> None:
    other = trustme.CA()
    other.cert_pem.write_to_path(str(secured.folder / "other.pem"))
    good = secured.certificates
    for certificates in (
        RedisCertificates(str(secured.folder / "other.pem"), good.cert_file, good.key_file),
        RedisCertificates(None, good.cert_file, good.key_file),
        RedisCertificates(good.ca_file),
    ):
        async with open_redis(f"rediss://{secured.node}", timeout=PATIENCE, certificates=certificates) as redis:
            with pytest.raises(ConnectionError):
                await redis.ping()
    async with open_redis(f"rediss://localhost:{secured.port}", timeout=PATIENCE, certificates=good) as redis:
        with pytest.raises(ConnectionError, match="localhost"):  # the certificate is for the address
            await redis.ping()
    async with open_redis(f"redis://{secured.node}", timeout=PATIENCE) as redis:
        with pytest.raises(ConnectionError):
            await redis.ping()


async def test_certificates_that_are_replaced_are_read_again_for_new_connections(secured: Secured) -> None:
    other = trustme.CA()
    other.cert_pem.write_to_path(str(secured.folder / "other.pem"))
    copy(secured.folder, "ca.pem", "right.pem")
    copy(secured.folder, "other.pem", "ca.pem")
    async with open_redis(
        f"rediss://{secured.node}", timeout=PATIENCE, certificates=secured.certificates, max_connections=1
    ) as redis:
        with pytest.raises(ConnectionError):
            await redis.ping()
        copy(secured.folder, "right.pem", "ca.pem")
        assert await redis.ping()


async def answers(redis: Any, *command: str) -> bool:
    try:
        return bool(await redis.execute_command(*(command or ("PING",))))
    except ConnectionError:
        await asyncio.sleep(0.05)
        return False


def copy(folder: Path, source: str, target: str) -> None:
    shutil.copy(folder / source, folder / target)


def write(certificate: trustme.LeafCert, folder: Path, name: str) -> None:
    certificate.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
    certificate.private_key_pem.write_to_path(str(folder / f"{name}.key"))
