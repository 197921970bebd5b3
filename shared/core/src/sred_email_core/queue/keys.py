"""The names of everything in Redis."""

from dataclasses import dataclass
from enum import IntEnum

GROUP = "email-consumers"
"""The one consumer group on each of the three streams."""

ORPHANS = "orphans"
"""Name in the group under which entries wait whose consumer died or gave them back: whoever takes next adopts them."""


class Lane(IntEnum):
    """A stream, by the number that the scripts know it by; the lower number goes first."""

    HIGH = 1
    NORMAL = 2
    LOW = 3


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """Keys under one prefix.

    On Redis Cluster the prefix holds a hash tag, ``{sred:email}``, so that one script may touch all of them.
    """

    prefix: str = "sred:email"

    def stream(self, lane: Lane) -> str:
        """The stream of a lane."""
        return f"{self.prefix}:send" if lane is Lane.NORMAL else f"{self.prefix}:send:{lane.name.lower()}"

    @property
    def streams(self) -> list[str]:
        """The three streams, highest lane first: KEYS[1..3] of the scripts."""
        return [self.stream(lane) for lane in Lane]

    @property
    def retry(self) -> str:
        """ZSET of email ids, scored by due time in Unix milliseconds."""
        return f"{self.prefix}:retry"

    @property
    def dlq(self) -> str:
        """Stream that shows the open dead letters; PostgreSQL holds them."""
        return f"{self.prefix}:dlq"

    @property
    def letters(self) -> str:
        """HASH from dead letter id to its entry in the DLQ."""
        return f"{self.prefix}:dlq:entries"

    @property
    def places(self) -> str:
        """HASH from email id to where the email is: ``stream:<lane>:<entry>``, ``retry:<lane>`` or ``send:<email>``."""
        return f"{self.prefix}:places"

    @property
    def parked(self) -> str:
        """HASH from email id to hints, a line feed and message of an email that waits alone in the retry set."""
        return f"{self.prefix}:retry:messages"

    @property
    def grants(self) -> str:
        """ZSET of the newest grants of the limiter, scored by when their request went out, Unix milliseconds."""
        return f"{self.prefix}:granted"

    @property
    def dispatch(self) -> str:
        """HASH of what holds or slows delivery, for all replicas; times are Unix milliseconds.

        * A wait that the provider asked for: ``hold_reason``, ``set``, ``until``.
        * What stopped delivery: ``state`` (else it runs), ``reason``, ``since``, ``number`` (another for each time that
          it stops), ``refused_name``; and its probes: ``probe_at`` (the next), ``probed_at`` (the last), ``probing``
          (number of the state that it probes, until it is reported), ``cause`` (email id of the last).
        * After a 429: ``exceeded`` (when it came), ``part`` (of the limit that is asked for since), ``part_since``.
        * The limiter: ``provider_limit`` (requests per second; 0: it does not say), ``scouted`` (when a request went
          ahead to learn it), ``granted`` (number of the last grant).
        * Shares: ``low_credit`` (places that LOW may claim), ``repeated`` (1: the last grant went to a repeat).
        * ``served_since``: signs of life that are older say nothing.
        """
        return f"{self.prefix}:dispatch"

    @property
    def pauses(self) -> str:
        """HASH of the paused lanes, by number, with the reason; a copy of the log's, with its ``version``."""
        return f"{self.prefix}:pauses"

    @property
    def suppressions(self) -> str:
        """HASH about the copy of the log's suppressions: ``version``, ``complete``, ``entries``."""
        return f"{self.prefix}:suppressions"

    @property
    def suppressed(self) -> str:
        """HASH from the digest of an address that gets no email to until when (Unix ms; 0: until it is removed)."""
        return f"{self.prefix}:suppressed"

    @property
    def domains(self) -> str:
        """HASH from a sender domain that the provider refuses to when it is tried again (Unix ms), a space, why."""
        return f"{self.prefix}:domains"

    @property
    def failures(self) -> str:
        """SET of the sends that failed one after the other, since one was accepted."""
        return f"{self.prefix}:failures"

    @property
    def refusals(self) -> str:
        """HASH: what was refused one after the other, since something was accepted; see count_refusal.lua."""
        return f"{self.prefix}:refusals"

    @property
    def consumers(self) -> str:
        """ZSET of consumer names, scored by their last sign of life in Unix milliseconds."""
        return f"{self.prefix}:consumers"

    @property
    def epoch(self) -> str:
        """STRING: which Redis the queue was last found complete in; see epoch.lua."""
        return f"{self.prefix}:epoch"

    @property
    def doorbell(self) -> str:
        """LIST that idle consumers block on; whoever adds work pushes one element."""
        return f"{self.prefix}:doorbell"
