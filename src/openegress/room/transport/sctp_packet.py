"""Checks whether a datagram of SCTP can be parsed at all (RFC 9260, 3.2). Pure.

aiortc checks the lengths of chunks, but not those of their parameters: it would read a parameter without
length in an endless loop, and block the recorder.
"""

HEAD_BYTES = 12
_CHUNK_HEAD_BYTES = 4
_PARAMETER_HEAD_BYTES = 4
_PARAMETERS_AT = {1: 16, 2: 16, 4: 0, 5: 0, 6: 0, 9: 0, 130: 0}
"""Offsets of the parameters in the chunks that have them: INIT, INIT ACK, HEARTBEAT, HEARTBEAT ACK, ABORT,
ERROR, RE-CONFIG (RFC 6525)."""


def is_sound(packet: bytes) -> bool:
    at = HEAD_BYTES
    while at + _CHUNK_HEAD_BYTES <= len(packet):
        kind, length = packet[at], int.from_bytes(packet[at + 2 : at + 4])
        end = at + length
        if length < _CHUNK_HEAD_BYTES or end > len(packet):
            return False
        first = _PARAMETERS_AT.get(kind)
        if first is not None and not _leads_on(packet, at + _CHUNK_HEAD_BYTES + first, end):
            return False
        at += _padded(length)
    return len(packet) >= HEAD_BYTES


def _leads_on(packet: bytes, at: int, end: int) -> bool:
    while at + _PARAMETER_HEAD_BYTES <= end:
        length = int.from_bytes(packet[at + 2 : at + 4])
        if length < _PARAMETER_HEAD_BYTES:
            return False
        at += _padded(length)
    return True


def _padded(length: int) -> int:
    return length + -length % 4
