"""Finds the user that runs the browser: never root, because a page's code must not start with root's
rights."""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from openegress.core.errors import Code, EgressError, Fault, Phase

CANDIDATES = ("openegress", "nobody")


@dataclass(frozen=True, slots=True)
class Identity:
    name: str
    uid: int
    gid: int

    def may_enter(self, folder: Path) -> bool:
        """Whether this user can reach files in `folder`, by the permission bits along the path."""
        for part in (folder, *folder.parents):
            status = part.stat()
            if status.st_uid == self.uid:
                needed = 0o100
            elif status.st_gid == self.gid:
                needed = 0o010
            else:
                needed = 0o001
            if not status.st_mode & needed:
                return False
        return True


def current() -> Identity:
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)  # a container may run as a number that no user has
    return Identity(name, uid, os.getgid())


def browser_identity(user: str) -> Identity:
    """The user named `user`. If it is empty: our own user or, for root, the first of CANDIDATES that exists.
    Raises EgressError if there is none, or if we are not root and cannot become another user."""
    if os.geteuid() != 0:
        own = current()
        if user not in ("", own.name):
            raise _error(f"the browser cannot run as {user!r}: the service runs as {own.name!r}, not as root")
        return own
    for name in (user,) if user else CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid == 0:
            raise _error(f"the browser cannot run as {name!r}, which is root: name an unprivileged user")
        return Identity(name, entry.pw_uid, entry.pw_gid)
    wanted = repr(user) if user else " or ".join(CANDIDATES)
    raise _error(f"no user {wanted} for the browser to run as: create it (useradd --system openegress)")


def _error(message: str) -> EgressError:
    return EgressError(Code.FAILED_PRECONDITION, message, fault=Fault.SERVICE, phase=Phase.BROWSER_START)
