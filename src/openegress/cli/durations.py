"""Durations on the command line: 30s, 1m30s, or plain seconds."""

import durationpy

from openegress.core.errors import invalid


def parse_duration(text: str) -> float:
    """Seconds, more than 0. Raises EgressError."""
    try:
        seconds = (
            float(text) if text.replace(".", "", 1).isdigit() else durationpy.from_str(text).total_seconds()
        )
    except (ValueError, durationpy.DurationError):
        raise invalid(f'"{text}" is not a duration: write 30s, 1m30s or a number of seconds') from None
    if seconds <= 0:
        raise invalid(f'"{text}" is not a duration: it must be longer than 0')
    return seconds
