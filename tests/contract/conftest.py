"""The clients that are held to one contract: the fakes and the real ones, with and without asyncio."""

import itertools
from collections.abc import AsyncIterator, Iterator
from typing import cast

import pytest

from sred_email_client import EmailClient, SyncEmailClient
from sred_email_client.testing import FakeEmailClient, FakeSyncEmailClient
from sred_email_local.engines import PostgresServer
from support.awaited import Awaited
from support.ingress_process import running_ingress


@pytest.fixture(scope="module")
def ingress_address(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_ingress(postgres, tmp_path_factory.mktemp("ingress")) as address:
        yield address


@pytest.fixture(params=["fake", "fake sync", "real", "real sync"])
def face(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Which client, and where its ingress is: a fake starts none."""
    real = request.param.startswith("real")
    return request.param, request.getfixturevalue("ingress_address") if real else ""


@pytest.fixture
async def client(face: tuple[str, str]) -> AsyncIterator[EmailClient]:
    name, address = face
    if name.endswith("sync"):
        with SyncEmailClient(address) if address else FakeSyncEmailClient() as sync:
            yield cast("EmailClient", Awaited(sync))
    else:
        async with EmailClient(address) if address else FakeEmailClient() as opened:
            yield opened


_keys = (f"contract-{number}" for number in itertools.count(1))


@pytest.fixture
def key() -> str:
    """A key that no other test uses."""
    return next(_keys)
