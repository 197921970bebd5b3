"""The provider without its HTTP: one request in, one answer out."""

import asyncio
import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from sred_email_local.sandbox.email import peek_subject, read_email
from sred_email_local.sandbox.idempotency import IdempotencyKeys
from sred_email_local.sandbox.mailbox import Delivery, Mailbox
from sred_email_local.sandbox.rate_limit import RateLimit
from sred_email_local.sandbox.refusal import Refusal, invalid
from sred_email_local.sandbox.request_log import RequestLog, RequestRecord
from sred_email_local.sandbox.rules import Action, Rule, Rules

SINGLE, BATCH = "/emails", "/emails/batch"
MAX_BATCH = 100
_SWALLOWED = (Action.RESET, Action.HANG)


@dataclass(frozen=True, slots=True)
class Options:
    """How the sandbox behaves.

    Attributes:
        requests_per_second: The rate limit; 0 for none.
        api_key: The only key that is right; any key is if None.
        most_emails: How many of the newest emails are kept.
    """

    requests_per_second: int = 10
    api_key: str | None = None
    most_emails: int = 10_000


@dataclass(slots=True)
class Answer:
    """What goes back.

    Attributes:
        body: JSON, or text that is none of the API's.
        then: What happens instead of an answer (a reset or a hanging connection), or to it, if anything.
        pause_s: Before each byte, where it drips.
    """

    status: int
    body: Mapping[str, object] | str
    headers: Mapping[str, str] = field(default_factory=dict)
    then: Action | None = None
    pause_s: float = 0.0


class Provider:
    """Everything that the sandbox knows."""

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or Options()
        self.mailbox = Mailbox(self.options.most_emails)
        self.rules = Rules()
        self.requests = RequestLog()
        self._keys = IdempotencyKeys(time.monotonic)
        self._limit = RateLimit(self.options.requests_per_second, time.time)

    def replace_api_key(self, api_key: str | None) -> None:
        """Let another key be the only right one, as if the one before was revoked; None: any is right."""
        self.options = replace(self.options, api_key=api_key)

    def reset(self) -> None:
        """Forget emails, idempotency keys, requests and rules."""
        self.mailbox.clear()
        self.requests.clear()
        self.rules.replace([])
        self._keys.clear()

    async def post(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Deal with a POST to one of the two sending endpoints.

        Args:
            path: `SINGLE` or `BATCH`.
            headers: Of the request, found without regard to case.
            body: As it came.
        """
        record, emails = _record(path, headers, body)
        self.requests.add(record)
        try:
            answer = await self._answer(record, headers, emails)
        except Refusal as refusal:
            record.outcome, record.name = "refused", refusal.name
            answer = Answer(refusal.status, refusal.body(), refusal.headers)
        record.status = 0 if answer.then else answer.status
        return answer

    def check_caller(self, headers: Mapping[str, str]) -> None:
        """Make sure that the caller may speak.

        Raises:
            Refusal: The API key is missing or wrong.
        """
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise Refusal(401, "missing_api_key", "Missing API key in the authorization header.")
        if self.options.api_key is not None and key.strip() != self.options.api_key:
            raise Refusal(403, "invalid_api_key", "API key is invalid.")

    async def _answer(
        self, record: RequestRecord, headers: Mapping[str, str], emails: Sequence[object] | None
    ) -> Answer:
        if not headers.get("user-agent"):  # the network in front of the API, which speaks no JSON, asks for it
            record.outcome = "refused"
            return Answer(403, "error code: 1010")
        self.check_caller(headers)
        limit_headers = self._limit.take()
        if emails is None:
            raise invalid("The request body is not of the form this endpoint takes.")
        rule = self.rules.take(emails)
        if rule is not None:
            record.rule = rule.action
            if rule.action is Action.ANSWER:
                record.outcome, record.name = "refused", rule.name
                return Answer(rule.status, rule.body(), rule.headers)
            if rule.action in _SWALLOWED:
                record.outcome = "nothing"
                return Answer(0, "", then=rule.action)
        permissive = headers.get("x-batch-validation", "strict").lower() == "permissive"
        accepted = await self._accept_once(record, emails, rule, permissive=permissive)
        return _after(rule, Answer(200, accepted, limit_headers), record)

    async def _accept_once(
        self, record: RequestRecord, emails: Sequence[object], rule: Rule | None, *, permissive: bool
    ) -> dict[str, object]:
        fingerprint = f"{record.path} {record.body_sha256}"
        with self._keys.hold(record.idempotency_key, fingerprint) as entry:
            if entry.answer is not None:
                record.outcome = "replayed"
                return entry.answer
            if rule is not None and rule.action is Action.DELAY:
                await asyncio.sleep(rule.delay_s)
            entry.answer = self._accept(record, emails, rule, permissive=permissive)
            record.outcome = "accepted"
            return entry.answer

    def _accept(
        self, record: RequestRecord, emails: Sequence[object], rule: Rule | None, *, permissive: bool
    ) -> dict[str, object]:
        if record.path == BATCH and not 1 <= len(emails) <= MAX_BATCH:
            raise invalid(f"A batch holds 1 to {MAX_BATCH} emails.")
        valid, errors = [], []
        for index, source in enumerate(emails):
            try:
                if rule is not None and rule.action is Action.REJECT and rule.matches(source):
                    raise rule.refusal()
                valid.append(read_email(source, in_batch=record.path == BATCH))
            except Refusal as refusal:
                if record.path == SINGLE or not permissive:
                    raise
                errors.append({"index": index, "message": refusal.message})
        size = math.ceil(record.size / max(1, len(emails)))
        now = datetime.now(UTC)
        ids = [{"id": self.mailbox.accept(email, now, record.idempotency_key, size)} for email in valid]
        if record.path == SINGLE:
            return dict(ids[0])
        return {"data": ids, "errors": errors} if permissive else {"data": ids}


def as_json(delivery: Delivery) -> dict[str, object]:
    """A delivery as ``GET /emails/{id}`` answers it."""
    email = delivery.email
    return {
        "object": "email",
        "id": delivery.id,
        "from": email.sender,
        "to": email.to,
        "cc": email.cc,
        "bcc": email.bcc,
        "reply_to": email.reply_to,
        "subject": email.subject,
        "html": email.html or None,
        "text": email.text or None,
        "created_at": delivery.received_at.isoformat(),
        "scheduled_at": email.source.get("scheduled_at"),
        "last_event": "delivered",
        "tags": [{"name": name, "value": value} for name, value in email.tags.items()],
    }


def _record(path: str, headers: Mapping[str, str], body: bytes) -> tuple[RequestRecord, Sequence[object] | None]:
    try:
        decoded = json.loads(body)
    except ValueError:
        decoded = None
    emails = decoded if path == BATCH else [decoded]
    emails = emails if isinstance(emails, list) and emails != [None] else None
    record = RequestRecord(
        at=time.time(),
        path=path,
        idempotency_key=headers.get("idempotency-key"),
        n=len(emails or ()),
        subjects=[peek_subject(email) for email in emails or ()],
        body_sha256=hashlib.sha256(body).hexdigest(),
        size=len(body),
        traceparent=headers.get("traceparent"),
    )
    return record, emails


def _after(rule: Rule | None, answer: Answer, record: RequestRecord) -> Answer:
    match rule.action if rule else None:
        case Action.ACCEPT_THEN_RESET:
            answer.then = Action.RESET
        case Action.ACCEPT_THEN_HANG:
            answer.then = Action.HANG
        case Action.ACCEPT_THEN_DRIP if rule:
            answer.then, answer.pause_s = Action.ACCEPT_THEN_DRIP, rule.delay_s
        case Action.ACCEPT_THEN_RAW if rule:
            return Answer(0, rule.text or "", then=Action.ACCEPT_THEN_RAW)
        case Action.ACCEPT_THEN_500 if rule:
            record.name = rule.name
            return Answer(rule.status, rule.body(), rule.headers)
        case _:
            pass
    return answer
