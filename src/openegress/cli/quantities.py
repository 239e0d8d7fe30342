"""Times, durations and sizes as people read them. Pure."""

from datetime import datetime, tzinfo

NONE = "-"
UNITS = ("B", "kB", "MB", "GB", "TB")


def duration_text(seconds: float) -> str:
    """45s, 12m03s, 2h05m12s; whole seconds, rounded down."""
    whole = max(0, int(seconds))
    minutes, seconds_left = divmod(whole, 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes_left:02d}m{seconds_left:02d}s"
    return f"{minutes}m{seconds_left:02d}s" if minutes else f"{seconds_left}s"


def size_text(size_bytes: int) -> str:
    """Decimal units, as disks and storages count: 999 B, 1.5 MB, 230 GB."""
    value, rest = float(size_bytes), list(UNITS)
    while value >= 999.5 and len(rest) > 1:
        value /= 1000
        rest.pop(0)
    has_decimal = rest[0] != UNITS[0] and value < 99.95
    return f"{value:.{1 if has_decimal else 0}f} {rest[0]}"


def time_text(unix_s: float, now_s: float, zone: tzinfo | None = None) -> str:
    """The local time (or the zone's): 14:03:21 today, else 2026-03-01 14:03."""
    at = datetime.fromtimestamp(unix_s, zone)
    today = datetime.fromtimestamp(now_s, zone).date()
    return at.strftime("%H:%M:%S" if at.date() == today else "%Y-%m-%d %H:%M")
