"""Disables core files of this process and its children: a recorder's core file would hold every secret of its
requests."""

import resource


def forbid() -> None:
    """Takes effect at once, for every child too, and cannot be undone."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
