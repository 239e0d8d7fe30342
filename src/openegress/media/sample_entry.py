"""Makes sample entries of an MP4 (ISO/IEC 14496-12 8.5.2), which FFmpeg writes for every codec."""

import io
from dataclasses import replace

import av

from openegress.core.codecs import VideoCodec
from openegress.core.errors import internal
from openegress.media import StreamFormat
from openegress.media.movie import box, full_box
from openegress.media.mp4 import children
from openegress.media.streams import add_stream

_PATH = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
_STSD_HEADER = 8
"""Size of stsd's version, flags and entry count."""
VISUAL_ENTRY_BYTES = 86
"""Size of a VisualSampleEntry before its boxes (ISO/IEC 14496-12 12.1.3)."""
_VP9_LEVELS = {36_864: 10, 73_728: 11, 122_880: 20, 245_760: 21, 552_960: 30, 983_040: 31, 2_228_224: 40}
"""Levels of VP9 by largest picture (VP9 Levels and Decoder Testing)."""


def sample_entry(form: StreamFormat) -> bytes:
    """Builds the box in stsd for a stream of that format.

    H265 is called hvc1, because Apple's players require it; FFmpeg's hvc1 would remove the parameter sets
    from the pictures. Here and for H.264 they are in both places: some readers look only at sample entries,
    and players that know a single entry look only in the media (ISO/IEC 14496-15 5.3 and 8.3 want one place).
    Raises FFmpegError if FFmpeg cannot describe the stream.
    """
    buffer = io.BytesIO()
    container = av.open(buffer, "w", format="mp4", container_options={"movflags": "empty_moov"})
    # FFmpeg describes VP9 only by its first packet, and cannot describe VP8, though it reads it.
    add_stream(container, replace(form, codec=VideoCodec.VP9) if form.codec is VideoCodec.VP8 else form)
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
    match form.codec:
        case VideoCodec.H265:
            return entry[:4] + b"hvc1" + entry[8:]
        case VideoCodec.VP8 | VideoCodec.VP9:
            kind = b"vp08" if form.codec is VideoCodec.VP8 else b"vp09"
            return box(kind, entry[8:VISUAL_ENTRY_BYTES], _vpcc(form))
        case _:
            return entry


def _vpcc(form: StreamFormat) -> bytes:
    """Builds the configuration of VP8 and VP9 (VP Codec ISO Media File Format Binding): profile 0, 8 bits,
    4:2:0, as browsers and our encoders produce. VP8 has no levels."""
    size = form.width * form.height
    level = next((level for most, level in _VP9_LEVELS.items() if size <= most), 50)
    if form.codec is VideoCodec.VP8:
        level = 0
    unspecified = 2
    return full_box(b"vpcC", 1, 0, bytes((0, level, 8 << 4 | 1 << 1, *[unspecified] * 3)), bytes(2))
