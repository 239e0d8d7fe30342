"""Converts H264 (RFC 6184, packetization modes 0 and 1) to Annex B."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

from openegress.core.annex_b import START_CODE
from openegress.core.bits import BitReader
from openegress.room.rtp.depacketise.unit import (
    AccessUnit,
    MalformedPayload,
    UnitKind,
    aggregated,
    counted,
    size_in,
)

IDR, SPS = 5, 7
STAP_A, FU_A = 24, 28
HEADER_BYTES = 1
"""Length of the header of a NAL unit, and of an aggregate."""
PICTURES = range(1, 6)
HIGH_PROFILES = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}
"""Profiles whose SPS has the chroma fields."""


def join(payloads: Sequence[bytes]) -> AccessUnit:
    parts: list[bytes] = []
    is_key = has_picture = False
    sps = b""
    for nal in counted(_nal_units(payloads)):
        kind = nal[0] & 0x1F
        if kind == IDR:
            is_key = True
        elif kind == SPS:
            sps = nal
        has_picture |= kind in PICTURES
        parts += (START_CODE, nal)
    if not parts:
        raise MalformedPayload("an H264 frame without a NAL unit")
    width, height = picture_size(sps) if sps and (is_key or not has_picture) else (0, 0)
    kind_of_unit = UnitKind.of(is_key=is_key, has_picture=has_picture)
    return AccessUnit(b"".join(parts), kind_of_unit, width, height)


def _nal_units(payloads: Sequence[bytes]) -> Iterator[bytes]:
    fragments: list[bytes] | None = None
    for payload in payloads:
        kind = payload[0] & 0x1F
        if kind == FU_A:
            header = payload[1]
            if header & 0x80:
                fragments = [bytes((payload[0] & 0xE0 | header & 0x1F,))]
            if fragments is None:
                raise MalformedPayload("an H264 fragment without its start")
            fragments.append(payload[2:])
            if header & 0x40:
                yield b"".join(fragments)
                fragments = None
            continue
        if fragments is not None:
            raise MalformedPayload("an H264 fragment without its end")
        if kind == STAP_A:
            yield from aggregated("H264", payload, HEADER_BYTES)
        elif 0 < kind < STAP_A:
            yield payload
        else:
            raise MalformedPayload(f"H264 payload structure {kind} is not used in WebRTC")
    if fragments is not None:
        raise MalformedPayload("an H264 fragment without its end")


@lru_cache(maxsize=64)
def picture_size(sps: bytes) -> tuple[int, int]:
    """Width and height after cropping, from a sequence parameter set (H264 7.3.2.1.1)."""
    return size_in("H264", sps, HEADER_BYTES, _picture_size)


def _picture_size(reader: BitReader) -> tuple[int, int]:
    profile = reader.bits(8)
    reader.bits(16)
    reader.unsigned_golomb()
    chroma = 1
    if profile in HIGH_PROFILES:
        chroma = reader.unsigned_golomb()
        if chroma == 3:
            reader.flag()
        reader.unsigned_golomb()
        reader.unsigned_golomb()
        reader.flag()
        if reader.flag():
            for index in range(12 if chroma == 3 else 8):
                if reader.flag():
                    _skip_scaling_list(reader, 16 if index < 6 else 64)
    reader.unsigned_golomb()
    order = reader.unsigned_golomb()
    if order == 0:
        reader.unsigned_golomb()
    elif order == 1:
        reader.flag()
        reader.signed_golomb()
        reader.signed_golomb()
        for _ in range(min(reader.unsigned_golomb(), 255)):
            reader.signed_golomb()
    reader.unsigned_golomb()
    reader.flag()
    width = 16 * (reader.unsigned_golomb() + 1)
    height_units = reader.unsigned_golomb() + 1
    frames_only = reader.flag()
    height = 16 * height_units * (1 if frames_only else 2)
    if not frames_only:
        reader.flag()
    reader.flag()
    if reader.flag():
        left, right, top, bottom = (reader.unsigned_golomb() for _ in range(4))
        step_x = 2 if chroma in (1, 2) else 1
        step_y = (2 if chroma == 1 else 1) * (1 if frames_only else 2)
        width -= step_x * (left + right)
        height -= step_y * (top + bottom)
    if not (0 < width <= 16384 and 0 < height <= 16384):
        raise MalformedPayload(f"an H264 picture of {width}x{height}")
    return width, height


def _skip_scaling_list(reader: BitReader, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + reader.signed_golomb()) % 256
        last = following or last
