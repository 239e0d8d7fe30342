"""What a depacketiser makes, and what it raises."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MOST_PARTS = 1000
"""NAL units or OBUs of a frame. Encoders make a hundred at most, and packets full of small ones take
seconds."""
MOST_PARAMETER_BYTES = 4096
"""Of a set of parameters that is read."""


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


def counted(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The parts of a frame. Raises MalformedPayload where there are more than any encoder makes."""
    for number, part in enumerate(parts):
        if number >= MOST_PARTS:
            raise MalformedPayload(f"a frame of more than {MOST_PARTS} parts")
        yield part


def refuse_long(parameters: bytes) -> None:
    """Raises MalformedPayload."""
    if len(parameters) > MOST_PARAMETER_BYTES:
        raise MalformedPayload(f"a parameter set of {len(parameters)} bytes")
