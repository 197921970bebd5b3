"""Templates at acceptance: the rendered email is what is kept and sent, and a key that is held comes before them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.struct_pb2 import Struct
from integration.ingress.ingress_world import IngressWorld
from redis.asyncio import Redis

from sred.email.v1.dispatch_service_pb2 import SendEmailRequest
from sred.email.v1.email_pb2 import EMAIL_KIND_PASSWORD_RESET, TemplateContent
from sred_email_core.errors import IdempotencyKeyReusedError, InvalidRequestError
from sred_email_core.queue.codec import decode
from sred_email_core.queue.keys import Lane

if TYPE_CHECKING:
    import asyncpg

VARIABLES = {"reset_url": "https://example.com/reset/1", "expires_in": "one hour", "name": "<Ada>"}


def reset(key: str, template_id: str = "password-reset", **variables: Any) -> SendEmailRequest:
    values = Struct()
    values.update(VARIABLES | variables)
    return SendEmailRequest(
        idempotency_key=key,
        kind=EMAIL_KIND_PASSWORD_RESET,
        to=["ada@example.com"],
        template=TemplateContent(template_id=template_id, variables=values),
    )


async def test_the_rendered_email_is_what_is_kept_and_travels(ingress: IngressWorld) -> None:
    answer = await ingress.send_request(reset("a"))
    row = await ingress.row(answer.email_id)
    assert row["subject"] == "Choose a new password for SREDSimplify"
    assert row["expire_at"] is not None
    ((_, fields),) = await ingress.redis.xrange(ingress.keys.stream(Lane.HIGH))
    content = decode(fields, Lane.HIGH).content
    assert content is not None
    assert "Hello &lt;Ada&gt;," in content.html
    assert "Hello <Ada>," in content.text
    assert content.SerializeToString() == row["message"]


async def test_hazard_25_a_retry_is_the_same_email_though_its_template_was_changed_or_removed(
    pool: "asyncpg.Pool[Any]", redis: Redis, tmp_path: Path
) -> None:
    for suffix in ("toml", "mjml", "txt"):
        (tmp_path / f"mine.{suffix}").write_text(
            {
                "toml": 'about = "Mine."\nsubject = "{{ name }}"\n'
                + "".join(f'[variables.{name}]\nmeaning = "m"\nexample = "e"\n' for name in VARIABLES),
                "mjml": "<mj-section><mj-column><mj-text>{{ name }}</mj-text></mj-column></mj-section>",
                "txt": "{{ reset_url }} {{ expires_in }}",
            }[suffix]
        )
    before = IngressWorld(pool, redis, templates_dir=tmp_path)
    first = await before.send_request(reset("mine", "mine"))
    builtin = await before.send_request(reset("builtin"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "password-reset.txt").write_text("changed")
    after = IngressWorld(pool, redis, templates_dir=tmp_path / "other")
    again = await after.send_request(reset("mine", "mine"))
    assert (again.email_id, again.deduplicated) == (first.email_id, True)
    again = await after.send_request(reset("builtin"))
    assert (again.email_id, again.deduplicated) == (builtin.email_id, True)
    with pytest.raises(IdempotencyKeyReusedError):
        await after.send_request(reset("mine", "mine", name="Grace"))
    with pytest.raises(InvalidRequestError, match=r"template\.template_id"):
        await after.send_request(reset("new", "mine"))


async def test_what_a_template_refuses_writes_nothing_and_leaves_the_others_of_its_call_alone(
    ingress: IngressWorld,
) -> None:
    bad = reset("bad", expires_in=None, reset_url="javascript:alert(1)")
    accepted, refused = await ingress.parts.dispatch.send_many([reset("good"), bad])
    assert isinstance(refused, InvalidRequestError)
    assert [violation.field for violation in refused.violations] == [
        "template.variables.reset_url",
        "template.variables.expires_in",
    ]
    assert not isinstance(accepted, Exception)
    assert len(await ingress.subjects()) == 1


async def test_a_call_that_was_refused_may_be_mended_under_its_key(ingress: IngressWorld) -> None:
    with pytest.raises(InvalidRequestError):
        await ingress.send_request(reset("key", expires_in=None))
    assert not (await ingress.send_request(reset("key"))).deduplicated
