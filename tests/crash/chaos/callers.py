"""Backend services that send emails: they repeat each call, under its key, until it is answered."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

import grpc

from crash.chaos.letters import Letter, LetterWriter
from sred.email.v1.dispatch_service_pb2 import BatchSendEmailsRequest, SendEmailRequest, SendEmailResponse
from support.world import Service, World

ResultT = TypeVar("ResultT")

_CALL_S = 3.0
_PAUSES_S = (0.2, 0.4, 0.8, 1.6)
"""The longest before each repeat; a caller is as patient as the last from then on."""
_MOST_AT_ONCE = 1_000
_BATCH = (2, 30)
_NEW_BATCH, _DUPLICATE, _CONFLICT = 0.01, 0.06, 0.03
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_REPEAT = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED}
)
_LOST_CONNECTION = frozenset({grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL})
"""What gRPC itself may make of a server that dies in mid-call; of a server that lives, they are bugs."""


@dataclass(slots=True)
class Ledger:
    """What the callers know.

    Attributes:
        letters: All that they tried to send, by token.
        email_ids: Of the letters that were answered OK, by token.
        accepted_at: When, in Unix seconds.
        calls: Calls made, repeats included.
        answers: How often each status came.
        duplicates: Accepted letters that were sent again and were answered with the same email.
        conflicts: Calls with a used key and another content that were refused.
        wrong: Answers that break a promise, in words.
        strange: Answers that a caller should never see, in words.
    """

    letters: dict[str, Letter] = field(default_factory=dict)
    email_ids: dict[str, str] = field(default_factory=dict)
    accepted_at: dict[str, float] = field(default_factory=dict)
    calls: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    conflicts: int = 0
    wrong: list[str] = field(default_factory=list)
    strange: Counter[str] = field(default_factory=Counter)


class Callers:
    """Sends letters at a steady rate, whatever the answers are.

    Args:
        world: Where the ingress is called.
        ingresses: Any of them takes any call.
        seed: What is sent and in which order.
        rate: Emails a second.
    """

    def __init__(self, world: World, ingresses: Sequence[Service], *, seed: int, rate: float) -> None:
        self.ledger = Ledger()
        self._world = world
        self._ingresses = ingresses
        self._writer = LetterWriter(seed)
        self._choices = random.Random(f"calls {seed}")  # noqa: S311 - to be repeated, not to be secret
        self._luck = random.Random(f"luck {seed}")  # noqa: S311 - its draws depend on time, so they are kept apart
        self._rate = rate
        self._under_way: set[asyncio.Task[None]] = set()

    @property
    def under_way(self) -> int:
        """Calls that have no final answer yet."""
        return len(self._under_way)

    async def run(self, duration_s: float) -> None:
        """Send for a while; returns when the last call was begun."""
        began = time.monotonic()
        sent = 0
        while (now := time.monotonic() - began) < duration_s:
            while sent < now * self._rate and len(self._under_way) < _MOST_AT_ONCE:
                sent += self._begin()
            await asyncio.sleep(0.01)

    async def finish(self, timeout_s: float) -> None:
        """Wait until every call has its answer, or the time is over; what has none then is given up."""
        if self._under_way:
            _, unanswered = await asyncio.wait(self._under_way, timeout=timeout_s)
            for task in unanswered:
                task.cancel()
            await asyncio.gather(*unanswered, return_exceptions=True)

    def _begin(self) -> int:
        """Begin one call; how many emails it is about."""
        draw = self._choices.random()
        if draw < _NEW_BATCH:
            letters = [self._write() for _ in range(self._choices.randint(*_BATCH))]
            return self._spawn(self._send_batch(letters), len(letters))
        known = list(self.ledger.email_ids) if draw < _NEW_BATCH + _DUPLICATE + _CONFLICT else []
        if not known:
            return self._spawn(self._send(self._write()), 1)
        letter = self.ledger.letters[self._luck.choice(known)]
        if draw < _NEW_BATCH + _DUPLICATE:
            return self._spawn(self._send(letter), 1)
        return self._spawn(self._conflict(letter), 1)

    def _spawn(self, call: Awaitable[None], emails: int) -> int:
        task = asyncio.ensure_future(call)
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        return emails

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.ledger.strange[f"a caller failed: {error!r}"] += 1

    def _write(self) -> Letter:
        letter = self._writer.write()
        self.ledger.letters[letter.token] = letter
        return letter

    async def _send(self, letter: Letter) -> None:
        for repeats in count():
            code, response = await self._call(letter.request())
            if response is not None:
                self._accepted(letter, response)
                return
            if not self._is_repeatable(code, letter):
                return
            await self._pause(repeats)

    async def _conflict(self, letter: Letter) -> None:
        request = letter.conflicting_request(self._luck.randrange(1_000_000))
        for repeats in count():
            code, response = await self._call(request)
            if response is not None:
                self.ledger.wrong.append(f"{letter.token}: its key was accepted again, with another content")
                return
            if code is grpc.StatusCode.ALREADY_EXISTS:
                self.ledger.conflicts += 1
                return
            if not self._is_repeatable(code, letter):
                return
            await self._pause(repeats)

    async def _send_batch(self, letters: list[Letter]) -> None:
        for repeats in count():
            request = BatchSendEmailsRequest(requests=[letter.request() for letter in letters])
            code, response = await self._answer(
                lambda ingress, r=request: self._world.dispatch(ingress).BatchSendEmails(r, timeout=_CALL_S)  # type: ignore[misc]
            )
            codes = dict.fromkeys(letters, code)
            for letter, result in zip(letters, response.results if response else (), strict=False):
                if result.HasField("response"):
                    self._accepted(letter, result.response)
                    del codes[letter]
                else:
                    codes[letter] = _CODES[result.error.code]
            letters = [letter for letter, code in codes.items() if self._is_repeatable(code, letter)]
            if not letters:
                return
            await self._pause(repeats)

    def _accepted(self, letter: Letter, response: SendEmailResponse) -> None:
        first = self.ledger.email_ids.setdefault(letter.token, response.email_id)
        known = letter.token in self.ledger.accepted_at
        self.ledger.accepted_at.setdefault(letter.token, time.time())
        if first != response.email_id:
            self.ledger.wrong.append(f"{letter.token}: one key, two emails: {first} and {response.email_id}")
        elif known and not response.deduplicated:
            self.ledger.wrong.append(f"{letter.token}: {first} was accepted twice as new")
        elif known:
            self.ledger.duplicates += 1

    def _is_repeatable(self, code: grpc.StatusCode, letter: Letter) -> bool:
        if code in _REPEAT | _LOST_CONNECTION:
            return True
        self.ledger.wrong.append(f"{letter.token}: refused with {code.name}")
        return False

    async def _call(self, request: SendEmailRequest) -> tuple[grpc.StatusCode, SendEmailResponse | None]:
        return await self._answer(lambda ingress: self._world.dispatch(ingress).SendEmail(request, timeout=_CALL_S))

    async def _answer(self, call: Callable[[Service], Awaitable[ResultT]]) -> tuple[grpc.StatusCode, ResultT | None]:
        ingress = self._luck.choice(self._ingresses)
        self.ledger.calls += 1
        try:
            response = await call(ingress)
        except grpc.aio.AioRpcError as error:
            self.ledger.answers[error.code().name] += 1
            if error.code() in _LOST_CONNECTION and ingress.process.alive:
                self.ledger.strange[f"{error.code().name}: {error.details()}"] += 1
            return error.code(), None
        self.ledger.answers["OK"] += 1
        return grpc.StatusCode.OK, response

    async def _pause(self, repeats: int) -> None:
        longest_s = _PAUSES_S[min(repeats, len(_PAUSES_S) - 1)]
        await asyncio.sleep(self._luck.uniform(longest_s / 4, longest_s))
