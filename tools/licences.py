"""List the licences of what the services and the client bring along: ``docs/licences.md``. Part of ``make check``.

.venv/bin/python tools/licences.py            write the page
.venv/bin/python tools/licences.py --check    tell whether it is true, and whether each licence will do
"""

import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PAGE = Path(__file__).resolve().parent.parent / "docs" / "licences.md"
SHIPPED = ("sred-email-client", "sred-email-ingress", "sred-email-consumer", "sred-email-operator")
OURS = "sred-email-"
FIT = re.compile(
    r"Apache|BSD|MIT\b|ISC\b|CC0-1\.0|CNRI-Python|Mozilla Public License 2\.0|MPL-2\.0|PSF-2\.0|PSFL|"
    r"Python Software Foundation|Unlicense|Zlib|CC-BY-4\.0"
)
"""Licences under which a service may be run and an image passed on; of several, one is enough."""
LINUX = {
    "sys_platform": "linux",
    "platform_system": "Linux",
    "python_version": "3.13",
    "python_full_version": "3.13.0",
}
"""Where the images run: the page says the same wherever it is made."""
_MOST_CHARACTERS = 60
HEAD = """# Licences

What the client, the two services and the command line bring along, by what each package says of itself. Development
tools are not among it. `make licences` writes this page; `make check` sees that it is true, and that each licence is
one under which the images may be passed on.

| package | licence |
| --- | --- |
"""


def main(arguments: list[str]) -> int:
    """Write the page or check it; the exit code: 0 if all is well, otherwise 1."""
    licences = {name: licence_of(found) for name, found in sorted(closure().items())}
    unfit = [name for name, licence in licences.items() if not FIT.search(licence)]
    for name in unfit:
        print(f"licences: {name} is under {licences[name]}: see whether it will do, and say so in tools/licences.py")
    page = HEAD + "".join(f"| {name} | {licence} |\n" for name, licence in licences.items())
    if "--check" not in arguments:
        PAGE.write_text(page, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page:
        print("licences: docs/licences.md is not true any more: make licences mends this")
        return 1
    return 1 if unfit else 0


def closure() -> dict[str, Distribution]:
    """Everything that is installed because what we ship asks for it, by name."""
    found: dict[str, Distribution] = {}
    asked: list[tuple[str, frozenset[str]]] = [(name, frozenset()) for name in SHIPPED]
    seen: set[tuple[str, frozenset[str]]] = set()
    while asked:
        name, extras = asked.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            dist = distribution(name)
        except PackageNotFoundError:
            continue  # for another platform
        if not name.startswith(OURS):
            found[name] = dist
        for text in dist.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or any(
                requirement.marker.evaluate(LINUX | {"extra": extra}) for extra in ("", *extras)
            ):
                asked.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return found


def licence_of(dist: Distribution) -> str:
    """What a package says of its licence: its expression, else its classifiers, else its words."""
    about = dist.metadata
    expression = "".join(about.get_all("License-Expression") or ())
    classifiers = [c.rpartition(" :: ")[2] for c in about.get_all("Classifier") or () if c.startswith("License :: ")]
    named = [c for c in classifiers if c != "OSI Approved"]
    words = "\n".join(about.get_all("License") or ()).strip().splitlines()
    licence = expression or ", ".join(named) or (words[0] if words else "") or "(it does not say)"
    return licence if len(licence) <= _MOST_CHARACTERS else f"{licence[:_MOST_CHARACTERS]}…"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
