"""What operators do with dead letters: asked first, then done; many of them a bounded number at a time.

A call does at most ``CHUNK`` letters. How far it is stands in the form that the browser sends again and again, and
nowhere else, so any replica goes on with it. Whoever closes the tab stops it between two calls: what is left stands in
the list, as ever.
"""

import asyncio

import grpc
from aiohttp import web
from google.protobuf.timestamp_pb2 import Timestamp

from sred.email.v1 import operations_service_pb2 as pb
from sred.email.v1.email_pb2 import DeadLetter, DeadLetterReason
from sred_email_operator.console.letter_choice import Choice, Deed, choice_in, where
from sred_email_operator.console.letter_words import Asked, question, said
from sred_email_operator.console.pages.letters import LETTERS, address
from sred_email_operator.console.rendering import PAGES, SESSION, Tone, render, tell
from sred_email_operator.console.services import CallFailedError, Changes, Reads

CHUNK = 500
"""Dead letters in one call: a second or two."""
MOST_IDS = 100
"""Letters that can be ticked at once: twice what a page shows."""
_PATIENCE_S = 60.0
_LONGEST_NOTE = 500


class LetterChanges:
    """Replays, resolves and discards dead letters."""

    def __init__(self, reads: Reads, changes: Changes) -> None:
        self._reads = reads
        self._changes = changes

    def routes(self) -> list[web.RouteDef]:
        """Where it is."""
        return [
            web.post(LETTERS + "/ask", self._ask),
            web.post(LETTERS + "/do", self._do),
            web.post(LETTERS + "/work", self._work),
        ]

    async def _ask(self, request: web.Request) -> web.Response:
        choice = choice_in(await request.post())
        back = address(**where(choice.reason, choice.error_group))
        if choice.ids:
            asked = await self._named(choice)
        else:
            choice, asked = await self._listed(choice)
        if not asked.letters:
            return tell(request, back, "Nothing was done: none of them is there any more.", "warn")
        words = question(choice.deed, asked)
        return render(
            request,
            "letters_confirm.html",
            title=words.title,
            lines=words.lines,
            danger=words.danger,
            verb=words.verb,
            action=f"{LETTERS}/do",
            hidden=[*choice.hidden(), ("total", str(asked.letters))],
            back=back,
            resolves=choice.deed.resolves,
            risky=asked.risky if choice.deed is Deed.REPLAY else 0,
        )

    async def _do(self, request: web.Request) -> web.Response:
        form = await request.post()
        choice = choice_in(form)
        if not choice.ids:
            return self._progress(request, choice, _Tally(total=_number(form.get("total"))), form.get("include") == "1")
        operator = request[SESSION].operator
        if choice.deed.resolves:
            done = await self._resolve(choice, str(form.get("note", "")).strip()[:_LONGEST_NOTE], operator)
            return tell(request, LETTERS, said(choice.deed, done), "good" if done else "warn")
        done, skipped, _ = await self._chunk(choice, include=form.get("include") == "1", operator=operator)
        return tell(request, LETTERS, said(choice.deed, done, skipped), "good" if done else "warn")

    async def _work(self, request: web.Request) -> web.Response:
        """Do one part of many, and say how far it is: to the page's script as JSON, else as the page again."""
        form = await request.post()
        choice, include = choice_in(form), form.get("include") == "1"
        tally = _Tally(_number(form.get("total")), _number(form.get("done")))
        done, skipped, left = await self._chunk(choice, include=include, operator=request[SESSION].operator)
        tally.done += done
        over = not left or not done
        back = address(**where(choice.reason, choice.error_group)) if over and left else LETTERS
        words = said(choice.deed, tally.done, skipped if over else 0, 0 if over else left)
        tone: Tone = "good" if over and tally.done else "warn"
        if request.headers.get("Accept") == "application/json":
            answer = web.json_response({"done": tally.done, "left": left, "to": back if over else "", "words": words})
            request.app[PAGES].put_told(request, answer, words, tone)
            return answer
        if over:
            return tell(request, back, words, tone)
        return self._progress(request, choice, tally, include)

    def _progress(self, request: web.Request, choice: Choice, tally: "_Tally", include: bool) -> web.Response:  # noqa: FBT001
        return render(
            request,
            "letters_progress.html",
            title={Deed.REPLAY: "Sending dead letters again"}.get(choice.deed, "Discarding dead letters"),
            hidden=[*choice.hidden(), *([("include", "1")] if include else [])],
            total=max(tally.total, tally.done),
            done=tally.done,
            words=said(choice.deed, tally.done) if tally.done else "Nothing is done yet.",
        )

    async def _chunk(self, choice: Choice, *, include: bool, operator: str) -> tuple[int, int, int]:
        """Do the next ones; how many were done, are left as they are, and are left to do."""
        if choice.deed is Deed.REPLAY:
            replay = choice.request(pb.ReplayDeadLettersRequest)
            replay.include_outcome_unknown, replay.limit = include, 0 if choice.ids else CHUNK
            answer = await self._changes.replay(replay, operator=operator, timeout_s=_PATIENCE_S)
            return answer.replayed, answer.skipped, answer.remaining
        discard = choice.request(pb.DiscardDeadLettersRequest)
        discard.limit = 0 if choice.ids else CHUNK
        gone = await self._changes.discard(discard, operator=operator, timeout_s=_PATIENCE_S)
        return gone.discarded, 0, gone.remaining

    async def _resolve(self, choice: Choice, note: str, operator: str) -> int:
        resolving = pb.ResolveDeadLettersRequest(
            ids=pb.DeadLetterIds(values=choice.ids), delivered=choice.deed is Deed.DELIVERED, note=note
        )
        return (await self._changes.resolve(resolving, operator=operator, timeout_s=_PATIENCE_S)).resolved

    async def _named(self, choice: Choice) -> Asked:
        """How many of those that were ticked are there, and what is to be known of them."""
        if len(choice.ids) > MOST_IDS:
            raise web.HTTPBadRequest(text=f"Tick at most {MOST_IDS} letters, or choose all of a group.")
        found = [letter for letter in await asyncio.gather(*map(self._letter, choice.ids)) if letter is not None]
        now = Timestamp()
        now.GetCurrentTime()
        return Asked(
            letters=len(found),
            risky=sum(_is_risky(letter, now) for letter in found),
            repeatable=sum(letter.may_have_been_accepted and not _is_risky(letter, now) for letter in found),
            never=sum(letter.reason == DeadLetterReason.DEAD_LETTER_REASON_MALFORMED for letter in found),
        )

    async def _letter(self, letter_id: str) -> DeadLetter | None:
        try:
            return (await self._reads.get_letter(pb.GetDeadLetterRequest(dead_letter_id=letter_id))).dead_letter
        except CallFailedError as error:
            if error.code is grpc.StatusCode.NOT_FOUND:
                return None
            raise

    async def _listed(self, choice: Choice) -> tuple[Choice, Asked]:
        """How many there are of a group, of a reason, or in all; and the choice, bounded to these."""
        groups = (await self._reads.list_groups(pb.ListDeadLetterGroupsRequest())).groups
        meant = [each for each in groups if choice.covers(each.group)]
        if not meant:
            return choice, Asked(0)
        last = max((each.latest_failed_at for each in meant), key=lambda stamp: (stamp.seconds, stamp.nanos))
        never = (DeadLetterReason.DEAD_LETTER_REASON_MALFORMED, DeadLetterReason.DEAD_LETTER_REASON_POISON)
        unknown = DeadLetterReason.DEAD_LETTER_REASON_OUTCOME_UNKNOWN
        return choice.until(last), Asked(
            letters=sum(each.letters for each in meant),
            at_least=any(each.more for each in meant),
            risky=sum(each.letters for each in meant if each.group.reason == unknown),
            repeatable=sum(
                each.letters for each in meant if each.may_have_been_accepted and each.group.reason != unknown
            ),
            never=sum(each.letters for each in meant if each.group.reason in never),
        )


class _Tally:
    """How far it is."""

    def __init__(self, total: int, done: int = 0) -> None:
        self.total = total
        self.done = done


def _is_risky(letter: DeadLetter, now: Timestamp) -> bool:
    """Whether a replay may reach somebody who has the email already."""
    if letter.reason == DeadLetterReason.DEAD_LETTER_REASON_OUTCOME_UNKNOWN:
        return True
    until = letter.repeatable_until
    return letter.may_have_been_accepted and (until.seconds, until.nanos) <= (now.seconds, now.nanos)


def _number(text: object) -> int:
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 10 else 0  # noqa: PLR2004
