"""Suppressions, people who are erased, and the audit, in the console."""

import uuid

import pytest
from playwright.async_api import expect

from sred.email.v1 import operations_service_pb2 as pb
from support.browsing import OPERATOR, Stack, Visit

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def suppress(stack: Stack, *addresses: str) -> None:
    for address in addresses:
        await stack.world.operations().AddSuppression(pb.AddSuppressionRequest(address=address), timeout=5)


async def test_an_address_is_suppressed_found_and_removed(visit: Visit, stack: Stack) -> None:
    address = f"{uuid.uuid4().hex}@example.com"
    await suppress(stack, "other@example.com")
    await visit.open("/suppressions")
    await visit.page.get_by_label("Address to suppress").fill(address)
    await visit.page.get_by_label("Reason").select_option("COMPLAINED")
    await visit.page.get_by_label("Until").fill("2040-01-02T03:04")
    await visit.page.get_by_role("button", name="Suppress").click()
    await expect(visit.page.get_by_role("status")).to_have_text(f"{address} gets no more email.")
    await visit.assert_accessible()
    await visit.page.get_by_label("Address", exact=True).fill(address.upper())
    await visit.page.get_by_role("button", name="Search").click()
    row = visit.page.locator("tbody tr")
    await expect(row).to_have_count(1)
    await expect(row).to_contain_text("COMPLAINED")
    await expect(row).to_contain_text("2040-01-02 03:04:00 UTC")
    await visit.page.get_by_role("button", name=f"Remove {address}").click()
    await visit.assert_accessible()
    await visit.page.get_by_role("button", name="Let it get email").click()
    await expect(visit.page.get_by_role("status")).to_have_text(f"{address} gets email again.")
    audit = await stack.world.operations().ListAuditEntries(pb.ListAuditEntriesRequest(page_size=2), timeout=5)
    assert [entry.action for entry in audit.entries] == ["REMOVE_SUPPRESSION", "ADD_SUPPRESSION"]
    assert all(OPERATOR in entry.actor for entry in audit.entries)


async def test_suppressions_go_on_over_their_pages(visit: Visit, stack: Stack) -> None:
    await suppress(stack, *(f"page{number:03}@example.com" for number in range(101)))
    await visit.open("/suppressions")
    await expect(visit.page.locator("tbody tr")).to_have_count(100)
    await visit.page.get_by_role("link", name="Next page").click()
    await expect(visit.page.get_by_role("rowheader", name="page100@example.com")).to_be_visible()


async def test_a_person_is_erased_only_when_the_address_is_written_again(visit: Visit, stack: Stack) -> None:
    address = f"{uuid.uuid4().hex}@example.com"
    email_id = (await stack.world.send("Bye", to=[address], idempotency_key=uuid.uuid4().hex)).email_id
    await stack.world.wait_for(email_id, "SUCCESS")
    await visit.open("/suppressions")
    await visit.page.get_by_role("link", name="Erase a person …").click()
    await visit.assert_accessible()
    await visit.page.get_by_label("Address").fill(address)
    await visit.page.get_by_role("button", name="Go on …").click()
    await visit.page.get_by_label("Write the address again").fill("somebody@example.com")
    await visit.page.get_by_role("button", name="Erase for good").click()
    await expect(visit.page.get_by_role("alert")).to_have_text("Nothing was done: that is not the address.")
    await visit.assert_accessible()
    assert (await stack.world.get_email(email_id)).to == [address]
    await visit.page.get_by_label("Write the address again").fill(address)
    await visit.page.get_by_role("button", name="Erase for good").click()
    await expect(visit.page.get_by_role("status")).to_have_text("Erased from 1 email.")
    assert (await stack.world.get_email(email_id)).to == ["erased"]


async def test_the_audit_is_listed_by_action_by_who_did_it_and_by_time(visit: Visit, stack: Stack) -> None:
    await suppress(stack, *(f"audit{number:03}@example.com" for number in range(101)))
    await stack.world.operations().PauseDelivery(
        pb.PauseDeliveryRequest(reason="look"), metadata=(("sred-email-operator-bin", b"Grace"),), timeout=5
    )
    await stack.world.operations().ResumeDelivery(pb.ResumeDeliveryRequest(), timeout=5)
    await visit.open("/audit")
    await expect(visit.page.locator("tbody tr")).to_have_count(100)
    await visit.assert_accessible()
    await visit.page.get_by_role("link", name="Next page").click()
    await expect(visit.page.locator("tbody tr").first).to_be_visible()
    await visit.page.get_by_label("Action").select_option("PAUSE")
    await visit.page.get_by_label("Who").fill("grace")
    await visit.page.get_by_label("From").fill("2020-01-01T00:00")
    await visit.page.get_by_role("button", name="Filter").click()
    await expect(visit.page.locator("tbody tr")).to_have_count(1)
    await expect(visit.page.locator("tbody tr")).to_contain_text("look")
    await visit.page.get_by_label("Before").fill("2020-01-02T00:00")
    await visit.page.get_by_role("button", name="Filter").click()
    await expect(visit.page.get_by_text("Nobody has done anything like that.")).to_be_visible()


async def test_who_may_only_look_sees_suppressions_without_a_way_to_change_them(looker: Visit, stack: Stack) -> None:
    await suppress(stack, "look@example.com")
    await looker.open("/suppressions")
    await expect(looker.page.locator("tbody tr").first).to_be_visible()
    assert await looker.page.get_by_role("button").all_inner_texts() == ["Log out", "Search"]
    await looker.open("/suppressions/erase")
    await expect(looker.page.get_by_role("heading", name="There is no such page")).to_be_visible()
