"""``google.rpc.status_pb2`` and ``google.rpc.error_details_pb2``: what failed calls carry.

Those of googleapis-common-protos where it is installed, so that there is one ``Status`` in the process; otherwise a copy.
"""

try:
    from google.rpc import error_details_pb2, status_pb2
except ImportError:
    from sred.email.v1.google_rpc.copy import error_details_pb2, status_pb2  # type: ignore[no-redef]

__all__ = ["error_details_pb2", "status_pb2"]
