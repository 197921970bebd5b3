"""What the tests of the commands stand on."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from unit.operator.ingress_double import ConsumerDouble, IngressDouble

from sred.email.v1.dispatch_service_pb2_grpc import add_EmailDispatchServiceServicer_to_server
from sred.email.v1.operations_service_pb2_grpc import add_EmailOperationsServiceServicer_to_server


@pytest.fixture
def ingress() -> Iterator[IngressDouble]:
    double = IngressDouble()
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    add_EmailDispatchServiceServicer_to_server(double, server)
    double.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield double
    server.stop(grace=None).wait()


@pytest.fixture
def consumer() -> Iterator[ConsumerDouble]:
    double = ConsumerDouble()
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    add_EmailOperationsServiceServicer_to_server(double, server)
    double.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield double
    server.stop(grace=None).wait()
