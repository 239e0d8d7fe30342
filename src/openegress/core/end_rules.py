"""The rules that end a recording automatically."""

import msgspec


class EndRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The rules that end a recording automatically, as set by request.options. 0: no limit."""

    max_duration_s: float = 0.0
    """Limit for the recorded time."""
    max_size_bytes: int = 0
    """Limit for each output that is stored."""
    stop_when_empty_s: float = 0.0
    stop_when_idle_s: float = 0.0
    stop_when_silent_s: float = 0.0
    start_timeout_s: float = 0.0
