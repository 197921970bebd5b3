"""TCP ports of the loopback interface: which are free, which are taken."""

import errno
import random
import socket
from collections.abc import Iterable
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"

# Below the range from which Linux takes the ports of outgoing connections (32768 and up): a server that was killed
# finds its port free again, and a client that tries a dead server's port cannot be connected to itself.
_FREE_PORTS = range(15_000, 32_000)
_TRIES = 200


@dataclass(frozen=True, slots=True)
class PortUse:
    """What a port is wanted for.

    Attributes:
        port: 1 to 65535.
        purpose: What will listen there, in words.
        variable: The environment variable that names another port.
    """

    port: int
    purpose: str
    variable: str


class PortTakenError(Exception):
    """Something else listens on a port that is wanted here; nothing was started."""


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback interface now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections of a former run don't count
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def free_port() -> int:
    """A port of the loopback interface on which nothing listens.

    Raises:
        PortTakenError: None was found.
    """
    for port in random.sample(_FREE_PORTS, _TRIES):
        if is_free(port):
            return port
    raise PortTakenError(f"no free port was found between {_FREE_PORTS.start} and {_FREE_PORTS.stop - 1}")


def check_free(uses: Iterable[PortUse]) -> None:
    """Make sure that every wanted port is free and wanted once.

    Raises:
        PortTakenError: Names each port that is not, what it is wanted for and the variable that changes it.
    """
    problems: list[str] = []
    first: dict[int, PortUse] = {}
    for use in uses:
        other = first.setdefault(use.port, use)
        if other is not use:
            problems.append(f"port {use.port} is wanted for {other.purpose} and {use.purpose}: set {use.variable}")
        elif not is_free(use.port):
            problems.append(f"port {use.port}, for {use.purpose}, is taken: set {use.variable} to another one")
    if problems:
        raise PortTakenError("\n".join(problems))
