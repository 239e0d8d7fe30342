"""Limits for the open files and connections of this process."""

import resource

WANTED = 65_536
"""Enough for a thousand recordings and all connections that are accepted. Shells often start us with 1,024,
for old programs that call select(), which cannot take more. None of ours calls it."""


def allow() -> None:
    """Raises the limit as far as wanted, and as the system's hard limit permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
