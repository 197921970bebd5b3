"""Tokens and TLS on the running pair: who called stands in the log and in the audit; keys change while it serves."""

import asyncio
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sred_email_client import EmailClient, PermissionDeniedError, SyncEmailClient, Tls, UnauthenticatedError
from support.access_files import TOKENS, Certificates, token_line, write_tokens
from support.world import Service, World, until

FIELDS: dict[str, Any] = {"kind": "WELCOME", "to": "ada@example.com", "subject": "Hello", "text": "Hello"}


class Secured:
    """The pair behind tokens and TLS that asks for certificates."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.certificates = Certificates(folder / "certificates")
        self.tokens = write_tokens(folder / "tokens")
        certificate, key = self.certificates.issue("server")
        env = {
            "SRED_EMAIL_AUTH": "tokens",
            "SRED_EMAIL_TOKENS_FILE": str(self.tokens),
            "SRED_EMAIL_TLS_CERT_FILE": str(certificate),
            "SRED_EMAIL_TLS_KEY_FILE": str(key),
            "SRED_EMAIL_TLS_CLIENT_CA_FILE": str(self.certificates.ca),
        }
        self.ingress: Service = world.launch("ingress", **env)
        self.consumer: Service = world.launch("consumer", **env)
        certificate, key = self.certificates.issue("shop")
        self.tls = Tls(ca_file=self.certificates.ca, cert_file=certificate, key_file=key)

    @property
    def target(self) -> str:
        return self.ingress.address.replace("127.0.0.1", "localhost")

    async def command(self, *words: str, token: str) -> tuple[int, str, str]:
        """Run ``sred-email`` with the operator's certificate and a token."""
        env = {
            "PATH": os.environ["PATH"],
            "SRED_EMAIL_TOKEN": token,
            "SRED_EMAIL_OPERATOR": "Änne",
            "SRED_EMAIL_TLS_CA_FILE": str(self.tls.ca_file),
            "SRED_EMAIL_TLS_CLIENT_CERT_FILE": str(self.tls.cert_file),
            "SRED_EMAIL_TLS_CLIENT_KEY_FILE": str(self.tls.key_file),
            "SRED_EMAIL_INGRESS_ADDRESS": self.target,
            "SRED_EMAIL_CONSUMER_ADDRESS": self.consumer.address.replace("127.0.0.1", "localhost"),
        }
        program = str(Path(sys.executable).with_name("sred-email"))
        done = await asyncio.to_thread(
            subprocess.run, [program, *words], env=env, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
async def secured(world: World, tmp_path: Path) -> Secured:
    pair = Secured(world, tmp_path)
    await asyncio.gather(pair.ingress.ready(timeout_s=60), pair.consumer.ready(timeout_s=60))
    return pair


async def test_calls_are_let_in_and_remembered_by_their_tokens_over_connections_that_show_certificates(
    secured: Secured,
) -> None:
    """One test, since starting the pair is most of it."""
    await who_called_stands_in_the_log_and_in_the_audit(secured)
    await a_caller_without_a_certificate_gets_no_connection(secured)
    await another_callers_retry_is_still_a_retry_and_a_replaced_token_is_refused(secured)
    for service in (secured.ingress, secured.consumer):  # of gRPC's own, too: nobody outside writes into the log
        assert all(json.loads(line) for line in service.process.log.read_text().splitlines())


async def who_called_stands_in_the_log_and_in_the_audit(secured: Secured) -> None:
    async with EmailClient(secured.target, token=TOKENS["send"], tls=secured.tls) as client:
        sent = await client.send(idempotency_key="first", **FIELDS)
        with pytest.raises(PermissionDeniedError, match="scope read"):
            await client.get(sent.email_id)
    with SyncEmailClient(secured.target, token=TOKENS["read"], tls=secured.tls) as reader:
        email = await asyncio.to_thread(reader.get, sent.email_id)
        assert (email.idempotency_key, email.caller) == ("first", "send")
    stranger = SyncEmailClient(secured.target, token="wrong", tls=secured.tls)
    with stranger, pytest.raises(UnauthenticatedError, match="does not hold"):
        await asyncio.to_thread(stranger.get, sent.email_id)
    await secured.world.wait_for(sent.email_id, "SUCCESS")

    for words in (["status", sent.email_id], ["list"]):
        _, shown, _ = await secured.command(*words, "--json", token=TOKENS["read"])
        assert json.loads(shown)["caller"] == "send"
    assert (await secured.command("pause", "--lane", "LOW", token=TOKENS["read"]))[0] == 1
    assert (await secured.command("pause", "--lane", "LOW", token=TOKENS["operate"]))[0] == 0
    _, listed, _ = await secured.command("audit", "--json", token=TOKENS["read"])
    (entry,) = map(json.loads, listed.splitlines())
    assert entry["action"] == "PAUSE"
    assert entry["actor"].startswith("operate as Änne (")

    async with EmailClient(secured.target, token=TOKENS["send"], tls=secured.tls) as client:
        later = datetime.now(UTC) + timedelta(hours=2)
        waiting = [
            (await client.send(idempotency_key=f"later-{n}", **FIELDS, send_at=later)).email_id for n in range(2)
        ]
        await client.cancel(waiting[0])
    assert (await secured.command("cancel", waiting[1].upper(), token=TOKENS["send"]))[0] == 0
    assert (await secured.command("cancel", waiting[1], token=TOKENS["send"]))[0] == 1  # it has ended: nothing was done
    _, listed, _ = await secured.command("audit", "--json", token=TOKENS["read"])
    entries = [json.loads(line) for line in listed.splitlines()]
    cancelled = [entry for entry in entries if entry["action"] == "CANCEL"]
    assert [entry["target"] for entry in cancelled] == waiting[::-1]
    assert [entry["actor"].partition(" (")[0] for entry in cancelled] == ["send as Änne", "send"]

    said = secured.ingress.process.log.read_text() + secured.consumer.process.log.read_text()
    assert '"callers":["send"]' in said
    assert '"event":"calls_denied"' in said
    assert not any(token in said for token in TOKENS.values())


async def another_callers_retry_is_still_a_retry_and_a_replaced_token_is_refused(secured: Secured) -> None:
    async with EmailClient(secured.target, token=TOKENS["send"], tls=secured.tls) as client:
        first = await client.send(idempotency_key="shared", **FIELDS)
    write_tokens(secured.tokens, token_line("shop", "send", "new-token"))

    async def replaced() -> bool:
        async with EmailClient(secured.target, token=TOKENS["send"], tls=secured.tls) as old:
            try:
                await old.send(idempotency_key="shared", **FIELDS)
            except UnauthenticatedError:
                return True
            return False

    await until(replaced, "the new file holds")
    async with EmailClient(secured.target, token="new-token", tls=secured.tls) as shop:
        again = await shop.send(idempotency_key="shared", **FIELDS)
    assert (again.email_id, again.deduplicated) == (first.email_id, True)


def test_the_client_does_not_send_a_token_unencrypted_to_another_machine() -> None:
    for client in (EmailClient, SyncEmailClient):
        with pytest.raises(ValueError, match="unencrypted: give tls="):
            client("dns:///sred-email-ingress:50051", token="secret")
        client("dns:///sred-email-ingress:50051", token="secret", tls="plaintext")
        client("[::1]:50051", token="secret")


async def a_caller_without_a_certificate_gets_no_connection(secured: Secured) -> None:
    only_ca = grpc.ssl_channel_credentials(secured.certificates.ca.read_bytes())
    async with grpc.aio.secure_channel(secured.target, only_ca) as channel:
        health: Any = health_pb2_grpc.HealthStub(cast("grpc.Channel", channel))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await health.Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
