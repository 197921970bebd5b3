"""Who of an email's recipients may get it: asked before its first request, and never again for the same send."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sred.email.v1.stream_message_pb2 import EmailContent
from sred_email_consumer.sends import Passenger
from sred_email_core.addresses import bare_address, digest_of
from sred_email_core.errors import QueueUnavailableError
from sred_email_core.group_commit import GroupCommit
from sred_email_core.queue.suppression_copy import SuppressionCopy

_MOST_DIGESTS = 5000
"""Asked about in one call: as many as a full batch has at the most."""


@dataclass(frozen=True, slots=True)
class Screened:
    """What became of emails that were looked at.

    Attributes:
        fit: Those that have a recipient in "to", each with the recipients that are left out.
        suppressed: The others.
    """

    fit: list[Passenger]
    suppressed: list[Passenger]


class RecipientScreen:
    """Finds the recipients that are suppressed; requests that are looked at together share one call of Redis."""

    def __init__(self, copy: SuppressionCopy) -> None:
        self._copy = copy
        self._asking: GroupCommit[Sequence[bytes], set[bytes]] = GroupCommit(
            self._ask, max_items=100, max_groups=2, weigh=len, max_weight=_MOST_DIGESTS
        )

    async def look(self, passengers: Sequence[Passenger]) -> Screened:
        """Look at the emails of one request.

        Args:
            passengers: With their contents.

        Raises:
            QueueUnavailableError: Redis does not answer.
            LogUnavailableError: Redis has no copy of the suppressions, and PostgreSQL does not answer.
        """
        digests = [[digest_of(bare_address(a)) for a in _recipients(p.email.content)] for p in passengers]
        found = await self._asking.submit([digest for of_email in digests for digest in of_email])
        if not found:
            return Screened(list(passengers), [])
        screened = Screened([], [])
        for passenger, of_email in zip(passengers, digests, strict=True):
            left_out = tuple(place for place, digest in enumerate(of_email) if digest in found)
            to = len(passenger.email.content.to) if passenger.email.content is not None else 0
            if sum(place < to for place in left_out) < to:
                screened.fit.append(replace(passenger, left_out=left_out) if left_out else passenger)
            else:
                screened.suppressed.append(passenger)
        return screened

    async def _ask(self, requests: Sequence[Sequence[bytes]]) -> list[set[bytes]]:
        digests = list({digest for of_request in requests for digest in of_request})
        found = await self._copy.suppressed(digests)
        if found is None:  # Redis is new, or has forgotten it: that is no "nobody"
            await self._copy.renew()
            found = await self._copy.suppressed(digests)
        if found is None:
            raise QueueUnavailableError("Redis: there is no complete copy of the suppressions yet")
        return [found] * len(requests)


def without(content: EmailContent, left_out: Sequence[int]) -> EmailContent:
    """An email's content without some of its recipients.

    Args:
        content: As it was accepted.
        left_out: Their places in to, cc and bcc taken together, from 0.
    """
    if not left_out:
        return content
    rest = EmailContent()
    rest.CopyFrom(content)
    places, first = set(left_out), 0
    for addresses, kept in ((content.to, rest.to), (content.cc, rest.cc), (content.bcc, rest.bcc)):
        kept[:] = [address for place, address in enumerate(addresses, first) if place not in places]
        first += len(addresses)
    return rest


def _recipients(content: EmailContent | None) -> list[str]:
    return [] if content is None else [*content.to, *content.cc, *content.bcc]
