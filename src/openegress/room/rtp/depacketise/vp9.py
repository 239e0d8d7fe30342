"""Joins VP9 frames (RFC 9628), spatial layers included.

The layers of one picture become a superframe (VP9 bitstream specification, annex B), which is how a
container or decoder expects several coded frames of one instant.

A server that forwards an upper layer alone sends the lower ones with key frames only. libvpx shows the
top layer of a superframe; FFmpeg's decoder gives a picture for each, of which the last one counts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from openegress.core.bits import BitReader
from openegress.room.rtp.depacketise.unit import AccessUnit, MalformedPayload, UnitKind

SYNC_CODE = 0x498342
SRGB = 7


@dataclass(frozen=True, slots=True)
class _Descriptor:
    size: int
    starts: bool
    ends: bool
    layer: int
    sizes: tuple[tuple[int, int], ...]
    """The size of all spatial layers, if the scalability structure gives it."""


def join(payloads: Sequence[bytes], opened: Callable[[bytes], bytes] = bytes) -> AccessUnit:
    """Joins the payloads of a picture. `opened` decrypts a layer's frame; it may raise anything."""
    layers: list[list[bytes]] = []
    sizes: tuple[tuple[int, int], ...] = ()
    ended = True
    top = 0
    for payload in payloads:
        descriptor = _descriptor(payload)
        sizes = sizes or descriptor.sizes
        if descriptor.starts:
            if not ended:
                raise MalformedPayload("a VP9 layer without its end")
            layers.append([])
            top = descriptor.layer
        elif ended:
            raise MalformedPayload("a VP9 layer without its start")
        layers[-1].append(payload[descriptor.size :])
        ended = descriptor.ends
    if not layers or not ended:
        raise MalformedPayload("a VP9 frame without its end")
    sent = [b"".join(parts) for parts in layers]
    if not all(sent):
        raise MalformedPayload("a VP9 frame without data")
    frames = [opened(frame) for frame in sent]
    is_key, width, height = _header(frames[0])
    if is_key and top < len(sizes):
        width, height = sizes[top]
    data = frames[0] if len(frames) == 1 else _superframe(frames)
    return AccessUnit(data, UnitKind.of(is_key=is_key, has_picture=True), width, height)


def has_end(payloads: Sequence[bytes]) -> bool:
    """See depacketise.has_end. A picture may end with any layer: a server drops the upper ones."""
    return _descriptor(payloads[-1]).ends


def _descriptor(payload: bytes) -> _Descriptor:
    first = payload[0]
    position = 1
    layer = 0
    sizes: list[tuple[int, int]] = []
    if first & 0x80:
        position += 2 if payload[position] & 0x80 else 1
    if first & 0x20:
        layer = payload[position] >> 1 & 7
        position += 1 if first & 0x10 else 2
    if first & 0x10 and first & 0x40:
        for _ in range(3):
            more = payload[position] & 1
            position += 1
            if not more:
                break
    if first & 0x02:
        structure = payload[position]
        position += 1
        if structure & 0x10:
            for _ in range((structure >> 5) + 1):
                width = payload[position] << 8 | payload[position + 1]
                height = payload[position + 2] << 8 | payload[position + 3]
                sizes.append((width, height))
                position += 4
        if structure & 0x08:
            pictures = payload[position]
            position += 1
            for _ in range(pictures):
                position += 1 + (payload[position] >> 2 & 3)
    if position > len(payload):
        raise MalformedPayload("a VP9 payload descriptor ends too early")
    return _Descriptor(position, bool(first & 0x08), bool(first & 0x04), layer, tuple(sizes))


def _header(frame: bytes) -> tuple[bool, int, int]:
    """Whether it is a key frame, and its size (uncompressed_header)."""
    reader = BitReader(frame[:24])
    if reader.bits(2) != 2:
        raise MalformedPayload("a VP9 frame without its marker")
    profile = reader.bits(1) | reader.bits(1) << 1
    if profile == 3:
        reader.flag()
    if reader.flag() or reader.flag():  # shows an existing frame, or is not a key frame
        return False, 0, 0
    reader.bits(2)
    if reader.bits(24) != SYNC_CODE:
        raise MalformedPayload("a VP9 key frame without its sync code")
    if profile >= 2:
        reader.flag()
    if reader.bits(3) != SRGB:
        reader.flag()
        if profile in (1, 3):
            reader.bits(3)
    elif profile in (1, 3):
        reader.flag()
    return True, reader.bits(16) + 1, reader.bits(16) + 1


def _superframe(frames: list[bytes]) -> bytes:
    if len(frames) > 8:
        raise MalformedPayload("a VP9 picture of more than eight layers")
    width = max((max(map(len, frames)).bit_length() + 7) // 8, 1)
    marker = bytes((0xC0 | (width - 1) << 3 | len(frames) - 1,))
    index = b"".join(len(frame).to_bytes(width, "little") for frame in frames)
    return b"".join((*frames, marker, index, marker))
