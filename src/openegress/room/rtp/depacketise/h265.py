"""Converts H265 (RFC 7798, without decoding order numbers) to Annex B."""

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

AGGREGATE, FRAGMENT = 48, 49
HEADER_BYTES = 2
"""Length of the header of a NAL unit, and of an aggregate."""
VPS, SPS = 32, 33
PICTURES = range(32)
RANDOM_ACCESS = range(16, 24)


def join(payloads: Sequence[bytes]) -> AccessUnit:
    parts: list[bytes] = []
    is_key = has_picture = has_vps = False
    sps = b""
    for nal in counted(_nal_units(payloads)):
        kind = nal[0] >> 1 & 0x3F
        is_key |= kind in RANDOM_ACCESS
        has_picture |= kind in PICTURES
        has_vps |= kind == VPS
        if kind == SPS:
            sps = nal
        parts += (START_CODE, nal)
    if not parts:
        raise MalformedPayload("an H265 frame without a NAL unit")
    if sps and not has_vps:
        # A server lets a new subscriber in at the first packet that looks like a key frame's; livekit-server
        # looks for the SPS. If a publisher sends each set in a packet of its own, the VPS is lost.
        is_key = False
    width, height = picture_size(sps) if sps and (is_key or not has_picture) else (0, 0)
    kind_of_unit = UnitKind.of(is_key=is_key, has_picture=has_picture)
    return AccessUnit(b"".join(parts), kind_of_unit, width, height)


def _nal_units(payloads: Sequence[bytes]) -> Iterator[bytes]:
    fragments: list[bytes] | None = None
    for payload in payloads:
        kind = payload[0] >> 1 & 0x3F
        if kind == FRAGMENT:
            header = payload[2]
            if header & 0x80:
                fragments = [bytes((payload[0] & 0x81 | (header & 0x3F) << 1, payload[1]))]
            if fragments is None:
                raise MalformedPayload("an H265 fragment without its start")
            fragments.append(payload[3:])
            if header & 0x40:
                yield b"".join(fragments)
                fragments = None
            continue
        if fragments is not None:
            raise MalformedPayload("an H265 fragment without its end")
        if kind == AGGREGATE:
            yield from aggregated("H265", payload, HEADER_BYTES)
        elif kind < AGGREGATE and len(payload) >= 2:
            yield payload
        else:
            raise MalformedPayload(f"H265 payload structure {kind} is not used in WebRTC")
    if fragments is not None:
        raise MalformedPayload("an H265 fragment without its end")


@lru_cache(maxsize=64)
def picture_size(sps: bytes) -> tuple[int, int]:
    """Width and height after cropping, from a sequence parameter set (H265 7.3.2.2.1)."""
    return size_in("H265", sps, HEADER_BYTES, _picture_size)


def _picture_size(reader: BitReader) -> tuple[int, int]:
    reader.bits(4)
    sub_layers = reader.bits(3)
    reader.flag()
    reader.bits(88)  # general profile, tier
    reader.bits(8)  # level
    present = [(reader.flag(), reader.flag()) for _ in range(sub_layers)]
    if sub_layers:
        reader.bits(2 * (8 - sub_layers))
    for profile, level in present:
        reader.bits((88 if profile else 0) + (8 if level else 0))
    reader.unsigned_golomb()
    chroma = reader.unsigned_golomb()
    if chroma == 3:
        reader.flag()
    width = reader.unsigned_golomb()
    height = reader.unsigned_golomb()
    if reader.flag():
        left, right, top, bottom = (reader.unsigned_golomb() for _ in range(4))
        width -= (2 if chroma in (1, 2) else 1) * (left + right)
        height -= (2 if chroma == 1 else 1) * (top + bottom)
    if not (0 < width <= 16384 and 0 < height <= 16384):
        raise MalformedPayload(f"an H265 picture of {width}x{height}")
    return width, height
