"""What the console refuses before it does anything."""

import asyncio
import time

import pytest
from structlog.testing import capture_logs
from unit.operator.console_served import FORM, said, serving

from sred_email_operator.console.guard import HEADERS
from sred_email_operator.console.settings import ConsoleSettings, Login

TOKEN = "a-token-of-a-console"
OFF = ConsoleSettings(login=Login.OFF, host="10.1.2.3", public_url="http://mail.example.com:9000")
BY_TOKEN = ConsoleSettings(token=TOKEN)


@pytest.mark.parametrize(
    "host", ["localhost:8082", "127.0.0.1", "[::1]:8082", "10.1.2.3:8082", "Mail.Example.Com", "mail.example.com:9000"]
)
async def test_without_a_login_the_console_answers_to_its_own_names(host: str) -> None:
    async with serving(OFF) as server:
        assert (await said(server, f"GET /delivery/pause HTTP/1.1\nHost: {host}"))[0] == 200


@pytest.mark.parametrize("host", ["evil.example:8082", "localhost.evil.example", "localhost@evil.example", "[", ""])
async def test_without_a_login_a_foreign_name_that_leads_here_sees_and_does_nothing(host: str) -> None:
    async with serving(OFF) as server:
        for request in (
            "GET /delivery/pause",
            "GET /overview/events",
            f"POST /delivery/pause HTTP/1.1\nOrigin: http://{host}",
        ):
            first, _, others = request.partition(" HTTP/1.1")
            status, answer = await said(server, f"{first} HTTP/1.1\nHost: {host}{others}")
            assert status == 403
            assert "SRED_EMAIL_CONSOLE_PUBLIC_URL" in answer
            assert "csrf" not in answer
            assert "Set-Cookie" not in answer
        assert (await said(server, f"GET /readyz HTTP/1.1\nHost: {host}"))[0] == 200


async def test_with_a_login_any_name_will_do_since_nobody_is_let_in_by_the_name() -> None:
    async with serving(BY_TOKEN) as server:
        assert (await said(server, "GET /login HTTP/1.1\nHost: email.example.com"))[0] == 200


@pytest.mark.parametrize(
    "kind",
    [
        FORM + "; charset=punycode",
        FORM + "; charset=utf-16",
        FORM + "; charset=no-such-thing",
        "multipart/form-data; boundary=x",
        "text/plain",
    ],
)
async def test_a_form_in_any_other_encoding_is_refused_unread(kind: str) -> None:
    async with serving(BY_TOKEN) as server:
        before = time.perf_counter()
        status, _ = await said(
            server, f"POST /login HTTP/1.1\nHost: c\nOrigin: http://c\nContent-Type: {kind}", b"a" * 200_000
        )
        assert status == 415
        assert time.perf_counter() - before < 5


async def test_who_is_not_logged_in_yet_may_send_a_small_form_only() -> None:
    async with serving(BY_TOKEN) as server:
        head = f"POST /login HTTP/1.1\nHost: c\nOrigin: http://c\nContent-Type: {FORM}; charset=UTF-8"
        assert (await said(server, head, b"name=" + b"a" * 9000))[0] == 413
        assert (await said(server, head, b"name=Ada&to=/audit&token=" + TOKEN.encode()))[0] == 303


@pytest.mark.parametrize("origin", ["http://[", "null", "http://c.evil.example", ""])
async def test_an_origin_that_is_none_is_not_ours(origin: str) -> None:
    async with serving(BY_TOKEN) as server:
        with capture_logs() as logs:
            head = f"POST /login HTTP/1.1\nHost: c\nOrigin: {origin}\nContent-Type: {FORM}"
            assert (await said(server, head))[0] == 403
        assert logs == []


async def test_no_page_links_to_another_site_whatever_was_asked_for() -> None:
    async with serving(ConsoleSettings(login=Login.OFF)) as server:
        for path in ("//evil.example/x", "/%2Fevil.example/x", "/%5Cevil.example/x"):
            status, answer = await said(server, f"GET {path} HTTP/1.1\nHost: localhost")
            assert status == 404
            assert 'href="/">Try again' in answer


async def test_the_way_to_the_login_remembers_the_page_without_what_was_looked_for() -> None:
    async with serving(BY_TOKEN) as server:
        _, answer = await said(server, "GET /emails?recipient=anna@example.com HTTP/1.1\nHost: c")
        assert "Location: /login?to=%2Femails\r\n" in answer
        assert "anna" not in answer
    assert HEADERS["Referrer-Policy"] == "same-origin"


async def test_refused_logins_take_a_second_the_right_one_none_and_the_log_has_nothing_that_was_typed() -> None:
    async with serving(BY_TOKEN) as server:
        head = f"POST /login HTTP/1.1\nHost: c\nOrigin: http://c\nContent-Type: {FORM}"

        async def tried(form: bytes) -> tuple[int, float]:
            began = time.perf_counter()
            return (await said(server, head, form))[0], time.perf_counter() - began

        with capture_logs() as logs:
            refused, right = await asyncio.gather(
                tried(b"token=x&name=my-token-by-mistake"), tried(b"name=Ada&token=" + TOKEN.encode())
            )
        assert (refused[0], right[0]) == (403, 303)
        assert refused[1] >= 1 > right[1]
        assert "by-mistake" not in str(logs)
        assert {line["event"] for line in logs} == {"login_refused", "logged_in"}


async def test_whom_a_proxy_names_twice_is_not_let_in() -> None:
    async with serving(ConsoleSettings(login=Login.PROXY, user_header="X-User")) as server:
        assert (await said(server, "GET /delivery/pause HTTP/1.1\nHost: c\nX-User: ada"))[0] == 200
        assert (await said(server, "GET /delivery/pause HTTP/1.1\nHost: c\nX-User: admin\nx-user: ada"))[0] == 403
