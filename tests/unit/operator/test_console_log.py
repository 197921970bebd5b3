"""What the console's log says of what was done."""

from aiohttp import ClientSession, CookieJar
from structlog.testing import capture_logs
from unit.operator.console_served import FORM, said, serving
from unit.operator.ingress_double import EMAIL_ID, ConsumerDouble, IngressDouble

from sred_email_operator.console.settings import ConsoleSettings, Login

PROXIED = ConsoleSettings(login=Login.PROXY, user_header="X-User")


async def test_each_thing_done_has_a_line_with_the_name_and_never_an_address(
    ingress: IngressDouble, consumer: ConsumerDouble
) -> None:
    forms: dict[str, dict[str, str]] = {
        "/dead-letters/work": {"deed": "replay", "scope": "listed"},
        "/dead-letters/do": {"deed": "discard", "id": EMAIL_ID},
        "/dead-letters/do ": {"deed": "delivered", "id": EMAIL_ID, "note": "anna@example.com said so"},
        "/suppressions/add": {"address": "anna@example.com"},
        "/suppressions/remove": {"address": "anna@example.com"},
        "/suppressions/erase": {"address": "anna@example.com", "again": "anna@example.com"},
        "/delivery/pause": {"lane": "LOW", "reason": "anna@example.com"},
        "/delivery/resume": {"lane": ""},
        f"/emails/{EMAIL_ID}/cancel": {},
    }
    async with (
        serving(PROXIED, ingress.address, consumer.address) as server,
        ClientSession(
            cookie_jar=CookieJar(unsafe=True), headers={"X-User": "ada", "Origin": str(server.make_url("")).rstrip("/")}
        ) as browser,
    ):
        async with browser.get(server.make_url("/delivery/pause")):
            (key,) = (cookie.value for cookie in browser.cookie_jar)
        with capture_logs() as logs:
            for path, form in forms.items():
                url = server.make_url(path.strip())
                async with browser.post(url, data={"csrf": key, **form}, allow_redirects=False) as answer:
                    assert answer.status == 303, await answer.text()
    lines = {line["call"]: line for line in logs if line["event"] == "changed"}
    assert lines.keys() == {
        "ReplayDeadLetters",
        "DiscardDeadLetters",
        "ResolveDeadLetters",
        "AddSuppression",
        "RemoveSuppression",
        "EraseRecipient",
        "PauseDelivery",
        "ResumeDelivery",
        "CancelEmail",
    }
    assert {line["operator"] for line in lines.values()} == {"ada"}
    assert lines["ReplayDeadLetters"]["replayed"] == 2
    assert (lines["PauseDelivery"]["lane"], lines["ResumeDelivery"]["lane"]) == ("LOW", "all")
    assert lines["CancelEmail"]["email_id"] == EMAIL_ID
    assert "anna" not in str(logs)


async def test_a_change_whose_answer_is_lost_has_a_line_too(ingress: IngressDouble) -> None:
    async with serving(PROXIED, ingress.address) as server:
        ask = "HTTP/1.1\nHost: c\nX-User: ada\nOrigin: http://c\nCookie: console-forms=k"
        with capture_logs() as logs:
            status, _ = await said(server, f"POST /delivery/resume {ask}\nContent-Type: {FORM}", b"csrf=k")
        assert status == 503
    assert ("change_failed", "ada", "UNAVAILABLE") in [
        (line["event"], line.get("operator"), line["code"]) for line in logs
    ]
