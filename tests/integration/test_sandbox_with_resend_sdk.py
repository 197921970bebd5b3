"""The sandbox under the official client of Resend: what it was made for takes it for the real one."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest
import resend
from resend.exceptions import (
    InvalidApiKeyError,
    MissingRequiredFieldsError,
    RateLimitError,
    ResendError,
    ValidationError,
)

from sred_email_local.sandbox.provider import Options
from sred_email_local.sandbox.server import SandboxServer


@pytest.fixture
async def sandbox(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SandboxServer]:
    async with SandboxServer(options=Options(requests_per_second=0, api_key="re_right")) as server:
        monkeypatch.setattr(resend, "api_url", server.url)
        monkeypatch.setattr(resend, "api_key", "re_right")
        yield server


def params(**changes: object) -> resend.Emails.SendParams:
    whole: resend.Emails.SendParams = {
        "from": "SREDSimplify <hello@sredsimplify.example>",
        "to": ["ada@example.com"],
        "subject": "Hello",
        "html": "<p>Hello, Ada</p>",
        "tags": [{"name": "kind", "value": "WELCOME"}],
        "attachments": [{"filename": "a.txt", "content": list(b"content")}],
    }
    return cast("resend.Emails.SendParams", {**whole, **changes})


def batch(*subjects: str) -> list[resend.Emails.SendParams]:
    emails = [params(subject=subject) for subject in subjects]
    for email in emails:
        del email["attachments"]
    return emails


async def send(email: resend.Emails.SendParams, key: str | None = None) -> str:
    options: resend.Emails.SendOptions = {"idempotency_key": key} if key else {}
    return (await asyncio.to_thread(resend.Emails.send, email, options))["id"]


async def send_five() -> None:
    for _ in range(5):
        await send(params())


async def test_a_single_email_is_sent_and_retrieved(sandbox: SandboxServer) -> None:
    email_id = await send(params())
    found = await asyncio.to_thread(resend.Emails.get, email_id)
    assert (found["id"], found["to"], found["html"]) == (email_id, ["ada@example.com"], "<p>Hello, Ada</p>")
    (delivery,) = sandbox.provider.mailbox
    assert delivery.email.attachments[0].content == b"content"


@pytest.mark.usefixtures("sandbox")
async def test_the_asynchronous_client_works_too() -> None:
    assert (await resend.Emails.send_async(params()))["id"]


async def test_a_repeat_under_an_idempotency_key_is_one_email(sandbox: SandboxServer) -> None:
    assert await send(params(), "key") == await send(params(), "key")
    assert len(sandbox.provider.mailbox) == 1
    with pytest.raises(ResendError) as caught:
        await send(params(subject="Other"), "key")
    assert (caught.value.code, caught.value.error_type) == (409, "invalid_idempotent_request")


@pytest.mark.usefixtures("sandbox")
async def test_a_strict_batch_answers_ids_only() -> None:
    answer = await asyncio.to_thread(resend.Batch.send, batch("a", "b"))
    assert len(answer["data"]) == 2
    assert "errors" not in answer


@pytest.mark.usefixtures("sandbox")
async def test_a_permissive_batch_answers_ids_and_errors() -> None:
    emails = batch("a", "", "c")
    answer = await asyncio.to_thread(resend.Batch.send, emails, {"batch_validation": "permissive"})
    assert len(answer["data"]) == 2
    assert answer["errors"] == [{"index": 1, "message": "Missing `subject` field."}]


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"to": []}, MissingRequiredFieldsError), ({"to": ["bad"]}, ValidationError)],
)
@pytest.mark.usefixtures("sandbox")
async def test_a_bad_email_raises_the_clients_own_error(changes: dict[str, object], error: type[ResendError]) -> None:
    with pytest.raises(error):
        await send(params(**changes))


@pytest.mark.usefixtures("sandbox")
async def test_a_wrong_key_raises_the_clients_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resend, "api_key", "re_wrong")
    with pytest.raises(InvalidApiKeyError):
        await send(params())


async def test_too_many_requests_raise_the_clients_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async with SandboxServer(options=Options(requests_per_second=1)) as server:
        monkeypatch.setattr(resend, "api_url", server.url)
        monkeypatch.setattr(resend, "api_key", "re_any")
        with pytest.raises(RateLimitError) as caught:
            await send_five()
        assert caught.value.headers["retry-after"] == "1"
