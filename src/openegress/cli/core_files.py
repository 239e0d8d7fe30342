"""Core files of this process and its children: a recorder's holds every secret of its requests."""

import resource


def forbid() -> None:
    """From here on, also for every child; for good."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
