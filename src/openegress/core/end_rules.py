"""What ends a recording by itself."""

import msgspec


class EndRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What ends the recording by itself, as request.options has it. 0: none."""

    max_duration_s: float = 0.0
    """Of what is recorded."""
    max_size_bytes: int = 0
    """Of each output that is stored."""
    stop_when_empty_s: float = 0.0
    stop_when_idle_s: float = 0.0
    stop_when_silent_s: float = 0.0
    start_timeout_s: float = 0.0
