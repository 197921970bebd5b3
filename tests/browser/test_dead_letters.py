"""Dead letters in the console: what they have in common, one by one, and what is done with them."""

import uuid
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import expect

from sred.email.v1 import operations_service_pb2 as pb
from sred_email_local.sandbox.rules import Rule
from support.browsing import OPERATOR, TOKEN, Stack, Visit
from support.many_letters import multiply
from support.world import World

pytestmark = pytest.mark.asyncio(loop_scope="session")
LETTERS = "/dead-letters"
WAYS = (
    *("/dead-letters/ask", "/dead-letters/do", "/dead-letters/work"),
    *("/suppressions/add", "/suppressions/remove", "/suppressions/erase", "/suppressions/erase/ask"),
)


@pytest_asyncio.fixture(loop_scope="session")
async def world(stack: Stack) -> AsyncIterator[World]:
    """The pair, without dead letters, before and after."""
    await forget_letters(stack.world)
    yield stack.world
    await forget_letters(stack.world)


async def forget_letters(world: World) -> None:
    world.rules()
    for _ in range(2):
        await world.operations().DiscardDeadLetters(pb.DiscardDeadLettersRequest(all=True), timeout=20)


async def dead_letter(world: World, to: str, message: str = "No such planet.") -> str:
    """An email that the provider refused; its id."""
    world.rules(Rule(status=422, name="validation_error", message=message, times=1))
    email_id = (await world.send("Hello", to=[to], idempotency_key=uuid.uuid4().hex)).email_id
    await world.wait_for(email_id, "FAILED")
    return email_id


async def last_deed(world: World) -> tuple[str, int, str]:
    """Action, count and actor of the newest audit entry."""
    audit = await world.operations().ListAuditEntries(pb.ListAuditEntriesRequest(page_size=1), timeout=5)
    return audit.entries[0].action, audit.entries[0].count, audit.entries[0].actor


async def test_letters_are_shown_in_groups_and_a_group_as_a_list(visit: Visit, world: World) -> None:
    first = await dead_letter(world, "ada@example.com", "No room for ada@example.com.")
    await dead_letter(world, "bob@example.com", "No room for bob@example.com.")
    await multiply(world.pool, first, 1, reason="OUTCOME_UNKNOWN", error="no answer: timeout")
    await visit.open(LETTERS)
    groups = visit.page.get_by_role("region", name="What they have in common").locator("tbody tr")
    await expect(groups).to_have_count(2)
    await expect(groups.first).to_contain_text("No room for …")
    await expect(groups.first.locator("td[data-name=Letters]")).to_have_text("2")
    await visit.assert_accessible()
    await groups.first.get_by_role("link").click()
    rows = visit.page.get_by_role("region", name="The latest").locator("tbody tr")
    await expect(rows).to_have_count(2)
    await expect(rows.first).to_contain_text("bob@example.com")
    await visit.open(f"{LETTERS}?reason=OUTCOME_UNKNOWN&kind=SYSTEM_NOTIFICATION")
    await expect(visit.page.locator("tbody tr")).to_have_count(1)


async def test_the_list_goes_on_over_its_pages(visit: Visit, world: World) -> None:
    first = await dead_letter(world, "ada@example.com")
    await multiply(world.pool, first, 59)
    await visit.open(f"{LETTERS}?reason=REJECTED")
    await expect(visit.page.locator("tbody tr")).to_have_count(50)
    await visit.page.get_by_role("link", name="Next page").click()
    await expect(visit.page.locator("tbody tr")).to_have_count(10)


async def test_one_letter_is_looked_at_with_its_timeline_and_sent_again(visit: Visit, world: World) -> None:
    email_id = await dead_letter(world, "ada@example.com")
    await visit.open(LETTERS)
    await visit.page.get_by_role("region", name="The latest").locator("tbody a").click()
    await expect(visit.page.locator(".timeline")).to_contain_text("ACCEPTED")
    await expect(visit.page.locator(".facts")).to_contain_text("No such planet.")
    await visit.assert_accessible()
    await visit.page.get_by_role("button", name="Send again …").click()
    await expect(visit.page.get_by_role("heading", name="Send 1 dead letter again?")).to_be_visible()
    await visit.assert_accessible()
    await visit.page.get_by_role("button", name="Send again").click()
    await expect(visit.page.get_by_role("status")).to_have_text("1 dead letter sent again.")
    await world.wait_for(email_id, "SUCCESS")
    action, count, actor = await last_deed(world)
    assert (action, count) == ("REPLAY", 1)
    assert OPERATOR in actor


async def test_ticked_letters_are_sent_again_by_the_keyboard_alone(visit: Visit, world: World) -> None:
    emails = {to: await dead_letter(world, to) for to in ("ada@example.com", "bob@example.com", "eve@example.com")}
    await visit.open(LETTERS)
    keyboard = visit.page.keyboard

    async def tab_to(name: str) -> None:
        for _ in range(60):
            await keyboard.press("Tab")
            named = await visit.page.evaluate("document.activeElement.ariaLabel || document.activeElement.textContent")
            if named.strip() == name:
                return
        raise AssertionError(name)

    for to in ("eve@example.com", "ada@example.com"):
        await tab_to(f"Tick the letter of {to}")
        await keyboard.press("Space")
    await tab_to("Send ticked again …")
    await keyboard.press("Enter")
    await expect(visit.page.get_by_role("heading", name="Send 2 dead letters again?")).to_be_visible()
    await tab_to("Send again")
    await keyboard.press("Enter")
    await expect(visit.page.get_by_role("status")).to_have_text("2 dead letters sent again.")
    for to in ("eve@example.com", "ada@example.com"):
        await world.wait_for(emails[to], "SUCCESS")
    assert await world.status(emails["bob@example.com"]) == "FAILED"


async def test_a_double_is_warned_of_and_only_risked_when_ticked(visit: Visit, world: World) -> None:
    first = await dead_letter(world, "ada@example.com")
    await multiply(world.pool, first, 1, reason="OUTCOME_UNKNOWN")
    for ticked, said in ((False, "No dead letter sent again. 1 left as they are"), (True, "1 dead letter sent again.")):
        await visit.open(f"{LETTERS}?reason=OUTCOME_UNKNOWN")
        await visit.page.get_by_role("checkbox").check()
        await visit.page.get_by_role("button", name="Send ticked again …").click()
        await expect(visit.page.locator(".told.bad")).to_contain_text("it may arrive twice")
        await visit.assert_accessible()
        await visit.page.get_by_label("although they may arrive twice").set_checked(ticked)
        await visit.page.get_by_role("button", name="Send again").click()
        await expect(visit.page.get_by_role("status")).to_contain_text(said)


@pytest.mark.parametrize(
    ("button", "verb", "said", "status", "deed"),
    [
        ("Ticked were delivered …", "Record it", "1 dead letter recorded as delivered.", "SUCCESS", "RESOLVE"),
        ("Ticked were not delivered …", "Record it", "1 dead letter recorded as not delivered.", "FAILED", "RESOLVE"),
        ("Throw ticked away …", "Throw away", "1 dead letter thrown away.", "FAILED", "DISCARD"),
    ],
)
async def test_ticked_letters_are_ended_without_sending(  # noqa: PLR0913, PLR0917 - a row of the table
    visit: Visit, world: World, button: str, verb: str, said: str, status: str, deed: str
) -> None:
    email_id = await dead_letter(world, "ada@example.com")
    await visit.open(LETTERS)
    await visit.page.get_by_role("button", name=button).click()
    await expect(visit.page.get_by_text("tick the letters that are meant")).to_be_visible()
    await visit.open(LETTERS)
    await visit.page.get_by_role("checkbox").check()
    await visit.page.get_by_role("button", name=button).click()
    if deed == "RESOLVE":
        await visit.page.get_by_label("How you know it").fill("seen in the provider's log")
    await visit.page.get_by_role("button", name=verb).click()
    await expect(visit.page.get_by_role("status")).to_have_text(said)
    assert await world.status(email_id) == status
    assert (await last_deed(world))[:2] == (deed, 1)


async def test_all_of_a_group_are_sent_again_part_by_part_and_no_other_letter(visit: Visit, world: World) -> None:
    first = await dead_letter(world, "ada@example.com")
    await multiply(world.pool, first, 699)
    await multiply(world.pool, first, 3, error="another error")
    await visit.open(LETTERS)
    await visit.page.get_by_role("link", name="No such planet.").click()
    await visit.page.get_by_role("button", name="Send all again …").click()
    await expect(visit.page.get_by_role("heading", name="Send 700 dead letters again?")).to_be_visible()
    await visit.page.get_by_role("button", name="Send again").click()
    await expect(visit.page.get_by_text("700 dead letters sent again.")).to_be_visible(timeout=60_000)
    left = await world.operations().ListDeadLetters(pb.ListDeadLettersRequest(page_size=1000), timeout=5)
    assert [letter.error for letter in left.dead_letters] == ["another error"] * 3
    assert (await last_deed(world))[:2] == ("REPLAY", 200)


async def test_who_leaves_stops_it_and_is_told_how_far_it_came(visit: Visit, world: World) -> None:
    first = await dead_letter(world, "ada@example.com")
    await multiply(world.pool, first, 799)
    await visit.open(LETTERS)
    await visit.page.get_by_role("button", name="Throw all away …").click()
    parts = 0

    async def one_part_only(route: object) -> None:
        nonlocal parts
        parts += 1
        if parts == 1:
            await route.continue_()  # type: ignore[attr-defined]
        else:
            await route.abort()  # type: ignore[attr-defined]

    await visit.page.route("**/dead-letters/work", one_part_only)
    await visit.page.get_by_role("button", name="Throw away").click()
    await expect(visit.page.get_by_text("the service does not answer")).to_be_visible(timeout=30_000)
    await visit.assert_accessible()
    await visit.page.get_by_role("link", name="Stop").click()
    told = visit.page.get_by_role("status")
    await expect(told).to_have_text("500 dead letters thrown away. It was stopped there: 300 left.")
    await expect(visit.page.locator("td[data-name=Letters]")).to_have_text("300")


async def test_who_may_only_look_is_offered_nothing_and_the_ways_do_not_exist(
    looker: Visit, stack: Stack, world: World
) -> None:
    await dead_letter(world, "ada@example.com")
    await looker.open(LETTERS)
    await expect(looker.page.locator("tbody tr").first).to_be_visible()
    assert await looker.page.get_by_role("button").all_inner_texts() == ["Log out", "Filter"]
    await looker.page.get_by_role("region", name="The latest").locator("tbody a").click()
    await expect(looker.page.locator(".timeline")).to_be_visible()
    assert await looker.page.get_by_role("button").all_inner_texts() == ["Log out"]
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar, headers={"Origin": stack.read_only}) as session:
        await session.post(f"{stack.read_only}/login", data={"token": TOKEN, "name": "eve"})
        for way in WAYS:
            csrf = await looker.page.locator("input[name=csrf]").first.get_attribute("value")
            async with session.post(stack.read_only + way, data={"csrf": csrf or ""}) as response:
                assert response.status in (403, 404)
