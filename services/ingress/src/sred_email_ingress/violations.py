"""How much of what is wrong with a request its caller is told."""

import re
from collections import Counter
from collections.abc import Sequence

from sred_email_core.errors import FieldViolation

MAX_VIOLATIONS = 50
MAX_VIOLATION_BYTES = 3072
"""Fields and descriptions together. They travel in gRPC trailers, base64 on top, and gRPC takes 8 kB of those; or a
thousand times in the answer to a batch, and clients take messages of 4 MB unless they are told otherwise."""


def within_bounds(violations: Sequence[FieldViolation]) -> list[FieldViolation]:
    """Leave out the later elements of long lists first, so that every bad field of a request is named.

    Returns:
        At most ``MAX_VIOLATIONS``, and short enough to travel in the trailers of a call.
    """
    if not violations:
        return []
    seen: Counter[str] = Counter()
    ranked = []
    for position, violation in enumerate(violations):
        top_level, *_ = re.split(r"[.\[]", violation.field, maxsplit=1)
        ranked.append((seen[top_level], position))
        seen[top_level] += 1
    kept, bytes_left = [], MAX_VIOLATION_BYTES
    for _, position in sorted(ranked)[:MAX_VIOLATIONS]:
        bytes_left -= len(violations[position].field) + len(violations[position].description)
        if bytes_left < 0:
            break
        kept.append(position)
    return [violations[position] for position in sorted(kept)]
