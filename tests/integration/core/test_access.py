"""Every door of a gRPC port: without a key, with a wrong one, with another's; and keys that change while it serves."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from prometheus_client import CollectorRegistry

from sred.email.v1 import dispatch_service_pb2 as pb
from sred.email.v1 import dispatch_service_pb2_grpc
from sred_email_core.access.access import Access
from sred_email_core.access.caller import caller_name
from sred_email_core.access.settings import AccessSettings
from sred_email_core.access.tokens import Scope
from sred_email_core.grpc_server import running_grpc_server
from sred_email_core.health_service import HealthService
from sred_email_core.metrics import CallMetrics
from sred_email_core.settings import ListenAddress
from sred_email_local.ports import free_port
from support.access_files import TOKENS, Certificates, bearer, mount, token_line, write_tokens

SCOPES = {
    **dict.fromkeys(["SendEmail", "BatchSendEmails", "StreamSendEmails", "CancelEmail"], Scope.SEND),
    **dict.fromkeys(["GetEmail", "ListEmails", "WatchEmails"], Scope.READ),
}


class Named(dispatch_service_pb2_grpc.EmailDispatchServiceServicer):
    """Answers with the caller's name."""

    async def SendEmail(self, request: pb.SendEmailRequest, context: Any) -> pb.SendEmailResponse:  # noqa: ARG002, N802
        return pb.SendEmailResponse(email_id=caller_name() or "nobody")

    async def WatchEmails(self, request: Any, context: Any) -> AsyncIterator[pb.WatchEmailsResponse]:  # noqa: ARG002, N802
        yield pb.WatchEmailsResponse(resume_token=caller_name() or "nobody")
        await asyncio.Event().wait()


class Door:
    """A server, its access, and how to call it."""

    def __init__(self, access: Access, registry: CollectorRegistry, port: int) -> None:
        self.access = access
        self.registry = registry
        self.port = port
        self.channels: list[grpc.aio.Channel] = []

    def channel(self, credentials: grpc.ChannelCredentials | None = None) -> grpc.aio.Channel:
        options = [("grpc.use_local_subchannel_pool", 1)]
        address = f"localhost:{self.port}"
        if credentials is None:
            channel = grpc.aio.insecure_channel(address, options=options)
        else:
            channel = grpc.aio.secure_channel(address, credentials, options=options)
        self.channels.append(channel)
        return channel

    async def send(self, token: str = "", credentials: grpc.ChannelCredentials | None = None) -> str:
        """The caller's name, or the status of the failure."""
        stub: Any = dispatch_service_pb2_grpc.EmailDispatchServiceStub(self.channel(credentials))
        try:
            answer = await stub.SendEmail(pb.SendEmailRequest(), timeout=10, metadata=bearer(token) if token else ())
        except grpc.aio.AioRpcError as e:
            return e.code().name
        return str(answer.email_id)

    async def look_again(self) -> None:
        """As the loop does; twice, since what can't be used is told of when it stays so."""
        for _ in range(2):
            for files in self.access._loops:  # noqa: SLF001 - its loop, without waiting
                await files.run_once()


@asynccontextmanager
async def door(**settings: Any) -> AsyncIterator[Door]:
    registry = CollectorRegistry()
    access = Access(AccessSettings(**settings), registry)
    port = free_port()
    async with running_grpc_server(
        ListenAddress("127.0.0.1", port),
        lambda server: dispatch_service_pb2_grpc.add_EmailDispatchServiceServicer_to_server(Named(), server),
        service_names=[],
        health=HealthService("x"),
        grace=timedelta(),
        calls=CallMetrics(registry),
        access=access,
        scopes=SCOPES,
    ):
        opened = Door(access, registry, port)
        yield opened
        for channel in opened.channels:
            await channel.close()


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    return write_tokens(tmp_path / "tokens")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def caller(ca: Path, pair: tuple[Path, Path] | None = None) -> grpc.ChannelCredentials:
    if pair is None:
        return grpc.ssl_channel_credentials(ca.read_bytes())
    certificate, key = pair
    return grpc.ssl_channel_credentials(ca.read_bytes(), key.read_bytes(), certificate.read_bytes())


# Tokens


async def test_a_call_is_let_in_by_a_token_of_its_scope_and_its_caller_is_known(tokens: Path) -> None:
    async with door(tokens_file=tokens) as to:
        assert await to.send(TOKENS["send"]) == "send"
        assert await to.send() == "UNAUTHENTICATED"
        assert await to.send("guessed") == "UNAUTHENTICATED"
        assert await to.send(TOKENS["read"]) == "PERMISSION_DENIED"
        denied = {
            reason: to.registry.get_sample_value("sred_email_calls_denied_total", {"reason": reason})
            for reason in ("TOKEN_MISSING", "TOKEN_UNKNOWN", "SCOPE_MISSING")
        }
        assert denied == {"TOKEN_MISSING": 1, "TOKEN_UNKNOWN": 1, "SCOPE_MISSING": 1}


async def test_off_lets_everybody_in_and_nobody_has_a_name() -> None:
    async with door(auth="off") as to:
        assert await to.send() == "nobody"
        assert await to.send("whatever") == "nobody"


async def test_every_kind_of_call_is_guarded_and_told_why(tokens: Path) -> None:
    async with door(tokens_file=tokens) as to:
        stub: Any = dispatch_service_pb2_grpc.EmailDispatchServiceStub(to.channel())
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(cast("grpc.Channel", to.channel()))
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        for call in (
            stub.SendEmail(pb.SendEmailRequest(), timeout=10),
            stub.WatchEmails(pb.WatchEmailsRequest(), timeout=10),
            stub.StreamSendEmails(iter([pb.StreamSendEmailsRequest()]), timeout=10),
            reflection.ServerReflectionInfo(asked, timeout=10),
        ):
            assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
            assert "authorization: Bearer TOKEN" in await call.details()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.SendEmail(pb.SendEmailRequest(), timeout=10)
        status = rpc_status.from_call(refused.value)  # type: ignore[arg-type]
        info = error_details_pb2.ErrorInfo()
        assert status is not None
        assert status.details[0].Unpack(info)
        assert info.reason == "TOKEN_MISSING"


async def test_health_is_open_and_any_token_may_reflect(tokens: Path) -> None:
    async with door(tokens_file=tokens) as to:
        health: Any = health_pb2_grpc.HealthStub(to.channel())
        assert (await health.Check(health_pb2.HealthCheckRequest(), timeout=10)).status
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(cast("grpc.Channel", to.channel()))
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        answers = [a async for a in reflection.ServerReflectionInfo(asked, metadata=bearer(TOKENS["operate"]))]
        assert answers


async def test_a_file_that_was_replaced_holds_and_ends_the_streams_of_tokens_that_left_it(tokens: Path) -> None:
    async with door(tokens_file=tokens) as to:
        stub: Any = dispatch_service_pb2_grpc.EmailDispatchServiceStub(to.channel())
        watch = stub.WatchEmails(pb.WatchEmailsRequest(), metadata=bearer(TOKENS["read"]))
        assert (await watch.read()).resume_token == "read"
        write_tokens(tokens, token_line("send", "send", TOKENS["send"]) + token_line("shop", "send", "new"))
        await to.look_again()
        assert await to.send("new") == "shop"
        assert await to.send(TOKENS["send"]) == "send"
        assert await watch.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_file_that_breaks_changes_nothing_and_is_told_of(
    tokens: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with door(tokens_file=tokens) as to:

        def usable() -> float | None:
            return to.registry.get_sample_value("sred_email_access_file_usable", {"file": "tokens"})

        assert usable() == 1
        write_tokens(tokens, "shop write hunter2\n")
        await to.look_again()
        await to.look_again()
        assert usable() == 0
        assert await to.send(TOKENS["send"]) == "send"
        tokens.rename(tokens.with_suffix(".gone"))  # noqa: ASYNC240 - a test's
        await to.look_again()
        assert await to.send(TOKENS["send"]) == "send"
        write_tokens(tokens)
        await to.look_again()
        assert usable() == 1
    said = capsys.readouterr()
    assert (said.out + said.err).count("access_file_unusable") == 2  # broken, then gone
    assert "hunter2" not in said.out + said.err
    assert TOKENS["send"] not in said.out + said.err


# TLS


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
async def test_a_port_with_a_certificate_takes_tls_and_nothing_else(tokens: Path, certificates: Certificates) -> None:
    certificate, key = certificates.issue("server")
    other = Certificates(tokens.parent / "other")
    async with door(tokens_file=tokens, tls_cert_file=certificate, tls_key_file=key) as to:
        assert await to.send(TOKENS["send"], caller(certificates.ca)) == "send"
        assert await to.send("", caller(certificates.ca)) == "UNAUTHENTICATED"
        assert await to.send(TOKENS["send"]) == "UNAVAILABLE"  # plaintext
        assert await to.send(TOKENS["send"], caller(other.ca)) == "UNAVAILABLE"  # it trusts others
        assert (await asyncio.to_thread(_handshake, to.port, certificates.ca, ssl.TLSVersion.TLSv1_3))[0] == "TLSv1.3"
        assert (await asyncio.to_thread(_handshake, to.port, certificates.ca, ssl.TLSVersion.TLSv1_2))[0] == "TLSv1.2"
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.to_thread(_handshake, to.port, certificates.ca, ssl.TLSVersion.TLSv1_1)


async def test_a_caller_must_show_a_certificate_of_the_right_authority_that_has_not_expired(
    tokens: Path, certificates: Certificates
) -> None:
    certificate, key = certificates.issue("server")
    foreign = Certificates(tokens.parent / "foreign")
    async with door(
        tokens_file=tokens, tls_cert_file=certificate, tls_key_file=key, tls_client_ca_file=certificates.ca
    ) as to:
        token = TOKENS["send"]
        assert await to.send(token, caller(certificates.ca, certificates.issue("shop"))) == "send"
        assert await to.send("", caller(certificates.ca, certificates.issue("shop"))) == "UNAUTHENTICATED"
        assert await to.send(token, caller(certificates.ca)) == "UNAVAILABLE"
        assert await to.send(token, caller(certificates.ca, foreign.issue("shop"))) == "UNAVAILABLE"
        assert await to.send(token, caller(certificates.ca, certificates.issue("old", expired=True))) == "UNAVAILABLE"


async def test_a_certificate_that_was_renewed_is_shown_from_then_on_and_a_broken_one_never(
    tokens: Path, certificates: Certificates, tmp_path: Path
) -> None:
    first, second = certificates.issue("first"), certificates.issue("second")
    mounted = mount(tmp_path / "mounted", "1", {"tls.crt": first[0], "tls.key": first[1]})
    async with door(tokens_file=tokens, tls_cert_file=mounted["tls.crt"], tls_key_file=mounted["tls.key"]) as to:

        async def shown() -> str:
            return (await asyncio.to_thread(_handshake, to.port, certificates.ca, ssl.TLSVersion.TLSv1_3))[1]

        stub: Any = dispatch_service_pb2_grpc.EmailDispatchServiceStub(to.channel(caller(certificates.ca)))
        watch = stub.WatchEmails(pb.WatchEmailsRequest(), metadata=bearer(TOKENS["read"]))
        assert (await watch.read()).resume_token == "read"
        assert await shown() == "first"
        mount(tmp_path / "mounted", "2", {"tls.crt": second[0], "tls.key": first[1]})  # they don't fit together
        await to.look_again()
        assert await shown() == "first"
        assert to.registry.get_sample_value("sred_email_access_file_usable", {"file": "certificate"}) == 0
        mount(tmp_path / "mounted", "3", {"tls.crt": second[0], "tls.key": second[1]})
        await to.look_again()
        assert await shown() == "second"
        assert await to.send(TOKENS["send"], caller(certificates.ca)) == "send"
        assert not watch.done()  # what was open goes on


def _handshake(port: int, ca: Path, version: ssl.TLSVersion) -> tuple[str | None, str]:
    """What was agreed on, and whose certificate was shown."""
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["h2"])
    if version < ssl.TLSVersion.TLSv1_2:
        context.set_ciphers("ALL:@SECLEVEL=0")  # else this side would refuse by itself
    context.minimum_version = context.maximum_version = version
    with socket.create_connection(("127.0.0.1", port)) as plain:
        plain.settimeout(10)
        with context.wrap_socket(plain, server_hostname="localhost") as secured:
            subject: Any = (secured.getpeercert() or {})["subject"]
            return secured.version(), dict(pair for (pair,) in subject)["commonName"]
