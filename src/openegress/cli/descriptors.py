"""How many files and connections this process may have open."""

import resource

WANTED = 65_536
"""A thousand recordings and all the connections that are let in; shells often start us with 1,024, as old
programs that call select() cannot have more. None of ours does."""


def allow() -> None:
    """As many as wanted, where the system's hard limit lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
