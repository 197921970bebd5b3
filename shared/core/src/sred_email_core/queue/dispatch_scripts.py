"""What holds, slows or stops delivery for every replica: a typed face over its scripts."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta

from sred_email_core.queue.keys import Lane, QueueKeys
from sred_email_core.queue.script_runner import ScriptRunner


@dataclass(frozen=True, slots=True)
class Stop:
    """A reason to stop delivery.

    Attributes:
        state: Name of the DispatchState.
        reason: For people.
        probe_after: Until a single email is tried.
        refused_name: Name of the refusals that are the cause; empty: another cause.
    """

    state: str
    reason: str
    probe_after: timedelta
    refused_name: str = ""


class DispatchScripts:
    """The scripts about delivery as a whole, each described in its own header.

    Every method raises QueueUnavailableError when Redis does not answer; repeating it is safe.
    """

    def __init__(self, runner: ScriptRunner, keys: QueueKeys) -> None:
        self._run = runner.run
        self._keys = keys

    async def hold(self, reason: str, duration: timedelta) -> None:
        """Hold delivery for a while; a longer hold that is in force stays."""
        await self._run("hold", [self._keys.dispatch], [reason, _ms(duration)])

    async def stop_delivery(self, stop: Stop, *, failed: str, threshold: int, first_email_id: str, probe: int) -> bool:
        """Tell of a request that failed for no fault of its emails; whether delivery is stopped now.

        Args:
            stop: What it says about the provider.
            failed: By which it is told from others that failed.
            threshold: How many, one after the other, stop delivery; 1: this one does.
            first_email_id: Of the request; the next probe is another one.
            probe: Number of the state that the request probed; 0: it was no probe.
        """
        keys = self._keys
        stopped = await self._run(
            "stop_delivery",
            [keys.dispatch, keys.failures, keys.refusals],
            [
                *(stop.state, stop.reason, failed, threshold, _ms(stop.probe_after), first_email_id, probe),
                stop.refused_name,
            ],
        )
        return bool(stopped)

    async def end_probe(self, number: int, *, accepted: bool, retry_after: timedelta = timedelta()) -> bool:
        """Tell what came of a probe; whether delivery goes on because of it.

        Args:
            number: Of the state that was probed; 0: whatever it is.
            accepted: The provider took the email.
            retry_after: Else, until another email is tried.
        """
        keys = self._keys
        going_on = await self._run(
            "end_probe",
            [keys.dispatch, keys.failures, keys.refusals, keys.doorbell],
            [number, int(accepted), _ms(retry_after)],
        )
        return bool(going_on)

    async def count_refusal(self, name: str, *, kind: str, domain: str) -> int:
        """Count an email that was refused for its own sake.

        Returns:
            How many in a row were refused with this name, where they are of several kinds and sender domains; else 0.
        """
        return int(await self._run("count_refusal", [self._keys.refusals], [name, kind, domain]))

    async def park_domain(self, domain: str, reason: str, duration: timedelta) -> None:
        """Let the emails of a sender domain wait; after ``duration`` one of them is tried."""
        await self._run("park_domain", [self._keys.domains], [domain, reason, _ms(duration)])

    async def free_domains(self, domains: Collection[str]) -> int:
        """Let the emails of these sender domains go again; how many had to wait."""
        return int(await self._run("free_domains", [self._keys.domains], list(domains)))

    async def learn_limit(self, requests_per_second: float | None) -> None:
        """Keep the provider's own limit; None: it does not say."""
        keys = self._keys
        await self._run("learn_limit", [keys.dispatch, keys.doorbell], [requests_per_second or 0])

    async def use_grant(self, number: int) -> None:
        """Tell that a granted request goes out now."""
        await self._run("use_grant", [self._keys.grants], [number])

    async def set_pauses(self, version: int, reasons: Mapping[Lane, str]) -> int:
        """Copy the pauses that the log holds; the version of a newer copy that is there already, or 0: it is copied."""
        keys = self._keys
        flat = [part for lane, reason in reasons.items() for part in (int(lane), reason)]
        return int(await self._run("set_pauses", [keys.pauses, keys.doorbell], [version, *flat]))


def _ms(duration: timedelta) -> int:
    return max(0, round(duration.total_seconds() * 1000))
