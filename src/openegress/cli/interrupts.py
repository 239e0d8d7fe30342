"""Ctrl-C and SIGTERM, which both end a command that runs for a while."""

import signal


def install() -> None:
    """Both raise KeyboardInterrupt in the main thread. SIGINT does so even where a shell ignores it, as for
    background jobs."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
