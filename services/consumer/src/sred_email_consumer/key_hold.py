"""Delivery stands still, for every replica, while an encryption key is missing at one of them."""

import re

from sred_email_consumer.retry_policy import RetryPolicy
from sred_email_consumer.weather import ProviderWeather
from sred_email_core.encryption.key_ring_file import KeyRingFile
from sred_email_core.errors import KeyMissingError, UnreadableContentError

_CAUSE = re.compile(r"encryption_key (\S+) ([0-9a-f]*)")


class KeyHold:
    """Stops delivery for a missing key, and keeps it stopped until that key is there.

    While it is stopped, one email is tried from time to time, maybe one that another key reads. That this one can be
    sent must not let the others go on.
    """

    def __init__(self, keys: KeyRingFile, weather: ProviderWeather, policy: RetryPolicy, consumer: str) -> None:
        self._keys = keys
        self._weather = weather
        self._policy = policy
        self._consumer = consumer

    def check(self) -> None:
        """Look whether the key that delivery was stopped for is here now, in the file as it is now.

        Raises:
            KeyMissingError: It is not.
        """
        cause = _CAUSE.fullmatch(self._weather.cause)
        if cause is None:
            return
        self._keys.refresh()
        try:
            self._keys.ring.find(cause[1], bytes.fromhex(cause[2]))
        except UnreadableContentError:
            return  # it is said to be lost: its emails become dead letters
        except ValueError:
            return  # what stands there is nothing that we wrote

    async def stop(self, first_email_id: str, error: KeyMissingError) -> None:
        """Stop delivery for every replica.

        Args:
            first_email_id: Of the work that needs the key; the next probe is other work.
            error: Which key it is.

        Raises:
            QueueUnavailableError: Redis does not answer.
        """
        reason = f"consumer {self._consumer}: {error}"
        name = f"encryption_key {error.key_id} {error.check.hex()}"
        await self._weather.stop(first_email_id, self._policy.stop_for_key(reason, name))
