"""What an ingress says it has accepted, held against what is there."""

from typing import Any

from google.rpc.status_pb2 import Status

from crash.bad_input.calls import Caller, assert_tells_why
from sred.email.v1 import email_pb2
from sred.email.v1.dispatch_service_pb2 import (
    BatchSendEmailsRequest,
    CancelEmailRequest,
    GetEmailRequest,
    SendEmailRequest,
    SendEmailResponse,
    SendEmailResult,
)
from sred.email.v1.stream_message_pb2 import EmailContent
from sred_email_core.queue.codec import decode
from sred_email_core.queue.keys import Lane
from support.world import World, until


class Ledger:
    """Counts what was accepted and what was refused; nobody takes anything out of Redis."""

    def __init__(self, world: World, caller: Caller) -> None:
        self._world = world
        self._caller = caller
        self.accepted: set[str] = set()
        self.cancelled: set[str] = set()
        self.refused = 0
        self._read: set[str] = set()

    async def send(self, request: SendEmailRequest | bytes) -> None:
        """SendEmail: it is accepted wholly, or refused without a trace."""
        answer = await self._caller.call("SendEmail", request)
        self._note(answer)
        await self.assert_no_more_than_accepted()

    async def send_many(self, request: BatchSendEmailsRequest | bytes) -> list[SendEmailResult]:
        """BatchSendEmails: the same for each email; the results, none if the call was refused."""
        answer = await self._caller.call("BatchSendEmails", request)
        if isinstance(answer, Status):
            assert_tells_why(answer)
            return []
        for result in answer.results:
            assert result.WhichOneof("outcome") is not None
            self._note(result.error if result.HasField("error") else result.response)
        await self.assert_no_more_than_accepted()
        return list(answer.results)

    def _note(self, answer: SendEmailResponse | Status) -> None:
        if isinstance(answer, SendEmailResponse):
            assert answer.deduplicated == (answer.email_id in self.accepted)
            self.accepted.add(answer.email_id)
        else:
            assert_tells_why(answer)
            self.refused += 1

    async def cancel(self, request: CancelEmailRequest | bytes) -> None:
        """CancelEmail: the email is cancelled wholly, or nothing is done."""
        answer = await self._caller.call("CancelEmail", request)
        if isinstance(answer, Status):
            assert_tells_why(answer)
        else:
            assert answer.email.status == email_pb2.EMAIL_STATUS_CANCELLED
            self.cancelled.add(answer.email.email_id)

    async def assert_no_more_than_accepted(self) -> None:
        """There is a row for each accepted email, and no other."""
        assert await self._world.pool.fetchval("SELECT count(*) FROM email_send_log") == len(self.accepted)

    async def assert_complete(self) -> None:
        """Of each accepted email everything is there: row, content, events, place, entry; and of no other anything."""
        world, waiting = self._world, self.accepted - self.cancelled
        await until(self._waiting_have_places, "each email that waits has a place")
        await self._assert_contents()
        events = await world.pool.fetch("SELECT email_id::text, what FROM email_events")
        expected = [(i, "ACCEPTED") for i in self.accepted] + [(i, "CANCELLED") for i in self.cancelled]
        assert sorted(tuple(event) for event in events) == sorted(expected)
        places: Any = await world.redis.hgetall(world.keys.places)
        assert {i.decode() for i in places} == waiting
        assert await self._on_streams() == {i.decode(): place.decode() for i, place in places.items()}

    async def _assert_contents(self) -> None:
        rows = await self._world.pool.fetch("SELECT id::text, status, message IS NULL AS erased FROM email_send_log")
        assert {row["id"] for row in rows} == self.accepted
        for row in rows:
            assert (row["status"], row["erased"]) == (
                ("CANCELLED", True) if row["id"] in self.cancelled else ("QUEUED", False)
            )
        new = "SELECT id::text, subject, message FROM email_send_log WHERE id::text <> ALL ($1) AND message IS NOT NULL"
        for row in await self._world.pool.fetch(new, list(self._read)):
            assert EmailContent.FromString(row["message"]).subject == row["subject"]
            self._read.add(row["id"])

    async def assert_readable(self) -> None:
        """Callers can read each accepted email, by its id and by its key."""
        for email_id in self.accepted:
            by_id = (await self._caller.call("GetEmail", GetEmailRequest(email_id=email_id))).email
            by_key = GetEmailRequest(idempotency_key=by_id.idempotency_key)
            assert by_id.email_id == email_id
            assert (await self._caller.call("GetEmail", by_key)).email == by_id

    async def _waiting_have_places(self) -> bool:
        return int(await self._world.redis.hlen(self._world.keys.places)) >= len(self.accepted - self.cancelled)

    async def _on_streams(self) -> dict[str, str]:
        found = {}
        for lane in Lane:
            entries: Any = await self._world.redis.xrange(self._world.keys.stream(lane))
            for entry_id, fields in entries:
                found[decode(fields, lane).email_id] = f"stream:{lane}:{entry_id.decode()}"
        return found
