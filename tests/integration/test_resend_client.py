"""The Resend client against the sandbox: what no answer of the provider tells."""

from datetime import timedelta
from pathlib import Path

import pytest

from sred_email_consumer.outcome import Accepted, Failure, FailureKind
from sred_email_consumer.resend import ApiKey, Request, open_resend
from sred_email_local.sandbox.provider import Options
from sred_email_local.sandbox.server import SandboxServer

REQUEST = Request("/emails", "k", b'{"from":"a@example.com","to":["b@example.com"],"subject":"s","text":"t"}', 1)


def nothing() -> None:
    """Nobody asks when a request goes out."""


@pytest.mark.parametrize("content", [b"", b"re_a\nre_b", b"\xff\xfe", b"re_\x07"])
async def test_a_bad_key_file_is_a_misconfiguration_until_it_is_mended(
    sandbox: SandboxServer, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    key = ApiKey(None, file)
    async with open_resend(sandbox.url, key, timeout=timedelta(seconds=2), connections=1) as resend:
        refused = await resend.post(REQUEST, nothing)
        assert isinstance(refused, Failure)
        assert refused.kind is FailureKind.MISCONFIGURED
        file.write_text("re_good\n")
        assert isinstance(await resend.post(REQUEST, nothing), Accepted)


async def test_hazard_15_a_new_key_is_in_use_with_the_next_request_whoever_was_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("re_old\n")
    key = ApiKey(None, file)
    async with (
        SandboxServer(options=Options(api_key="re_old", requests_per_second=0)) as sandbox,
        open_resend(sandbox.url, key, timeout=timedelta(seconds=2), connections=1) as resend,
    ):
        assert isinstance(await resend.post(REQUEST, nothing), Accepted)
        sandbox.provider.replace_api_key("re_new")
        assert isinstance(await resend.post(REQUEST, nothing), Failure)
        file.write_text("re_new\n")
        assert isinstance(await resend.post(REQUEST, nothing), Accepted)
        for unusable in ("", "two\nlines"):
            file.write_text(unusable)
            assert isinstance(await resend.post(REQUEST, nothing), Accepted)
        file.unlink()
        assert isinstance(await resend.post(REQUEST, nothing), Accepted)
        sandbox.provider.replace_api_key("re_third")
        file.write_text("re_third")
        assert isinstance(await resend.post(REQUEST, nothing), Accepted)


async def test_a_refused_connection_is_definite() -> None:
    async with SandboxServer() as gone:
        url = gone.url
    async with open_resend(url, ApiKey("re_key", None), timeout=timedelta(seconds=2), connections=1) as resend:
        answer = await resend.post(REQUEST, nothing)
    assert isinstance(answer, Failure)
    assert answer.kind is FailureKind.NOT_SENT


async def test_it_is_told_when_a_request_goes_out(sandbox: SandboxServer) -> None:
    told: list[int] = []
    async with open_resend(sandbox.url, ApiKey("re_test", None), timeout=timedelta(seconds=5), connections=1) as client:
        answer = await client.post(REQUEST, lambda: told.append(len(list(sandbox.provider.requests))))
    assert isinstance(answer, Accepted)
    assert told == [0]
