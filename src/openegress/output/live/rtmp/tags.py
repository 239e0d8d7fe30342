"""Splits FLV into the messages of RTMP (Adobe's FLV specification 10.1, annex E)."""

from openegress.output.live.rtmp.publisher import Publisher

_HEAD_BYTES = 9 + 4
"""Size of the file header, and of the size field before the first tag."""
_TAG_BYTES = 11
_TRAIL_BYTES = 4


class FlvTags:
    """Sends the tags of an FLV muxer; it is the muxer's media.muxer.ByteSink."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._data = bytearray()
        self._is_begun = False
        self.closed = False

    def write(self, data: bytes) -> int:
        """Sends each tag that `data` completes. Returns once the kernel has accepted them. Raises OSError."""
        self._data += data
        if not self._is_begun and len(self._data) >= _HEAD_BYTES:
            del self._data[:_HEAD_BYTES]
            self._is_begun = True
        try:
            while self._is_begun and self._send_one():
                pass
        except OSError:
            self.closed = True  # PyAV then leaves out the trailer
            raise
        return len(data)

    def _send_one(self) -> bool:
        """Sends the first tag; False: it is incomplete."""
        data = self._data
        end = _TAG_BYTES + int.from_bytes(data[1:4])
        if len(data) < max(_TAG_BYTES, end + _TRAIL_BYTES):
            return False
        kind, time_ms, body = data[0], data[7] << 24 | int.from_bytes(data[4:7]), bytes(data[_TAG_BYTES:end])
        del data[: end + _TRAIL_BYTES]
        self._publisher.send(kind, time_ms, body)
        return True
