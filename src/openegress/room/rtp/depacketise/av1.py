"""Converts AV1 (RTP payload format of the Alliance for Open Media) to the low-overhead bitstream format.

A unit starts with a temporal delimiter and every OBU says its size, as FFmpeg's muxers want it.
"""

from collections.abc import Sequence
from functools import lru_cache

from openegress.core.bits import BitReader
from openegress.core.varint import varint
from openegress.room.rtp.depacketise.unit import (
    MAX_PARTS,
    AccessUnit,
    MalformedPayload,
    UnitKind,
    refuse_long,
)

TEMPORAL_DELIMITER = b"\x12\x00"
SEQUENCE_HEADER, DELIMITER, FRAME_HEADER, FRAME = 1, 2, 3, 6
DROPPED = (DELIMITER, 8, 15)
"""Types of OBUs that are not recorded: delimiters, tile lists and padding, which senders must not send."""
KEY_FRAME = 0


def join(payloads: Sequence[bytes]) -> AccessUnit:
    parts = [TEMPORAL_DELIMITER]
    sequence = b""
    is_key: bool | None = None
    for obu in _obus(payloads):
        header = obu[0]
        kind = header >> 3 & 15
        if kind in DROPPED:
            continue
        start = 2 if header & 4 else 1
        if len(obu) < start:
            raise MalformedPayload("an AV1 OBU without the extension its header announces")
        if header & 2:  # already has its size
            _, body_start = leb128(obu, start)
            parts.append(obu)
        else:
            body_start = start
            parts += (bytes((header | 2,)), obu[1:start], varint(len(obu) - start), obu[start:])
        if kind == SEQUENCE_HEADER:
            sequence = obu[body_start:]
        elif kind in (FRAME, FRAME_HEADER) and is_key is None:
            first = obu[body_start]
            is_key = first >> 7 == 0 and first >> 5 & 3 == KEY_FRAME
    if len(parts) == 1:
        raise MalformedPayload("an AV1 unit without an OBU")
    key = bool(is_key) and bool(sequence)
    width, height = picture_size(sequence) if key else (0, 0)
    unit_kind = UnitKind.of(is_key=key, has_picture=is_key is not None or not sequence)
    return AccessUnit(b"".join(parts), unit_kind, width, height)


def has_end(payloads: Sequence[bytes]) -> bool | None:
    """See depacketise.has_end. A temporal unit may end with any layer, as a server drops the upper ones. A
    frame in several OBUs does not say how many there are."""
    return True if _obus(payloads)[-1][0] >> 3 & 15 == FRAME else None


def _obus(payloads: Sequence[bytes]) -> list[bytes]:
    """The OBUs; those that were split across packets are joined (section 4.4)."""
    obus: list[list[bytes]] = []
    open_ended = False
    for payload in payloads:
        aggregation = payload[0]
        continues, count = aggregation >> 7, aggregation >> 4 & 3
        if bool(continues) != open_ended:
            raise MalformedPayload("an AV1 OBU is cut and not continued")
        position, number = 1, 0
        while position < len(payload):
            number += 1
            if count and number == count:
                size = len(payload) - position
            else:
                size, position = leb128(payload, position)
            if position + size > len(payload):
                raise MalformedPayload("an AV1 packet is shorter than its header says")
            element = payload[position : position + size]
            position += size
            if number == 1 and continues:
                obus[-1].append(element)
            else:
                if len(obus) >= MAX_PARTS:
                    raise MalformedPayload(f"a frame of more than {MAX_PARTS} parts")
                obus.append([element])
        if number == 0 or number < count:
            raise MalformedPayload("an AV1 packet with fewer OBUs than its header says")
        open_ended = bool(aggregation & 0x40)
    if open_ended:
        raise MalformedPayload("an AV1 OBU without its end")
    return [joined for parts in obus if (joined := b"".join(parts))]


def leb128(data: bytes, position: int) -> tuple[int, int]:
    """The value at `position` and where it ends (AV1 4.10.5)."""
    value = 0
    for shift in range(0, 56, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
    raise MalformedPayload("an AV1 size of more than eight bytes")


@lru_cache(maxsize=64)
def picture_size(sequence: bytes) -> tuple[int, int]:
    """The largest picture of a sequence header (AV1 5.5.1)."""
    refuse_long(sequence)
    try:
        return _picture_size(BitReader(sequence))
    except IndexError as error:
        raise MalformedPayload("an AV1 sequence header ends too early") from error


def _picture_size(reader: BitReader) -> tuple[int, int]:
    reader.bits(4)  # profile, still picture
    if reader.flag():  # reduced still picture header
        reader.bits(5)
    else:
        _skip_operating_points(reader)
    width_bits = reader.bits(4) + 1
    height_bits = reader.bits(4) + 1
    return reader.bits(width_bits) + 1, reader.bits(height_bits) + 1


def _skip_operating_points(reader: BitReader) -> None:
    delay_bits = 0
    decoder_model = False
    if reader.flag():  # timing info
        reader.bits(64)
        if reader.flag():
            _skip_uvlc(reader)
        decoder_model = reader.flag()
        if decoder_model:
            delay_bits = reader.bits(5) + 1
            reader.bits(32 + 10)
    initial_delay = reader.flag()
    for _ in range(reader.bits(5) + 1):
        reader.bits(12)
        if reader.bits(5) > 7:
            reader.flag()
        if decoder_model and reader.flag():
            reader.bits(2 * delay_bits + 1)
        if initial_delay and reader.flag():
            reader.bits(4)


def _skip_uvlc(reader: BitReader) -> None:
    zeros = 0
    while not reader.flag():
        zeros += 1
    if zeros < 32:
        reader.bits(zeros)
