"""Joins VP8 frames (RFC 7741; frame header: RFC 6386 section 9.1)."""

from collections.abc import Sequence

from openegress.room.rtp.depacketise.unit import AccessUnit, MalformedPayload, UnitKind

SYNC_CODE = b"\x9d\x01\x2a"


def join(payloads: Sequence[bytes]) -> AccessUnit:
    if not payloads or payloads[0][0] & 0x17 != 0x10:
        raise MalformedPayload("a VP8 frame without its first partition")
    if len(payloads) > 1 and payloads[-1][0] & 0x17 == 0x10:
        # livekit-server ends a track with blank pictures. The first one takes the RTP time of a frame that it
        # broke off.
        raise MalformedPayload("a VP8 frame begins within another")
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


def has_end(payloads: Sequence[bytes]) -> bool | None:
    """See depacketise.has_end: a frame says only how long its first partition is (RFC 6386 section 9.1)."""
    frame = join(payloads).data
    size = int.from_bytes(frame[:3], "little") >> 5
    return False if len(frame) < size + (3 if frame[0] & 1 else 10) else None


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
