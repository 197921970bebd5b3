"""Who gets in, and what others get to see."""

import aiohttp
import pytest
from playwright.async_api import Browser, expect

from sred.email.v1.operations_service_pb2 import ListAuditEntriesRequest
from support.browsing import Stack, Visit, visiting

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_who_shows_the_token_gets_to_the_page_they_asked_for_and_out_again(
    browser: Browser, stack: Stack
) -> None:
    async with visiting(browser, stack.console) as visit:
        await visit.open("/audit?from=somewhere")
        await expect(visit.page.get_by_role("heading", name="Log in")).to_be_visible()
        await visit.assert_accessible()
        await visit.log_in(token="this is not the token")
        await expect(visit.page.get_by_role("alert")).to_contain_text("not the console's token")
        await visit.log_in()
        await visit.page.wait_for_url(f"{stack.console}/audit")
        await expect(visit.page.get_by_text("Ada Œrsted", exact=True)).to_be_visible()
        await visit.page.get_by_role("button", name="Log out").click()
        await visit.open("/")
        await expect(visit.page.get_by_role("heading", name="Log in")).to_be_visible()


async def test_the_keyboard_reaches_the_content_first_and_then_every_page(visit: Visit) -> None:
    await visit.open("/")
    await visit.page.keyboard.press("Tab")
    await expect(visit.page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await visit.page.keyboard.press("Enter")
    await expect(visit.page.locator("main")).to_be_focused()


async def test_a_page_that_is_not_there_says_so(visit: Visit) -> None:
    await visit.open("/nowhere")
    await expect(visit.page.get_by_role("heading", name="There is no such page")).to_be_visible()
    await visit.assert_accessible()


async def test_headers_forbid_whatever_pages_do_not_need(stack: Stack) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{stack.console}/login") as response:
        assert response.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self';")
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["X-Frame-Options"] == "DENY"
        assert response.headers["Cache-Control"] == "no-store"


async def test_forms_from_elsewhere_and_forged_ones_change_nothing(stack: Stack) -> None:
    jar = aiohttp.CookieJar(unsafe=True)
    here = {"Origin": stack.proxied, "X-Forwarded-User": "mallory"}
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        async with session.get(f"{stack.proxied}/", headers=here) as response:
            assert response.status == 200
            assert "HttpOnly" in response.headers["Set-Cookie"]
            assert "SameSite=Strict" in response.headers["Set-Cookie"]
        key = next(cookie.value for cookie in jar if cookie.key == "console-forms")
        for headers, form in [
            ({**here, "Origin": "http://evil.example"}, {"csrf": key}),
            ({"X-Forwarded-User": "mallory"}, {"csrf": key}),
            (here, {}),
            (here, {"csrf": key[:-1] + "?"}),
        ]:
            async with session.post(f"{stack.proxied}/delivery/pause", headers=headers, data=form) as response:
                assert response.status == 403
    audit = await stack.world.operations().ListAuditEntries(ListAuditEntriesRequest(), timeout=5)
    assert not [entry for entry in audit.entries if "mallory" in entry.actor]


async def test_behind_a_proxy_nobody_is_let_in_whom_it_does_not_name(browser: Browser, stack: Stack) -> None:
    async with visiting(browser, stack.proxied) as visit:
        await visit.open("/")
        await expect(visit.page.get_by_role("heading", name="Not from here")).to_be_visible()
        await visit.page.set_extra_http_headers({"X-Forwarded-User": "grace"})
        await visit.open("/")
        await expect(visit.page.get_by_text("grace")).to_be_visible()
        assert not await visit.page.get_by_role("button", name="Log out").count()
