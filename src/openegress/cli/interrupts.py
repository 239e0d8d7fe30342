"""What ends a command that works for a while: Ctrl-C and SIGTERM, alike."""

import signal


def heed() -> None:
    """Both raise KeyboardInterrupt in the main thread. SIGINT does so even where a shell has it ignored, as
    for what runs in the background."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
