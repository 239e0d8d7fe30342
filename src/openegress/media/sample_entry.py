"""How a stream is described in an MP4 (ISO/IEC 14496-12 8.5.2): FFmpeg knows the boxes of every codec."""

import io

import av

from openegress.core.codecs import VideoCodec
from openegress.core.errors import internal
from openegress.media import StreamFormat
from openegress.media.movie import box, full_box
from openegress.media.mp4 import children
from openegress.media.streams import add_stream

_PATH = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
_STSD_HEADER = 8
"""Version, flags and the count of entries."""
_VISUAL_END = 86
"""Of what each sample entry of pictures begins with (ISO/IEC 14496-12 12.1.3)."""
_VP9_LEVELS = (
    *((10, 36_864), (11, 73_728), (20, 122_880), (21, 245_760), (30, 552_960)),
    *((31, 983_040), (40, 2_228_224), (50, 8_912_896), (60, 35_651_584)),
)
"""(ten times the level, its largest picture); each has room for thirty such pictures a second."""


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
    if form.codec is VideoCodec.VP9 and form.template is None:
        # FFmpeg looks into the first packet for what the box has to say, and leaves it empty without one.
        return box(b"vp09", entry[8:_VISUAL_END], _vp9_configuration(form.width * form.height))
    return entry


def _vp9_configuration(area: int) -> bytes:
    """VPCodecConfigurationBox (VP Codec ISO Media File Format Binding 1.0) of what browsers send: profile 0,
    8 bits, 4:2:0 with the samples of a frame's colours in place, limited range, colours that nobody told."""
    level = next((level for level, most in _VP9_LEVELS if area <= most), _VP9_LEVELS[-1][0])
    return full_box(b"vpcC", 1, 0, bytes((0, level, 8 << 4 | 1 << 1, 2, 2, 2)) + bytes(2))
