"""The result of a depacketiser, and its error."""

from collections.abc import Callable, Iterable, Iterator
from enum import Enum, auto
from typing import NamedTuple

from openegress.core.bits import BitReader, unescaped

MAX_PARTS = 1000
"""NAL units or OBUs in a frame. Encoders make a hundred at most, and packets full of small ones take
seconds."""
MAX_PARAMETER_BYTES = 4096
"""Bytes of a parameter set that is parsed."""


class MalformedPayload(ValueError):
    """Payloads that do not make a frame; the text says why."""


class UnitKind(Enum):
    KEY = auto()
    """Decodable by itself, as all sound is."""
    DELTA = auto()
    PARAMETERS = auto()
    """Parameter sets without a picture, which belong before the next unit."""

    @classmethod
    def of(cls, *, is_key: bool, has_picture: bool) -> "UnitKind":
        if not has_picture:
            return cls.PARAMETERS
        return cls.KEY if is_key else cls.DELTA


class AccessUnit(NamedTuple):
    """A complete encoded frame. It is a named tuple, because most packets make one."""

    data: bytes
    kind: UnitKind
    width: int = 0
    height: int = 0
    """0 on all but key frames and parameter sets."""

    @property
    def is_key(self) -> bool:
        return self.kind is UnitKind.KEY


def counted(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The parts of a frame. Raises MalformedPayload if there are more than any encoder makes."""
    for number, part in enumerate(parts):
        if number >= MAX_PARTS:
            raise MalformedPayload(f"a frame of more than {MAX_PARTS} parts")
        yield part


def aggregated(codec: str, payload: bytes, header_bytes: int) -> Iterator[bytes]:
    """The NAL units of an aggregation packet (RFC 6184, 5.7.1; RFC 7798, 4.4.2), each after its size. The
    packet and each of its units begin with a header of this many bytes. Raises MalformedPayload."""
    position = header_bytes
    while position < len(payload):
        size = payload[position] << 8 | payload[position + 1]
        position += 2
        if size < header_bytes or position + size > len(payload):
            raise MalformedPayload(f"an {codec} aggregate is shorter than its header says")
        yield payload[position : position + size]
        position += size


def size_in(
    codec: str, sps: bytes, header_bytes: int, read: Callable[[BitReader], tuple[int, int]]
) -> tuple[int, int]:
    """The picture size that `read` finds after the header of a sequence parameter set. Raises
    MalformedPayload."""
    refuse_long(sps)
    try:
        return read(BitReader(unescaped(sps)[header_bytes:]))
    except IndexError as error:
        raise MalformedPayload(f"an {codec} sequence parameter set ends too early") from error


def refuse_long(parameters: bytes) -> None:
    """Raises MalformedPayload."""
    if len(parameters) > MAX_PARAMETER_BYTES:
        raise MalformedPayload(f"a parameter set of {len(parameters)} bytes")
