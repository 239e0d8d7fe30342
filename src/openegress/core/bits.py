"""Reads bit streams, such as the headers of H264, H265, VP9 and AV1 that give the picture's size."""

MAX_BYTES = 1024
"""Limit for a header. No codec uses more than a hundred, and each bit read costs as much as the bytes that
are left."""


class BitReader:
    """Most significant bit first. Reading past the end, or past MAX_BYTES, raises IndexError."""

    def __init__(self, data: bytes) -> None:
        data = data[:MAX_BYTES]
        self._value = int.from_bytes(data)
        self._left = 8 * len(data)

    def bits(self, count: int) -> int:
        if count > self._left:
            raise IndexError("past the end")
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1)

    def flag(self) -> bool:
        return self.bits(1) == 1

    def unsigned_golomb(self) -> int:
        """ue(v) of H264 and H265 (9.1 there)."""
        zeros = 0
        while not self.flag():
            zeros += 1
            if zeros > 32:
                raise IndexError("no Exp-Golomb code")
        return (1 << zeros) - 1 + self.bits(zeros)

    def signed_golomb(self) -> int:
        """se(v)."""
        code = self.unsigned_golomb()
        return (code + 1) // 2 if code % 2 else -(code // 2)


def unescaped(nal: bytes) -> bytes:
    """A NAL unit without its emulation prevention bytes (H264 7.3.1, H265 7.3.1.1)."""
    if b"\0\0\3" not in nal:
        return nal
    out = bytearray()
    zeros = 0
    for byte in nal:
        if zeros >= 2 and byte == 3:
            zeros = 0
            continue
        out.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(out)
