"""Become another program: one that ends when its parent does, and runs as another user if asked.

Run by its path (``python -I -S launch.py PARENT SIGNAL USER PROGRAM [ARGUMENT…]``), so that it costs no imports of the
package. It is a program of its own because the order matters: Linux forgets the parent-death signal when the user
changes, so the user comes first, then the signal, then the program.

Source: prctl(2), PR_SET_PDEATHSIG.
"""

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1


def become(parent: int, death_signal: int, user: str, command: list[str]) -> None:
    """Replace this process by `command`.

    Args:
        parent: Process id of whoever must stay alive for this to go on.
        death_signal: Number of the signal that comes when the parent dies (on Linux).
        user: Name of the user to run as; empty for the present one.
        command: Path of the program, and its arguments.

    Raises:
        OSError: The program cannot be started; this process is unchanged but for its user.
    """
    libc = ctypes.CDLL(None, use_errno=True)  # loaded first: another user may be unable to read Python's own files
    if user:
        entry = pwd.getpwnam(user)
        os.initgroups(user, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    if sys.platform == "linux":
        if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl failed")
        if os.getppid() != parent:  # it died before the signal was asked for
            sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


def main() -> None:
    """Read the command line and become what it names."""
    parent, death_signal, user, *command = sys.argv[1:]
    try:
        become(int(parent), int(death_signal), user, command)
    except OSError as error:
        sys.exit(f"cannot start {command[0]}: {error}")


if __name__ == "__main__":
    main()
