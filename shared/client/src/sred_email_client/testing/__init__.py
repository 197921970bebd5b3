"""Clients for the tests of callers: the same face, no network, and everything that was sent to look at."""

from sred_email_client.testing.fakes import FakeEmailClient, FakeSyncEmailClient
from sred_email_client.testing.mailbox import FakeMailbox

__all__ = ["FakeEmailClient", "FakeMailbox", "FakeSyncEmailClient"]
