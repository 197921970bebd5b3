"""``google.rpc`` in the client: that of googleapis-common-protos, or a copy that is the same."""

import subprocess
import sys

import pytest
from google.rpc import error_details_pb2, status_pb2

from sred.email.v1 import google_rpc
from sred.email.v1.dispatch_service_pb2 import SendEmailResult
from sred.email.v1.google_rpc.copy import error_details_pb2 as own_details
from sred.email.v1.google_rpc.copy import status_pb2 as own_status

WITHOUT_GOOGLEAPIS = """
import sys
sys.modules["google.rpc"] = None  # an import of it fails
from sred.email.v1 import dispatch_service_pb2 as pb
from sred.email.v1.google_rpc import error_details_pb2, status_pb2
status = pb.SendEmailResult(error=status_pb2.Status(code=8, message="full")).error
status.details.add().Pack(error_details_pb2.RetryInfo())
assert type(pb.SendEmailResult().error) is status_pb2.Status
print(status_pb2.__name__, status.details[0].type_url)
"""


def test_where_googleapis_is_installed_there_is_one_status_class() -> None:
    assert google_rpc.status_pb2 is status_pb2
    assert google_rpc.error_details_pb2 is error_details_pb2
    assert type(SendEmailResult().error) is status_pb2.Status


@pytest.mark.parametrize(("own", "theirs"), [(own_status, status_pb2), (own_details, error_details_pb2)])
def test_the_copy_describes_the_same_messages_so_that_both_can_be_loaded(own: object, theirs: object) -> None:
    assert own.DESCRIPTOR.serialized_pb == theirs.DESCRIPTOR.serialized_pb  # type: ignore[attr-defined]


def test_without_googleapis_the_copy_is_used() -> None:
    ran = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", WITHOUT_GOOGLEAPIS], capture_output=True, text=True, check=False
    )
    assert ran.stderr == ""
    assert ran.stdout.split() == [
        "sred.email.v1.google_rpc.copy.status_pb2",
        "type.googleapis.com/google.rpc.RetryInfo",
    ]
