"""The console as operators see it: a browser on the running pair."""

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, ViewportSize, async_playwright, expect

from sred_email_local.ports import LOOPBACK, free_port
from sred_email_operator.console.app import running_console
from sred_email_operator.console.settings import ConsoleSettings, Login
from support.world import World

TOKEN = "a-token-for-the-tests-of-the-console"
OPERATOR = "Ada Œrsted"
PATIENCE_MS = 30_000
PHONE = ViewportSize(width=360, height=740)
expect.set_options(timeout=PATIENCE_MS)
_GRAVE = ("serious", "critical")


@dataclass(frozen=True, slots=True)
class Stack:
    """The pair, and consoles upon it.

    Attributes:
        world: Engines, provider, services.
        console: Where the console is.
        read_only: Where the one is that changes nothing.
        proxied: Where the one is whose proxy says who is there, in X-Forwarded-User.
    """

    world: World
    console: str
    read_only: str
    proxied: str


@dataclass(slots=True)
class Visit:
    """One page of the browser, which notes whatever is not as it should be.

    Attributes:
        page: Playwright's.
        url: Of the console.
        problems: Scripts that failed, and what the content security policy held back.
    """

    page: Page
    url: str
    problems: list[str] = field(default_factory=list)

    async def open(self, path: str) -> None:
        """Load a page of the console."""
        await self.page.goto(self.url + path)

    async def log_in(self, token: str = TOKEN, name: str = OPERATOR) -> None:
        """Show the token."""
        await self.page.get_by_label("Your name").fill(name)
        await self.page.get_by_label("Token").fill(token)
        await self.page.get_by_role("button", name="Log in").click()

    async def text(self) -> str:
        """What the page's content says."""
        return await self.page.locator("main").inner_text()

    async def assert_accessible(self) -> None:
        """No serious finding of axe; no scrolling to the side on a phone, in light and dark."""
        for scheme in ("light", "dark"):
            await self.page.emulate_media(color_scheme=scheme)
            await self.page.evaluate("Promise.all(document.getAnimations().map(one => one.finished)).then(() => null)")
            found = (await Axe().run(self.page)).response["violations"]
            grave = [f"{v['id']}: {[n['html'] for n in v['nodes']]}" for v in found if v["impact"] in _GRAVE]
            assert not grave, f"{self.page.url} in {scheme}: {grave}"
        before = self.page.viewport_size
        await self.page.set_viewport_size(PHONE)
        beyond = await self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert beyond <= 0, f"{self.page.url} is {beyond} pixels too wide for a phone"
        await self.page.set_viewport_size(before or PHONE)


def chromium() -> str:
    """Where Chromium is; without one, the test is skipped."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on the PATH: apt-get install chromium")
    return path


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """A headless Chromium."""
    path = chromium()
    async with async_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        async with await playwright.chromium.launch(executable_path=path, args=options) as browser:
            yield browser


@asynccontextmanager
async def running_consoles(world: World) -> AsyncIterator[Stack]:
    """The pair with its consoles."""
    ingress, consumer = await world.start_pair(timeout_s=60)
    settings = {
        "console": ConsoleSettings(port=free_port(), token=TOKEN),
        "read_only": ConsoleSettings(port=free_port(), token=TOKEN, read_only=True),
        "proxied": ConsoleSettings(port=free_port(), login=Login.PROXY, user_header="X-Forwarded-User"),
    }
    async with AsyncExitStack() as consoles:
        for each in settings.values():
            await consoles.enter_async_context(running_console(each, ingress.address, consumer.address))
        yield Stack(world, **{name: f"http://{LOOPBACK}:{each.port}" for name, each in settings.items()})


@asynccontextmanager
async def visiting(browser: Browser, url: str, **options: object) -> AsyncIterator[Visit]:
    """A page of a browser without cookies; at the end nothing may have gone wrong on it."""
    async with await browser.new_context(**options) as context:  # type: ignore[arg-type]
        page = await context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        visit = Visit(page, url)
        page.on("pageerror", lambda error: visit.problems.append(str(error)))
        page.on(
            "console",
            lambda said: visit.problems.append(said.text) if "Content Security Policy" in said.text else None,
        )
        yield visit
        assert not visit.problems
