"""``sred-email-ingress keys``: which encryption keys there are, and how many emails need each."""

from collections.abc import Mapping

from sred_email_core.encryption.key_ring import KeyRing, lost_names, names_a_key


def report(ring: KeyRing, use: Mapping[tuple[str, bytes], int]) -> tuple[list[str], bool]:
    """Lines to print, and whether each email's key is in the ring or known to be lost.

    Args:
        ring: As the file has it.
        use: How many emails need each key, by its id and its check value; those that name none are of damaged content.
    """
    uses = {key: "for new emails" if key is ring.first else "" for key in ring.keys}
    named = {key for key in use if names_a_key(*key)}
    rows = [("KEY", "EMAILS", "")]
    rows += [(key.id, str(use.get((key.id, key.check), 0)), said) for key, said in uses.items()]
    rows += [
        (name, str(sum(use[key] for key in named if name in lost_names(*key))), "lost") for name in sorted(ring.lost)
    ]
    have = {(key.id, key.check) for key in ring.keys}
    missing = sorted(key for key in named - have if ring.lost.isdisjoint(lost_names(*key)))
    for key_id, check in missing:
        said = "another key has this id in the file" if key_id in ring.ids else "is not in the file"
        rows.append((key_id, str(use[key_id, check]), f"{said}; its check is {check.hex()}"))
    if damaged := sum(emails for key, emails in use.items() if key not in named):
        rows.append(("?", str(damaged), "damaged"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return [line.rstrip() for line in lines], not missing
