"""``sred-email suppressions``, against a consumer in this process."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from typer.testing import CliRunner, Result

from sred.email.v1 import operations_service_pb2 as pb
from sred.email.v1.email_pb2 import Suppression, SuppressionReason
from sred.email.v1.operations_service_pb2_grpc import (
    EmailOperationsServiceServicer,
    add_EmailOperationsServiceServicer_to_server,
)
from sred_email_operator.__main__ import app

NOON = Timestamp(seconds=1_750_000_000, nanos=123_000_000)


class ConsumerDouble(EmailOperationsServiceServicer):
    """Remembers what it was asked; has as many suppressions as it is told."""

    def __init__(self) -> None:
        self.address = ""
        self.addresses = ["ada@example.com"]
        self.asked: list[pb.ListSuppressionsRequest] = []
        self.added: list[pb.AddSuppressionRequest] = []
        self.removed: list[str] = []

    def ListSuppressions(  # noqa: N802 - the name in the contract
        self,
        request: pb.ListSuppressionsRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.ListSuppressionsResponse:
        self.asked.append(request)
        first = int(request.page_token or 0)
        end = first + request.page_size
        found = [Suppression(address=a, reason=1, created_at=NOON) for a in self.addresses[first:end]]  # type: ignore[arg-type]
        return pb.ListSuppressionsResponse(
            suppressions=found, next_page_token=str(end) if end < len(self.addresses) else ""
        )

    def AddSuppression(  # noqa: N802 - the name in the contract
        self,
        request: pb.AddSuppressionRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.AddSuppressionResponse:
        self.added.append(request)
        kept = Suppression(address=request.address, reason=request.reason, created_at=NOON)
        return pb.AddSuppressionResponse(suppression=kept)

    def RemoveSuppression(  # noqa: N802 - the name in the contract
        self, request: pb.RemoveSuppressionRequest, context: grpc.ServicerContext
    ) -> pb.RemoveSuppressionResponse:
        if request.address not in self.addresses:
            context.abort(grpc.StatusCode.NOT_FOUND, "the address is not suppressed")
        self.removed.append(request.address)
        return pb.RemoveSuppressionResponse()


@pytest.fixture
def consumer() -> Iterator[ConsumerDouble]:
    double = ConsumerDouble()
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    add_EmailOperationsServiceServicer_to_server(double, server)
    double.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield double
    server.stop(grace=None).wait()


def run(consumer: ConsumerDouble, *words: str) -> Result:
    result = CliRunner().invoke(app, ["suppressions", *words], env={"SRED_EMAIL_CONSUMER_ADDRESS": consumer.address})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "\x1b" not in result.output
    return result


def test_the_list_is_a_table_for_people(consumer: ConsumerDouble) -> None:
    result = run(consumer, "list")
    assert result.exit_code == 0
    header, row = result.stdout.splitlines()
    assert header.split() == ["address", "reason", "created_at", "expires_at"]
    assert row.split() == ["ada@example.com", "BOUNCED", "2025-06-15", "15:06:40.123", "UTC", "-"]


def test_the_list_is_json_for_programs_and_follows_the_pages(consumer: ConsumerDouble) -> None:
    consumer.addresses = [f"{n:04}@example.com" for n in range(2500)]
    result = run(consumer, "list", "--json", "--limit", "2200")
    listed = json.loads(result.stdout)["suppressions"]
    assert [each["address"] for each in listed] == consumer.addresses[:2200]
    assert listed[0]["reason"] == "BOUNCED"
    assert [request.page_size for request in consumer.asked] == [1000, 1000, 201]


def test_an_address_is_added_with_reason_and_end(consumer: ConsumerDouble) -> None:
    words = ("add", "ada@example.com", "--reason", "complained", "--until", "2030-01-02T03:04:05")
    result = run(consumer, *words, "--json")
    assert result.exit_code == 0
    (request,) = consumer.added
    assert request.reason == SuppressionReason.SUPPRESSION_REASON_COMPLAINED
    assert request.expires_at.ToJsonString() == "2030-01-02T03:04:05Z"
    assert json.loads(result.stdout)["address"] == "ada@example.com"


def test_a_reason_that_is_none_is_wrong_usage(consumer: ConsumerDouble) -> None:
    result = run(consumer, "add", "ada@example.com", "--reason", "because")
    assert result.exit_code == 2
    assert "BOUNCED, COMPLAINED, MANUAL" in result.stderr


def test_an_address_is_removed_or_the_reason_why_not_is_told(consumer: ConsumerDouble) -> None:
    assert run(consumer, "remove", "ada@example.com").stdout == "removed ada@example.com\n"
    assert json.loads(run(consumer, "remove", "ada@example.com", "--json").stdout) == {"removed": "ada@example.com"}
    result = run(consumer, "remove", "bob@example.com")
    assert result.exit_code == 1
    assert "the address is not suppressed" in result.stderr


def test_nobody_there_is_told(consumer: ConsumerDouble) -> None:
    result = run(consumer, "list", "--address", "127.0.0.1:1")
    assert result.exit_code == 1
    assert "nobody answers at 127.0.0.1:1" in result.stderr
