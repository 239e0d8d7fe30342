"""Splits redundant audio (RFC 2198), whose packets repeat the ones before them."""

from dataclasses import dataclass

from openegress.room.rtp.depacketise.unit import MalformedPayload


@dataclass(frozen=True, slots=True)
class RedBlock:
    payload_type: int
    timestamp_offset: int
    """The distance of the block from the packet's own timestamp, which is later; 0: the packet's own
    block."""
    data: bytes


def split(payload: bytes) -> list[RedBlock]:
    """The blocks, oldest first, the packet's own block last. Raises MalformedPayload."""
    headers: list[tuple[int, int, int]] = []
    position = 0
    while True:
        if position >= len(payload):
            raise MalformedPayload("a RED header ends too early")
        first = payload[position]
        if not first & 0x80:
            break
        if position + 4 > len(payload):
            raise MalformedPayload("a RED header ends too early")
        rest = int.from_bytes(payload[position + 1 : position + 4])
        headers.append((first & 0x7F, rest >> 10, rest & 0x3FF))
        position += 4
    own_type = payload[position] & 0x7F
    position += 1
    blocks = []
    for payload_type, offset, size in headers:
        if position + size > len(payload):
            raise MalformedPayload("a RED packet is shorter than its header says")
        blocks.append(RedBlock(payload_type, offset, payload[position : position + size]))
        position += size
    blocks.append(RedBlock(own_type, 0, payload[position:]))
    return blocks
