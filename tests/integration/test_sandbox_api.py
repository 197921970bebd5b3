"""The sandbox by HTTP: what Resend documents, and failures on demand."""

import asyncio
import io
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from sred_email_local.ports import free_port
from sred_email_local.sandbox.provider import Options
from sred_email_local.sandbox.server import SandboxServer

HEADERS = {"authorization": "Bearer re_test", "user-agent": "tests"}


@pytest.fixture
async def sandbox() -> AsyncIterator[SandboxServer]:
    async with SandboxServer(options=Options(requests_per_second=0)) as server:
        yield server


@pytest.fixture
async def http(sandbox: SandboxServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(sandbox.url, headers=HEADERS) as session:
        yield session


def email(subject: str = "Hello", **changes: object) -> dict[str, object]:
    return {"from": "a@b.example", "to": ["ada@example.com"], "subject": subject, "text": "text", **changes}


async def post(
    http: aiohttp.ClientSession, body: object, *, path: str = "/emails", **headers: str
) -> tuple[int, dict[str, object]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with http.post(path, data=json.dumps(body), headers=named) as response:
        answer = await response.json()
        assert isinstance(answer, dict)
        return response.status, answer


async def set_rules(http: aiohttp.ClientSession, *rules: dict[str, object]) -> None:
    async with http.post("/_sandbox/rules", json={"rules": rules}) as response:
        assert await response.json() == {"rules": len(rules)}


async def deliveries(http: aiohttp.ClientSession) -> dict[str, list[str]]:
    async with http.get("/_sandbox/deliveries") as response:
        found: dict[str, list[str]] = await response.json()
        return found


async def requests(http: aiohttp.ClientSession) -> list[dict[str, object]]:
    async with http.get("/_sandbox/requests") as response:
        found: list[dict[str, object]] = (await response.json())["requests"]
        return found


async def until_asked(http: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(5):
        while True:
            if await requests(http):
                return


async def until_refused(http: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(5):
        while True:
            await deliveries(http)


async def test_an_accepted_email_can_be_retrieved(http: aiohttp.ClientSession) -> None:
    status, answer = await post(http, email(tags=[{"name": "kind", "value": "WELCOME"}]))
    assert status == 200
    async with http.get(f"/emails/{answer['id']}") as response:
        found = await response.json()
    assert (found["object"], found["to"], found["subject"]) == ("email", ["ada@example.com"], "Hello")
    assert found["tags"] == [{"name": "kind", "value": "WELCOME"}]


async def test_an_email_that_is_not_there_is_not_found(http: aiohttp.ClientSession) -> None:
    async with http.get("/emails/nothing") as response:
        assert (await response.json())["name"] == "not_found"


@pytest.mark.parametrize(
    ("method", "path", "status", "name"),
    [("GET", "/domains", 404, "not_found"), ("PUT", "/emails", 405, "method_not_allowed")],
)
async def test_other_endpoints_are_refused_as_the_api_does(
    http: aiohttp.ClientSession, method: str, path: str, status: int, name: str
) -> None:
    async with http.request(method, path) as response:
        assert await response.json() == {
            "statusCode": status,
            "name": name,
            "message": (await response.json())["message"],
        }


async def test_a_strict_batch_is_all_or_nothing(http: aiohttp.ClientSession) -> None:
    status, answer = await post(http, [email("a"), email("b", to=["bad"])], path="/emails/batch")
    assert (status, answer["name"]) == (422, "validation_error")
    assert await deliveries(http) == {}
    status, answer = await post(http, [email("a"), email("b")], path="/emails/batch")
    assert status == 200
    assert list(answer) == ["data"]
    assert list(await deliveries(http)) == ["a", "b"]


async def test_a_permissive_batch_names_the_bad_by_their_index(http: aiohttp.ClientSession) -> None:
    batch = [email("a", to=["bad"]), email("b"), email("c", attachments=[{"content": "aGk="}])]
    status, answer = await post(http, batch, path="/emails/batch", x_batch_validation="permissive")
    assert status == 200
    errors = answer["errors"]
    assert isinstance(errors, list)
    assert [error["index"] for error in errors] == [0, 2]
    found = await deliveries(http)
    assert answer["data"] == [{"id": found["b"][0]}]
    _, answer = await post(http, [email("d")], path="/emails/batch", x_batch_validation="permissive")
    assert answer["errors"] == []


@pytest.mark.parametrize("body", [[], [{}] * 101, {"not": "a list"}])
async def test_a_batch_holds_1_to_100_emails(http: aiohttp.ClientSession, body: object) -> None:
    status, answer = await post(http, body, path="/emails/batch", x_batch_validation="permissive")
    assert (status, answer["name"]) == (422, "validation_error")


async def test_the_same_bytes_under_a_key_are_one_delivery(http: aiohttp.ClientSession) -> None:
    batch = [email("a"), email("b", to=["bad"])]
    answers = [
        await post(http, batch, path="/emails/batch", idempotency_key="k", x_batch_validation="permissive")
        for _ in range(2)
    ]
    assert answers[0] == answers[1]
    assert {subject: len(ids) for subject, ids in (await deliveries(http)).items()} == {"a": 1}
    assert [record["outcome"] for record in await requests(http)] == ["accepted", "replayed"]


async def test_other_bytes_under_a_key_are_refused(http: aiohttp.ClientSession) -> None:
    await post(http, email("a"), idempotency_key="k")
    status, answer = await post(http, email("b"), idempotency_key="k")
    assert (status, answer["name"]) == (409, "invalid_idempotent_request")


async def test_a_key_is_in_progress_while_its_request_is_slow(http: aiohttp.ClientSession) -> None:
    await set_rules(http, {"action": "delay", "delay_s": 0.3, "times": 1})
    slow = asyncio.ensure_future(post(http, email(), idempotency_key="k"))
    await until_asked(http)
    status, answer = await post(http, email(), idempotency_key="k")
    assert (status, answer["name"]) == (409, "concurrent_idempotent_requests")
    first = await slow
    assert await post(http, email(), idempotency_key="k") == first


async def test_a_missing_or_wrong_api_key_is_refused() -> None:
    async with SandboxServer(options=Options(api_key="re_right")) as server:
        for authorization, status, name in (
            ("", 401, "missing_api_key"),
            ("Basic x", 401, "missing_api_key"),
            ("Bearer re_wrong", 403, "invalid_api_key"),
            ("Bearer re_right", 200, None),
        ):
            async with aiohttp.ClientSession(server.url, headers={"authorization": authorization}) as http:
                answer = await post(http, email())
                assert (answer[0], answer[1].get("name")) == (status, name)


async def test_a_key_can_be_revoked(sandbox: SandboxServer) -> None:
    async with aiohttp.ClientSession(sandbox.url, headers={"authorization": "Bearer re_old"}) as http:
        for body, changed, answered in (
            ({"api_key": "re_new"}, 200, 403),
            ({"api_key": 5}, 400, 403),
            ({}, 400, 403),
            ({"api_key": None}, 200, 200),
        ):
            async with http.post("/_sandbox/api-key", json=body) as response:
                assert response.status == changed
            assert (await post(http, email()))[0] == answered


async def test_a_caller_without_a_user_agent_is_stopped_before_the_api(sandbox: SandboxServer) -> None:
    async with (
        aiohttp.ClientSession(sandbox.url, skip_auto_headers=["user-agent"]) as http,
        http.post("/emails", json=email(), headers={"authorization": "Bearer re_test"}) as response,
    ):
        assert (response.status, await response.text()) == (403, "error code: 1010")


async def test_more_requests_than_the_limit_are_told_when_to_come_back() -> None:
    async with (
        SandboxServer(options=Options(requests_per_second=1)) as server,
        aiohttp.ClientSession(server.url, headers=HEADERS) as http,
    ):
        seen: list[aiohttp.ClientResponse] = []
        while not seen or seen[-1].status == 200:
            async with http.post("/emails", json=email()) as response:
                seen.append(response)
        assert seen[0].headers["ratelimit-limit"] == "1"
        assert seen[-1].status == 429
        assert seen[-1].headers["retry-after"] == "1"
        assert seen[-1].headers["ratelimit-remaining"] == "0"


async def test_more_than_40_mb_are_refused(http: aiohttp.ClientSession) -> None:
    async with http.post("/emails", data=io.BytesIO(b"x" * (40 * 1024 * 1024 + 1))) as response:
        assert (response.status, (await response.json())["statusCode"]) == (413, 413)


async def test_a_rule_answers_matching_requests_and_lets_others_through(http: aiohttp.ClientSession) -> None:
    rule = {"subject": "^bad", "status": 429, "name": "daily_quota_exceeded", "headers": {"retry-after": "60"}}
    await set_rules(http, rule)
    async with http.post("/emails", json=email("bad one")) as response:
        assert (response.status, response.headers["retry-after"]) == (429, "60")
        assert (await response.json())["name"] == "daily_quota_exceeded"
    assert (await post(http, email("good one")))[0] == 200
    assert [(record["rule"], record["outcome"]) for record in await requests(http)] == [
        ("answer", "refused"),
        ("", "accepted"),
    ]


async def test_a_rule_can_answer_what_is_not_the_apis(http: aiohttp.ClientSession) -> None:
    await set_rules(http, {"status": 502, "text": "<h1>Bad gateway</h1>"})
    async with http.post("/emails", json=email()) as response:
        assert (response.status, await response.text()) == (502, "<h1>Bad gateway</h1>")


async def test_a_rejected_member_fails_by_index_in_a_permissive_batch_and_alone_by_itself(
    http: aiohttp.ClientSession,
) -> None:
    await set_rules(http, {"action": "reject", "subject": "^b$", "message": "No such mailbox."})
    batch = [email("a"), email("b"), email("c")]
    _, answer = await post(http, batch, path="/emails/batch", x_batch_validation="permissive")
    assert answer["errors"] == [{"index": 1, "message": "No such mailbox."}]
    status, answer = await post(http, email("b"))
    assert (status, answer["message"]) == (422, "No such mailbox.")


@pytest.mark.parametrize(("action", "accepted"), [("reset", []), ("accept_then_reset", ["Hello"])])
async def test_a_reset_loses_the_answer(http: aiohttp.ClientSession, action: str, accepted: list[str]) -> None:
    await set_rules(http, {"action": action, "times": 1})
    with pytest.raises(aiohttp.ClientConnectionError):
        await post(http, email(), idempotency_key="k")
    assert list(await deliveries(http)) == accepted
    assert (await post(http, email(), idempotency_key="k"))[0] == 200
    assert {subject: len(ids) for subject, ids in (await deliveries(http)).items()} == {"Hello": 1}


@pytest.mark.parametrize(("action", "accepted"), [("hang", []), ("accept_then_hang", ["Hello"])])
async def test_a_hanging_request_gets_no_answer(http: aiohttp.ClientSession, action: str, accepted: list[str]) -> None:
    await set_rules(http, {"action": action})
    with pytest.raises(TimeoutError):
        async with http.post("/emails", json=email(), timeout=aiohttp.ClientTimeout(total=0.1)):
            pass
    assert list(await deliveries(http)) == accepted
    assert [record["status"] for record in await requests(http)] == [0]


async def test_an_error_after_acceptance_is_repaired_by_a_repeat(http: aiohttp.ClientSession) -> None:
    await set_rules(http, {"action": "accept_then_500", "times": 1})
    assert (await post(http, email(), idempotency_key="k"))[0] == 500
    status, answer = await post(http, email(), idempotency_key="k")
    assert status == 200
    assert await deliveries(http) == {"Hello": [answer["id"]]}


async def test_rules_that_cannot_be_read_are_refused(http: aiohttp.ClientSession) -> None:
    for body in ('{"rules": [{"action": "explode"}]}', "not json"):
        async with http.post("/_sandbox/rules", data=body) as response:
            assert (response.status, (await response.json())["name"]) == (400, "invalid_rules")


async def test_a_request_is_recorded_with_what_it_carried(http: aiohttp.ClientSession) -> None:
    await post(http, [email("a"), email("b")], path="/emails/batch", idempotency_key="k")
    (record,) = await requests(http)
    assert (record["path"], record["idempotency_key"], record["n"]) == ("/emails/batch", "k", 2)
    assert (record["subjects"], record["status"], record["outcome"]) == (["a", "b"], 200, "accepted")
    assert len(str(record["body_sha256"])) == 64


async def test_a_reset_forgets_everything(http: aiohttp.ClientSession) -> None:
    await set_rules(http, {"subject": "nothing"})
    await post(http, email(), idempotency_key="k")
    async with http.post("/_sandbox/reset"):
        pass
    assert (await deliveries(http), await requests(http)) == ({}, [])
    assert (await post(http, email("other"), idempotency_key="k"))[0] == 200


async def test_a_deaf_sandbox_refuses_connections_and_comes_back_with_what_it_knew(
    http: aiohttp.ClientSession, sandbox: SandboxServer
) -> None:
    _, answer = await post(http, email(), idempotency_key="k")
    await sandbox.listen(on=False)
    with pytest.raises(aiohttp.ClientConnectionError):
        await post(http, email())
    await sandbox.listen(on=True)
    assert (await post(http, email(), idempotency_key="k"))[1] == answer


async def test_the_sandbox_can_be_made_deaf_for_a_time_by_http(http: aiohttp.ClientSession) -> None:
    async with http.post("/_sandbox/listen", json={"off_for_s": 0.2}):
        pass
    with pytest.raises(aiohttp.ClientConnectionError):
        await until_refused(http)
    async with asyncio.timeout(5):
        while True:
            try:
                await deliveries(http)
            except aiohttp.ClientConnectionError:
                continue
            break


async def test_a_taken_port_ends_the_start(sandbox: SandboxServer) -> None:
    other = SandboxServer(sandbox.port)
    with pytest.raises(OSError, match="address already in use"):
        await other.start()
    await other.stop()


def test_free_ports_are_below_those_of_outgoing_connections() -> None:
    assert 1024 < free_port() < 32_768
