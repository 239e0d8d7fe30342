"""What a depacketiser makes, and what it raises."""

from dataclasses import dataclass


class MalformedPayload(ValueError):
    """Payloads that do not make a frame; the text says why."""


@dataclass(frozen=True, slots=True)
class AccessUnit:
    data: bytes
    is_key: bool
    width: int = 0
    height: int = 0
    """0 on all but key frames and parameter sets."""
    parameters_only: bool = False
    """Only parameter sets, no picture: belongs in front of the next unit."""
