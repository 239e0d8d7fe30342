"""Recognises independent encoded pictures by their first bytes."""

from openegress.core.annex_b import units
from openegress.core.bits import BitReader
from openegress.core.codecs import VideoCodec
from openegress.media.passthrough import parameters

_IDR = 5
_RANDOM_ACCESS = range(16, 24)
_PROFILE_3 = 3


def is_key_frame(codec: VideoCodec, data: bytes) -> bool:
    """Whether `data` is a key frame. Expects H264 and H265 with start codes, AV1 as OBUs with sizes."""
    match codec:
        case VideoCodec.H264:
            return any(unit[0] & 0x1F == _IDR for unit in units(data))
        case VideoCodec.H265:
            return any(unit[0] >> 1 & 0x3F in _RANDOM_ACCESS for unit in units(data))
        case VideoCodec.AV1:
            return bool(parameters(codec, data))  # senders put the sequence header before each key frame
        case VideoCodec.VP8:
            return bool(data) and not data[0] & 1  # RFC 6386 section 9.1
        case VideoCodec.VP9:
            return _is_vp9_key_frame(data)


def _is_vp9_key_frame(data: bytes) -> bool:
    """Reads the uncompressed_header (VP9 6.2)."""
    if not data:
        return False
    reader = BitReader(data[:2])
    reader.bits(2)  # frame_marker
    profile = reader.bits(1) + 2 * reader.bits(1)
    if profile == _PROFILE_3:
        reader.bits(1)
    shows_existing, is_inter = reader.flag(), reader.flag()
    return not shows_existing and not is_inter
