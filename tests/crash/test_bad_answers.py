"""Whatever a provider, or what stands before it, answers: no crash, no second delivery, no email that is stuck."""

import gzip
import json
from dataclasses import replace

import pytest

from crash.interleavings.stage import Stage
from sred_email_local.sandbox.rules import Action, Rule

_OK = '{"id": "49a3999c-0ce1-4ea6-ab68-afcd6dc2e794"}'


def http(body: str, *headers: str, status: str = "200 OK", length: int | None = None) -> str:
    """An answer as it goes over the connection."""
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", *headers]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines) + "\r\n\r\n" + body


def zipped(text: str) -> str:
    """Text, compressed, as one character a byte."""
    return gzip.compress(text.encode()).decode("latin-1")


# What is answered when the email has been accepted: none of it says so, none of it says the contrary.
UNREADABLE = {
    "nothing": "",
    "no HTTP": "220 mail.example.com ESMTP\r\n",
    "bytes": "\x16\x03\x01\x00\xff\xfe" * 20,
    "half a status line": "HTTP/1.1 2",
    "half a header": "HTTP/1.1 200 OK\r\nContent-Le",
    "no body": "HTTP/1.1 200 OK\r\nContent-Length: 46\r\n\r\n",
    "half a body": http(_OK[:20], length=len(_OK)),
    "half a chunk": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2e\r\n" + _OK[:20],
    "a chunk of no length": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + _OK,
    "two lengths": http(_OK, "Content-Length: 3"),
    "a negative length": "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n" + _OK,
    "an endless header": "HTTP/1.1 200 OK\r\nX-Long: " + "x" * 100_000 + "\r\n\r\n" + _OK,
    "headers without end": "HTTP/1.1 200 OK\r\n" + "X-Many: x\r\n" * 20_000,
    "a header that is none": "HTTP/1.1 200 OK\r\n: :\r\nno colon\r\n\r\n" + _OK,
    "a status of words": "HTTP/1.1 OK 200\r\n\r\n" + _OK,
    "status 199": "HTTP/1.1 199 Hm\r\n\r\n",
    "status 999": http(_OK, status="999 Hm"),
    "status 201": http(_OK, status="201 Created"),
    "status 204": "HTTP/1.1 204 No Content\r\n\r\n",
    "status 206": http(_OK, status="206 Partial Content"),
    "status 500 with the body of a 200": http(_OK, status="500 Oh"),
    "status 503 of a proxy": http("<html>Wait</html>", "Retry-After: later", status="503 Service Unavailable"),
    "status 408": http("", status="408 Request Timeout"),
    "zipped that is not": http(_OK, "Content-Encoding: gzip"),
    "zipped by halves": http(zipped(_OK)[:20], "Content-Encoding: gzip"),
    "zipped in another way": http(_OK, "Content-Encoding: br"),
    "zipped megabytes": http(zipped(" " * 10_000_000 + _OK), "Content-Encoding: gzip"),
    "empty": http(""),
    "not JSON": http("<html>OK</html>"),
    "half of JSON": http(_OK[:20]),
    "null": http("null"),
    "a number": http("1e999"),
    "a number of a million digits": http("1" * 900_000),
    "a list": http(f"[{_OK}]"),
    "a list in a list, very often": http("[" * 400_000),
    "an object without an id": http("{}"),
    "an id that is null": http('{"id": null}'),
    "an id that is a number": http('{"id": 1}'),
    "an id that is empty": http('{"id": ""}'),
    "an id that is a list": http('{"id": ["x"]}'),
    "an error with status 200": http(json.dumps({"statusCode": 422, "name": "validation_error", "message": "No."})),
    "megabytes": http(" " * 10_000_000 + _OK),
    "UTF-16": http(_OK.encode("utf-16").decode("latin-1")[:-1]),
}


@pytest.mark.parametrize("answer", UNREADABLE)
async def test_an_answer_that_says_nothing_leads_to_a_repeat_of_the_same(stage: Stage, answer: str) -> None:
    consumer = stage.consumer()
    email_id = await stage.accept_one("unreadable")
    stage.rules(Rule(action=Action.ACCEPT_THEN_RAW, text=UNREADABLE[answer], times=1))
    await consumer.take()
    assert await stage.status(email_id) == "RETRYING"
    await stage.time_passes(60)
    await consumer.work()
    stage.assert_one_send("unreadable", requests=2)
    await stage.assert_sent_once(email_id, "unreadable")
    await stage.assert_nothing_left()


READABLE = {
    "after 100 Continue": "HTTP/1.1 100 Continue\r\n\r\n" + http(_OK),
    "after 103 Early Hints": "HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n" + http(_OK),
    "with headers that lie": http(_OK, "Content-Type: text/html; charset=no-such", "Retry-After: 99999", "Date: never"),
    "with a cookie that is none": http(_OK, "Set-Cookie: \x01=;;=,,\xff"),
    "with a redirect": http(_OK, "Location: https://example.com/"),
    "zipped": http(zipped(_OK), "Content-Encoding: gzip"),
    "with an id that cannot be printed": http('{"id": "\\u0000\\ud800\\n\\u202e"}'),
    "with an id without end": http(json.dumps({"id": "x" * 900_000})),
    "with a name that comes twice": http('{"id": 1, "id": "x"}'),
    "with more than was asked": http(json.dumps({"id": "x", "data": [], "errors": [1], "name": "n", "message": "m"})),
}


@pytest.mark.parametrize("answer", READABLE)
async def test_an_answer_that_says_yes_in_an_odd_way_is_a_yes(stage: Stage, answer: str) -> None:
    consumer = stage.consumer()
    email_id = await stage.accept_one("readable")
    stage.rules(Rule(action=Action.ACCEPT_THEN_RAW, text=READABLE[answer], times=1))
    await consumer.work()
    stage.assert_one_send("readable", requests=1)
    await stage.assert_sent_once(email_id, "readable")
    await stage.assert_nothing_left()


async def test_an_answer_that_drips_longer_than_anybody_waits_is_none(stage: Stage) -> None:
    consumer = stage.consumer()
    email_id = await stage.accept_one("drips")
    stage.rules(Rule(action=Action.ACCEPT_THEN_DRIP, delay_s=0.1, times=1))
    await consumer.take()
    assert await stage.status(email_id) == "RETRYING"
    await stage.time_passes(60)
    await consumer.work()
    stage.assert_one_send("drips", requests=2)
    await stage.assert_sent_once(email_id, "drips")


REFUSING = {
    "301": Rule(status=301, headers={"location": "https://example.com/"}, text=""),
    "302 to itself": Rule(status=302, headers={"location": "/emails"}, text=""),
    "304": Rule(status=304, text=""),
    "307": Rule(status=307, headers={"location": "/emails"}, text=""),
    "400 of a proxy": Rule(status=400, text="<html>No</html>"),
    "404 of a proxy": Rule(status=404, text="not here"),
    "407": Rule(status=407, text=""),
    "418 that is not JSON": Rule(status=418, text="{"),
    "422 with a list": Rule(status=422, text="[]"),
    "422 with a name that is a number": Rule(status=422, text='{"name": 1, "message": "No."}'),
    "429 with a time that is none": Rule(status=429, name="rate_limit_exceeded", headers={"retry-after": "soon"}),
    "429 with a time that is past": Rule(status=429, name="rate_limit_exceeded", headers={"retry-after": "-5"}),
    "429 with no time at all": Rule(status=429, name="rate_limit_exceeded", headers={"retry-after": "nan"}),
    "429 with a time without end": Rule(status=429, name="rate_limit_exceeded", headers={"retry-after": "1e400"}),
    "429 with a date": Rule(
        status=429, name="rate_limit_exceeded", headers={"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}
    ),
    "429 of a proxy": Rule(status=429, text="slow down"),
    "429 of an unknown name": Rule(status=429, name="\x00\x1b[31m\ud83d", message="\x00"),
    "401 with megabytes": Rule(status=401, name="missing_api_key", message="x" * 2_000_000),
    "451 of a proxy": Rule(status=451, text="not in your country"),
}


@pytest.mark.parametrize("emails", [1, 3], ids=["alone", "batch"])
@pytest.mark.parametrize("answer", REFUSING)
async def test_a_refusal_that_is_no_emails_fault_is_waited_out(stage: Stage, answer: str, emails: int) -> None:
    consumer = stage.consumer(consumer_slots=1)
    subjects = [f"waits {n}" for n in range(emails)]
    ids = await stage.accept(*subjects)
    stage.rules(replace(REFUSING[answer], times=1))
    await consumer.take()
    for email_id in ids:
        row = await stage.row(email_id)
        assert (row["status"], row["attempts"]) == ("RETRYING", 0)
        assert len(row["last_error"]) <= 1000
    await stage.time_passes(3700)
    await consumer.work()
    for email_id, subject in zip(ids, subjects, strict=True):
        await stage.assert_sent_once(email_id, subject)
    await stage.assert_nothing_left()
