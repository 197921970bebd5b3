"""Dead letters by the thousand, from one that came about for real."""

import uuid

import asyncpg

_EMAILS = """
INSERT INTO email_send_log (id, idempotency_key, fingerprint, kind, priority, from_address, recipients, subject,
                            message, status, attempts, last_error, ended_at)
SELECT c.id, e.idempotency_key || ' ' || c.id, e.fingerprint, e.kind, e.priority, e.from_address, e.recipients,
       e.subject, e.message, e.status, e.attempts, e.last_error, e.ended_at
FROM email_send_log e, unnest($2::uuid[]) AS c (id)
WHERE e.id = $1
"""
_LETTERS = """
INSERT INTO email_dead_letters (id, email_id, reason, error, attempts, failed_at)
SELECT gen_random_uuid(), c.id, coalesce($3, d.reason), coalesce($4, d.error), d.attempts, d.failed_at
FROM email_dead_letters d, unnest($2::uuid[]) AS c (id)
WHERE d.email_id = $1
"""


async def multiply(
    pool: "asyncpg.Pool", email_id: str, count: int, *, reason: str | None = None, error: str | None = None
) -> None:
    """Make more dead letters like that of an email.

    Args:
        pool: Of the log.
        email_id: Of an email that was refused, and whose letter is open.
        count: How many more.
        reason: Of the new letters; None: as it is.
        error: Of the new letters; None: as it is.
    """
    made = [uuid.uuid4() for _ in range(count)]
    await pool.execute(_EMAILS, uuid.UUID(email_id), made)
    await pool.execute(_LETTERS, uuid.UUID(email_id), made, reason, error)
