"""Attachments, headers, tags and the redirect of a staging system, from the call to the provider."""

import asyncio
import base64
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest
from grpc_status import rpc_status

from sred.email.v1 import email_pb2
from sred.email.v1.email_pb2 import Attachment
from sred_email_local.sandbox.rules import Action, Rule
from support.world import World

UNSUBSCRIBE = "https://example.com/u?to={recipient}&e={email_id} mailto:u@example.com"
NEEDED, OPTIONAL = email_pb2.EMAIL_KIND_PASSWORD_RESET, email_pb2.EMAIL_KIND_QUOTA_WARNING


def delivered(world: World, subject: str) -> dict[str, Any]:
    """The one email with this subject, as the provider got it."""
    (found,) = [delivery for delivery in world.sandbox.provider.mailbox if delivery.email.subject == subject]
    return dict(found.email.source)


async def test_attachments_stay_in_postgresql_and_go_alone_past_a_backlog(world: World) -> None:
    await world.start("ingress")
    image = bytes(range(256)) * 8192  # 2 MB
    files = [
        Attachment(filename="Übersicht.pdf", content_type="application/pdf", content=b"%PDF"),
        Attachment(filename="logo.png", content_type="image/png", content=image, content_id="logo"),
    ]
    subjects = [str(number) for number in range(6)]
    ids = [
        (await world.send(s, html='<img src="cid:logo">', attachments=files if s == "3" else [])).email_id
        for s in subjects
    ]
    large = (await world.send("large", html="x" * 200_000)).email_id
    entries: Any = await world.redis.xrange(world.keys.streams[1])
    assert max(len(fields[b"message"]) for _, fields in entries) < 1000
    await world.start("consumer", SRED_EMAIL_CONSUMER_SLOTS="1")
    for email_id in (*ids, large):
        assert await world.wait_for(email_id) == "SUCCESS"
    (alone,) = [request for request in world.requests if "3" in request.subjects]
    assert (alone.path, alone.n) == ("/emails", 1)
    assert any(request.n > 1 for request in world.requests)
    source = delivered(world, "3")
    assert source["attachments"] == [
        {"filename": "Übersicht.pdf", "content": "JVBERg==", "content_type": "application/pdf"},
        {
            "filename": "logo.png",
            "content": base64.b64encode(image).decode(),
            "content_type": "image/png",
            "content_id": "logo",
        },
    ]
    tags = {tag["name"]: tag["value"] for tag in source["tags"]}
    assert tags == {"email_id": ids[3], "kind": "SYSTEM_NOTIFICATION"}


async def test_more_than_40_mb_after_base64_are_refused_by_name(world: World) -> None:
    await world.start("ingress")
    files = [Attachment(filename=f"{number}.bin", content=bytes(16 << 20)) for number in range(2)]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.send("too large", attachments=files)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    status, bad = rpc_status.from_call(refused.value), BadRequest()  # type: ignore[arg-type]
    assert status is not None
    assert status.details[0].Unpack(bad)
    assert [(v.field, v.description) for v in bad.field_violations] == [
        ("attachments", "the whole email is larger than 40 MB (after base64)")
    ]


async def test_kinds_that_nobody_needs_say_how_to_get_rid_of_them(world: World) -> None:
    await asyncio.gather(world.start("ingress"), world.start("consumer", SRED_EMAIL_UNSUBSCRIBE_URL=UNSUBSCRIBE))
    own = {"List-Unsubscribe": "<https://own.example/>"}
    optional = (await world.send("optional", kind=OPTIONAL, headers={"X-One": "1"})).email_id
    ids = [
        optional,
        (await world.send("needed", kind=NEEDED)).email_id,
        (await world.send("own", kind=OPTIONAL, headers=own)).email_id,
        (await world.send("several", kind=OPTIONAL, cc=["bob@example.com"])).email_id,
    ]
    for email_id in ids:
        assert await world.wait_for(email_id) == "SUCCESS"
    assert delivered(world, "optional")["headers"] == {
        "List-Unsubscribe": f"<https://example.com/u?to=ada%40example.com&e={optional}>, <mailto:u@example.com>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        "X-One": "1",
    }
    assert "headers" not in delivered(world, "needed")
    assert delivered(world, "own")["headers"] == own
    assert delivered(world, "several")["headers"] == {"List-Unsubscribe": "<mailto:u@example.com>"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"SRED_EMAIL_UNSUBSCRIBE_URL": UNSUBSCRIBE}, {"SRED_EMAIL_UNSUBSCRIBE_URL": "mailto:other@example.com"}),
        ({"SRED_EMAIL_REDIRECT_ALL_TO": "staging@example.com"}, {"SRED_EMAIL_UNSUBSCRIBE_URL": UNSUBSCRIBE}),
    ],
    ids=["another address", "redirect taken away"],
)
async def test_a_repeat_has_the_same_bytes_whatever_the_settings_have_become(
    world: World, before: dict[str, str], after: dict[str, str]
) -> None:
    _, consumer = await asyncio.gather(world.start("ingress"), world.start("consumer", **before))
    world.rules(Rule(action=Action.ACCEPT_THEN_500, headers={"retry-after": "1"}, times=1))
    email_id = (await world.send("a", kind=OPTIONAL)).email_id
    await world.wait_for(email_id, "RETRYING")
    await consumer.process.stop()
    await world.start("consumer", **after)
    assert await world.wait_for(email_id) == "SUCCESS"
    first, second = world.requests
    assert (first.body_sha256, first.idempotency_key) == (second.body_sha256, second.idempotency_key)
    assert second.outcome == "replayed"
    assert len(list(world.sandbox.provider.mailbox)) == 1


async def test_a_redirected_email_reaches_nobody_else_and_says_for_whom_it_was(world: World) -> None:
    redirect = {"SRED_EMAIL_REDIRECT_ALL_TO": "staging@example.com", "SRED_EMAIL_UNSUBSCRIBE_URL": UNSUBSCRIBE}
    await asyncio.gather(world.start("ingress"), world.start("consumer", **redirect))
    answer = await world.send(
        "Hello",
        kind=OPTIONAL,
        to=["Ada <ada@example.com>"],
        cc=["bob@example.com"],
        bcc=["eve@example.com"],
        attachments=[Attachment(filename="a.txt", content=b"a")],
    )
    assert await world.wait_for(answer.email_id) == "SUCCESS"
    source = delivered(world, "[to Ada <ada@example.com>, bob@example.com, eve@example.com] Hello")
    assert source["to"] == ["staging@example.com"]
    assert not {"cc", "bcc", "headers"} & set(source)
    assert source["attachments"] == [{"filename": "a.txt", "content": "YQ=="}]
    assert (await world.get_email(answer.email_id)).to == ["ada@example.com"]
