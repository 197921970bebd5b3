"""The inbox page: everything that an email says is shown, and nothing of it is obeyed."""

import base64
from collections.abc import AsyncIterator

import aiohttp
import pytest

from sred_email_local.sandbox.provider import Options
from sred_email_local.sandbox.server import SandboxServer

HEADERS = {"authorization": "Bearer re_test"}
ATTACK = "<script>alert('subject')</script>"


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with (
        SandboxServer(options=Options(requests_per_second=0)) as server,
        aiohttp.ClientSession(server.url, headers=HEADERS) as session,
    ):
        yield session


async def send(http: aiohttp.ClientSession, **changes: object) -> str:
    email = {"from": "a@b.example", "to": ["ada@example.com"], "subject": "Hello", "text": "the text", **changes}
    async with http.post("/emails", json=email) as response:
        return str((await response.json())["id"])


async def page(http: aiohttp.ClientSession, path: str) -> str:
    async with http.get(path) as response:
        assert response.content_type == "text/html"
        return await response.text()


async def test_an_empty_inbox_says_how_to_fill_it(http: aiohttp.ClientSession) -> None:
    text = await page(http, "/")
    assert "No email yet" in text
    assert "sred-email send --kind WELCOME" in text


async def test_emails_are_listed_newest_first_with_their_kind(http: aiohttp.ClientSession) -> None:
    await send(http, subject="the first", tags=[{"name": "kind", "value": "PASSWORD_RESET"}])
    await send(http, subject="the second")
    text = await page(http, "/")
    assert text.index("the second") < text.index("the first")
    assert "Password reset" in text
    assert "2 emails" in text


async def test_the_list_can_be_searched(http: aiohttp.ClientSession) -> None:
    await send(http, subject="the first", to=["grace@example.com"])
    await send(http, subject="the second")
    text = await page(http, "/inbox/rows?q=GRACE")
    assert "the first" in text
    assert "the second" not in text
    assert "Nothing matches" in await page(http, "/?q=nobody")


async def test_one_email_shows_its_headers_text_source_and_files(http: aiohttp.ClientSession) -> None:
    files = [{"filename": "März & Co.csv", "content": base64.b64encode(b"a,b").decode(), "content_type": "text/html"}]
    email_id = await send(http, cc=["c@example.com"], headers={"X-Claim": "42"}, html="<p>hi</p>", attachments=files)
    text = await page(http, f"/inbox/{email_id}")
    for shown in ("c@example.com", "X-Claim", "the text", "März &amp; Co.csv", email_id, "&#34;subject&#34;"):
        assert shown in text
    async with http.get(f"/inbox/{email_id}/attachments/0") as response:
        assert await response.read() == b"a,b"
        assert response.content_type == "application/octet-stream"
        assert response.headers["content-disposition"] == "attachment; filename*=UTF-8''M%C3%A4rz%20%26%20Co.csv"


async def test_what_an_email_says_is_escaped(http: aiohttp.ClientSession) -> None:
    email_id = await send(http, subject=ATTACK, text=ATTACK, tags=[{"name": "kind", "value": "x"}])
    for path in ("/", "/inbox/rows", f"/inbox/{email_id}", "/?q=<script>alert"):
        text = await page(http, path)
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert" in text


async def test_pages_run_no_foreign_code_and_load_nothing_from_outside(http: aiohttp.ClientSession) -> None:
    email_id = await send(http, html="<script>alert(1)</script>")
    for path in ("/", f"/inbox/{email_id}", "/inbox/nothing"):
        async with http.get(path) as response:
            policy = response.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "http" not in policy
            assert response.headers["x-content-type-options"] == "nosniff"
    async with http.get(f"/inbox/{email_id}/html") as response:
        policy = response.headers["content-security-policy"]
        assert policy.startswith("sandbox allow-popups")
        assert "allow-scripts" not in policy
        assert "script-src" not in policy
        assert "default-src 'none'" in policy


async def test_pictures_within_an_email_are_shown(http: aiohttp.ClientSession) -> None:
    picture = {"filename": "p.png", "content": "aGk=", "content_type": "image/png", "content_id": "logo"}
    email_id = await send(http, html='<img src="cid:logo">', attachments=[picture])
    assert '<img src="data:image/png;base64,aGk=">' in await page(http, f"/inbox/{email_id}/html")


@pytest.mark.parametrize("path", ["/inbox/nothing", "/inbox/nothing/html", "/inbox/assets/secret", "/inbox/x/y/z"])
async def test_what_is_not_there_is_a_page_with_a_way_back(http: aiohttp.ClientSession, path: str) -> None:
    async with http.get(path) as response:
        assert response.status == 404
        assert 'href="/"' in await response.text()


async def test_every_asset_that_pages_name_is_there(http: aiohttp.ClientSession) -> None:
    for name, kind in (("style.css", "text/css"), ("inbox.js", "text/javascript"), ("icon.svg", "image/svg+xml")):
        assert f"/inbox/assets/{name}" in await page(http, "/")
        async with http.get(f"/inbox/assets/{name}") as response:
            assert (response.status, response.content_type) == (200, kind)
