"""Delivery stands still, for every replica, while an encryption key is missing at one of them."""

import asyncio
import re

from sred_email_consumer.retry_policy import RetryPolicy
from sred_email_consumer.sends import persist
from sred_email_consumer.weather import ProviderWeather
from sred_email_core.email_send_log.key_use import KeyNeed
from sred_email_core.encryption.key_ring_file import KeyRingFile
from sred_email_core.errors import KeyMissingError, UnreadableContentError

_CAUSE = re.compile(r"encryption_key (\S+) ([0-9a-f]*)")


class KeyHold:
    """Stops delivery for a missing key, and keeps it stopped until that key is there, or no open email needs it.

    While it is stopped, one email is tried from time to time, maybe one that another key reads. That this one can be
    sent must not let the others go on.
    """

    def __init__(
        self, keys: KeyRingFile, need: KeyNeed, weather: ProviderWeather, policy: RetryPolicy, consumer: str
    ) -> None:
        self._keys = keys
        self._need = need
        self._weather = weather
        self._policy = policy
        self._consumer = consumer

    async def check(self, stopping: asyncio.Event | None = None) -> None:
        """Look whether the key that delivery was stopped for is here now, in the file as it is now, or needed no more.

        Args:
            stopping: Ends a wait for PostgreSQL.

        Raises:
            KeyMissingError: It is not here, and an open email may need it.
            StoppingError: ``stopping`` was set.
        """
        cause = _CAUSE.fullmatch(self._weather.cause)
        if cause is None:
            return
        self._keys.refresh()
        try:
            key_id, check = cause[1], bytes.fromhex(cause[2])
            self._keys.ring.find(key_id, check)
        except UnreadableContentError:
            return  # it is said to be lost: its emails become dead letters
        except ValueError:
            return  # what stands there is nothing that we wrote
        except KeyMissingError:
            if await persist(lambda: self._need.may_be(key_id, check), stopping):
                raise

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
