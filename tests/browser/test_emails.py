"""Emails: found, looked at, cancelled."""

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from playwright.async_api import expect

from sred_email_local.sandbox.rules import Rule
from support.browsing import Stack, Visit

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_an_email_is_found_by_key_id_recipient_and_status_and_tells_what_happened(
    visit: Visit, stack: Stack
) -> None:
    page, world = visit.page, stack.world
    world.rules(Rule(status=422, name="validation_error", message="No such planet.", times=1))
    email_id = (await world.send("to nowhere", to=["marvin@example.com"])).email_id
    await world.wait_for(email_id, "FAILED")
    world.rules()
    await visit.open("/emails")
    await visit.assert_accessible()
    for named in ("key-to nowhere", email_id):
        await visit.open("/emails")
        await page.get_by_label("Id or idempotency key").fill(named)
        await page.get_by_role("button", name="Find").click()
        await page.wait_for_url(f"{visit.url}/emails/{email_id}")
    timeline = page.get_by_role("list").filter(has_text="ACCEPTED")
    await expect(timeline).to_contain_text("FAILED")
    await expect(timeline).to_contain_text("No such planet.")
    await visit.assert_accessible()
    await visit.open("/emails")
    await page.get_by_label("Recipient").fill("marvin@example.com")
    await page.get_by_label("Status").select_option("FAILED")
    await page.get_by_label("Accepted from").fill((datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M"))
    await page.get_by_role("button", name="Search").click()
    await expect(page.get_by_role("row")).to_have_count(2)
    await page.get_by_role("link", name="to nowhere").click()
    await expect(page.get_by_role("heading", name="to nowhere")).to_be_visible()


async def test_what_cannot_be_looked_for_is_said_in_words(visit: Visit) -> None:
    for path, words in [
        ("/emails?q=no-such-key", "No email has this id or key"),
        ("/emails?recipient=nobody", "address"),
        ("/emails?after=yesterday", "a time such as"),
        ("/emails?status=LOST", "one of QUEUED"),
    ]:
        await visit.open(path)
        await expect(visit.page.get_by_role("alert")).to_contain_text(words)
    await visit.open("/emails/not-an-id")
    await expect(visit.page.get_by_text("No email has this id")).to_be_visible()


async def test_a_list_goes_on_over_pages(visit: Visit, stack: Stack) -> None:
    for number in range(51):
        await stack.world.send(f"page {number}", to=["pages@example.com"])
    await visit.open("/emails?recipient=pages%40example.com")
    await expect(visit.page.locator("tbody tr")).to_have_count(50)
    await visit.page.get_by_role("link", name="Next page").click()
    await expect(visit.page.locator("tbody tr")).to_have_count(1)
    await expect(visit.page.locator("tbody")).to_contain_text("page 0")


async def test_a_waiting_email_is_cancelled_after_asking(visit: Visit, stack: Stack) -> None:
    later = Timestamp()
    later.FromDatetime(datetime.now(UTC) + timedelta(days=1))
    email_id = (await stack.world.send("to be cancelled <b>", send_at=later)).email_id
    await visit.open(f"/emails/{email_id}")
    await visit.page.get_by_role("link", name="Cancel it").click()
    await visit.page.get_by_role("button", name="Cancel the email").click()
    await expect(visit.page.get_by_role("status")).to_have_text("The email is cancelled.")
    await expect(visit.page.get_by_role("link", name="Cancel it")).to_have_count(0)
    assert await stack.world.status(email_id) == "CANCELLED"
    await visit.open(f"/emails/{email_id}/cancel")
    await visit.page.get_by_role("button", name="Cancel the email").click()
    await expect(visit.page.get_by_role("status")).to_contain_text("Not cancelled")


async def test_who_may_only_look_cannot_cancel(looker: Visit, stack: Stack) -> None:
    email_id = (await stack.world.send("looked at")).email_id
    await looker.open(f"/emails/{email_id}")
    await expect(looker.page.get_by_role("heading", name="looked at")).to_be_visible()
    assert not await looker.page.get_by_role("link", name="Cancel it").count()
    await looker.open(f"/emails/{email_id}/cancel")
    await expect(looker.page.get_by_role("heading", name="There is no such page")).to_be_visible()
