"""How a command reports errors: one line on standard error."""

import sys
from enum import IntEnum

from openegress.core.errors import EgressError
from openegress.core.text import shown


class Exit(IntEnum):
    """The exit status of every command."""

    DONE = 0
    FAILED = 1
    WRONG_USE = 2
    INTERRUPTED = 130
    """The exit status that shells expect of a program that SIGINT ended."""


STATUSES = "exit status: 0 done, 1 failed (standard error says why), 2 wrong use, 130 interrupted by Ctrl-C"


MAX_CHARS = 4000
"""Of an error: it may hold a name, or what a server has answered."""


def report(error: EgressError) -> Exit:
    say("; ".join(line.strip() for line in error.text.splitlines() if line.strip()))
    return Exit.FAILED


def say(text: str) -> None:
    """Prints `text` without characters that a terminal would obey."""
    print(f"openegress: {shown(text, MAX_CHARS)}", file=sys.stderr)
