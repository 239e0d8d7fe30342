"""Integers in as many bytes as they need, lowest bits first: protobuf's varint and AV1's leb128. Pure."""


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
