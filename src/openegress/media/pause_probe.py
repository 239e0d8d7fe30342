"""Finds whether an encoded packet contains speech. This needs decoding, so it is used only where that is
worthwhile."""

from openegress.core.codecs import AudioCodec
from openegress.media.decoder import AudioDecoder
from openegress.media.pause_detector import PauseDetector

DTX_BYTES = 2
"""Limit for an Opus packet without sound (RFC 6716 section 3.1)."""


class PauseProbe:
    """Probes one track."""

    def __init__(self, codec: AudioCodec) -> None:
        self._codec = codec
        self._decoder: AudioDecoder | None = None
        self._detector = PauseDetector()

    def is_pause(self, data: bytes) -> bool:
        if self._codec is AudioCodec.OPUS and len(data) <= DTX_BYTES:
            return True
        if self._decoder is None:
            self._decoder = AudioDecoder(self._codec)
        samples = self._decoder.decode(data)
        return bool(len(samples)) and self._detector.is_pause(samples)
