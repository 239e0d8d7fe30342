"""How a stream is described in an MP4 (ISO/IEC 14496-12 8.5.2): FFmpeg knows the boxes of every codec."""

import io

import av

from openegress.core.codecs import VideoCodec
from openegress.core.errors import internal
from openegress.media import StreamFormat
from openegress.media.mp4 import children
from openegress.media.streams import add_stream

_PATH = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
_STSD_HEADER = 8
"""Version, flags and the count of entries."""


def sample_entry(form: StreamFormat) -> bytes:
    """The box that stands in stsd for a stream of that format.

    H265 is called hvc1, which Apple's players insist on; FFmpeg's hvc1 would take the parameter sets out of
    the pictures. They stand in both places, here and for H.264: whoever reads sample entries finds them
    there, and players that know one entry only find them in the media (ISO/IEC 14496-15 5.3 and 8.3 would
    have them in one place). Raises FFmpegError when FFmpeg cannot describe it.
    """
    buffer = io.BytesIO()
    container = av.open(buffer, "w", format="mp4", container_options={"movflags": "empty_moov"})
    add_stream(container, form)
    container.start_encoding()
    data = buffer.getvalue()
    container.close()
    start, end = 0, len(data)
    for wanted in _PATH:
        for kind, at, size in children(data, start, end):
            if kind == wanted:
                start, end = at + 8, at + size
                break
        else:
            raise internal(f"FFmpeg wrote no {wanted.decode()} box for {form.codec.value}")
    entry = data[start + _STSD_HEADER : end]
    if form.codec is VideoCodec.H265:
        return entry[:4] + b"hvc1" + entry[8:]
    return entry
