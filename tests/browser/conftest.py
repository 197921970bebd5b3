"""One stack and one browser for all tests of the console; each test has a page of its own."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio
from playwright.async_api import Browser, StorageState

from sred_email_core.redis_connection import open_redis
from sred_email_local.engines import ValkeyServer
from sred_email_local.sandbox.provider import Options
from sred_email_local.sandbox.server import SandboxServer
from support.browsing import Stack, Visit, running_browser, running_consoles, visiting
from support.clean_databases import CleanDatabases
from support.world import World


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """A headless Chromium."""
    async with running_browser() as started:
        yield started


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def stack(
    browser: Browser,  # noqa: ARG001 - without one, nothing needs to be started
    databases: CleanDatabases,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Stack]:
    """The pair on a database and a Valkey of its own, since its processes live on from test to test."""
    folder = tmp_path_factory.mktemp("console")
    dsn = databases.dsn(await databases.lend())
    async with (
        ValkeyServer(folder) as valkey,
        open_redis(valkey.url, timeout=timedelta(seconds=5)) as redis,
        SandboxServer(options=Options(requests_per_second=0)) as sandbox,
        World(folder, dsn, valkey.url, redis, sandbox) as world,
        running_consoles(world) as running,
    ):
        yield running


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def logged_in(browser: Browser, stack: Stack) -> StorageState:
    """The cookies of who has logged in."""
    async with visiting(browser, stack.console) as visit:
        await visit.open("/login")
        await visit.log_in()
        await visit.page.wait_for_url(f"{stack.console}/")
        return await visit.page.context.storage_state()


@pytest_asyncio.fixture(loop_scope="session")
async def visit(browser: Browser, stack: Stack, logged_in: StorageState) -> AsyncIterator[Visit]:
    """A page of the console, logged in."""
    async with visiting(browser, stack.console, storage_state=logged_in) as page:
        yield page


@pytest_asyncio.fixture(loop_scope="session")
async def looker(browser: Browser, stack: Stack, logged_in: StorageState) -> AsyncIterator[Visit]:
    """A page of the console that changes nothing, logged in: cookies know no ports, and the token is the same."""
    async with visiting(browser, stack.read_only, storage_state=logged_in) as page:
        yield page
