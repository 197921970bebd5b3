"""The overview: what is to be seen, and what is to be pressed."""

import re

import pytest
from playwright.async_api import expect

from sred.email.v1.email_pb2 import PRIORITY_LOW
from sred.email.v1.operations_service_pb2 import ListAuditEntriesRequest, ResumeDeliveryRequest
from support.browsing import Stack, Visit
from support.world import until

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_delivery_is_paused_and_resumed_after_asking_and_the_audit_names_who_did_it(
    visit: Visit, stack: Stack
) -> None:
    page = visit.page
    await visit.open("/")
    await expect(page.get_by_text("RUNNING")).to_be_visible()
    await visit.assert_accessible()
    await page.get_by_role("link", name="Pause all lanes").click()
    await visit.assert_accessible()
    await page.get_by_label("Why").fill("the key is on the street")
    await page.get_by_role("button", name="Pause").click()
    await expect(page.get_by_role("status")).to_have_text("Paused: all lanes.")
    state = page.get_by_label("Delivery", exact=True)
    await expect(state).to_contain_text("the key is on the street")
    await expect(state).to_contain_text("since 20")
    await visit.assert_accessible()
    try:
        await page.reload()
        await expect(page.get_by_role("status")).to_have_count(0)
        await page.get_by_role("link", name="Resume all lanes").click()
        await page.get_by_role("button", name="Resume").click()
        await expect(state).to_contain_text("RUNNING")
    finally:
        await stack.world.operations().ResumeDelivery(ResumeDeliveryRequest(), timeout=5)
    audit = await stack.world.operations().ListAuditEntries(ListAuditEntriesRequest(), timeout=5)
    assert [e.action for e in audit.entries if e.actor.startswith("anonymous as Ada Œrsted")][:2] == ["RESUME", "PAUSE"]


async def test_one_lane_is_paused_alone_and_what_happens_is_seen_without_loading_the_page(
    visit: Visit, stack: Stack
) -> None:
    page, world = visit.page, stack.world
    await visit.open("/delivery/pause?lane=LOW")
    await page.get_by_role("button", name="Pause").click()
    row = page.get_by_role("row", name="LOW")
    await expect(row).to_contain_text("PAUSED")
    focused = page.get_by_role("link", name="Pause HIGH")
    await focused.focus()
    for number in range(3):
        await world.send(f"low {number}", priority=PRIORITY_LOW)
    try:
        await expect(row.get_by_role("cell").first).to_have_text("3")
        await expect(focused).to_be_focused()
    finally:
        await world.operations().ResumeDelivery(ResumeDeliveryRequest(priority=PRIORITY_LOW), timeout=5)
    await expect(row).to_contain_text("open")


async def test_the_flow_of_the_last_minutes_is_told_over_all_replicas(visit: Visit, stack: Stack) -> None:
    world = stack.world
    for number in range(5):
        await world.wait_for((await world.send(f"flow {number}")).email_id)

    async def counted() -> bool:
        of_minutes = "SELECT coalesce(sum(count), 0) FROM email_minutes WHERE what = 'SENT'"
        of_events = "SELECT count(*) FROM email_events WHERE what = 'SENT'"
        return bool(await world.pool.fetchval(f"SELECT ({of_minutes}) = ({of_events})"))

    await until(counted, "the events are counted", timeout_s=30)
    await world.pool.execute("UPDATE email_minutes SET minute = minute - interval '3 minutes'")
    await visit.open("/")
    chart = visit.page.get_by_role("img", name=re.compile("Emails a minute, the last hour. accepted: .* at most"))
    await expect(chart).to_be_visible()
    assert not re.search(r"\b0 at most", await chart.get_attribute("aria-label") or "0 at most")


async def test_the_overview_goes_on_while_the_consumer_is_away_and_says_so(visit: Visit, stack: Stack) -> None:
    await visit.open("/")
    consumer = next(service for service in stack.world.services if service.kind == "consumer")
    consumer.process.kill()
    try:
        await expect(visit.page.get_by_role("alert")).to_contain_text("The consumer does not say how it is.")
        await visit.open("/delivery/pause?lane=LOW")
        await visit.page.get_by_role("button", name="Pause").click()
        await expect(visit.page.get_by_role("heading", name="The consumer is away")).to_be_visible(timeout=15_000)
        await visit.assert_accessible()
    finally:
        consumer.process.start()
        await consumer.ready(timeout_s=60)
    await visit.open("/")
    await expect(visit.page.get_by_text("RUNNING")).to_be_visible()

    async def reached() -> bool:
        await visit.open("/suppressions")
        return await visit.page.get_by_role("heading", name="Suppressions").count() > 0

    await until(reached, "calls of the console reach the consumer again")


async def test_who_may_only_look_finds_nothing_to_press_and_no_way_to_it(looker: Visit) -> None:
    await looker.open("/")
    await expect(looker.page.get_by_text("read-only")).to_be_visible()
    assert not await looker.page.get_by_role("link", name=re.compile("Pause|Resume")).count()
    await looker.open("/delivery/pause")
    await expect(looker.page.get_by_role("heading", name="There is no such page")).to_be_visible()
