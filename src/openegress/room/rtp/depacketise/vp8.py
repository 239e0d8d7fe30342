"""Joins VP8 frames (RFC 7741; frame header: RFC 6386 section 9.1)."""

from collections.abc import Sequence

from openegress.room.rtp.depacketise.unit import AccessUnit, MalformedPayload, UnitKind

SYNC_CODE = b"\x9d\x01\x2a"


def join(payloads: Sequence[bytes]) -> AccessUnit:
    if not payloads or payloads[0][0] & 0x17 != 0x10:
        raise MalformedPayload("a VP8 frame without its first partition")
    data = b"".join([payload[_descriptor_bytes(payload) :] for payload in payloads])
    if not data:
        raise MalformedPayload("a VP8 frame without data")
    if data[0] & 1:
        return AccessUnit(data, UnitKind.DELTA)
    if len(data) < 10 or data[3:6] != SYNC_CODE:
        raise MalformedPayload("a VP8 key frame without its start code")
    width = int.from_bytes(data[6:8], "little") & 0x3FFF
    height = int.from_bytes(data[8:10], "little") & 0x3FFF
    return AccessUnit(data, UnitKind.KEY, width, height)


def is_cut(frame: bytes) -> bool:
    """Whether its first partition is not all there (RFC 6386 section 9.1)."""
    size = int.from_bytes(frame[:3], "little") >> 5
    return len(frame) < size + (3 if frame[0] & 1 else 10)


def _descriptor_bytes(payload: bytes) -> int:
    first = payload[0]
    if not first & 0x80:
        return 1
    extension = payload[1]
    size = 2
    if extension & 0x80:
        size += 2 if payload[size] & 0x80 else 1
    if extension & 0x40:
        size += 1
    if extension & 0x30:
        size += 1
    if size > len(payload):
        raise MalformedPayload("a VP8 payload descriptor ends too early")
    return size
