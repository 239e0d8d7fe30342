"""Makes streams of FFmpeg's muxers from the known properties of a format."""

from av.container import OutputContainer
from av.stream import Stream

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.errors import internal
from openegress.media import StreamFormat

_DECODER: dict[AudioCodec | VideoCodec, str] = {
    AudioCodec.PCMU: "pcm_mulaw",
    AudioCodec.PCMA: "pcm_alaw",
    AudioCodec.MP3: "mp3",
    VideoCodec.VP8: "vp8",
    VideoCodec.VP9: "vp9",
}
"""FFmpeg's names of the codecs that need no parameters outside the stream."""


def add_stream(container: OutputContainer, f: StreamFormat) -> Stream:
    """Adds a stream to `container` with the parameters of `f`."""
    if f.template is not None:
        # An AV1 template comes from a decoder whose name no encoder has, so PyAV must not look for one.
        return container.add_stream_from_template(f.template, opaque=f.codec is VideoCodec.AV1)
    if f.codec is AudioCodec.OPUS:
        # The encoder opens only for its OpusHead; no frame passes through it.
        return container.add_stream("libopus", rate=f.sample_rate or 48_000)
    name = _DECODER.get(f.codec)
    if name is None:
        raise internal(f"{f.codec.value} needs a template stream with its parameters")
    if f.kind is MediaKind.VIDEO:
        return container.add_mux_stream(name, rate=f.framerate or None, width=f.width, height=f.height)
    return container.add_mux_stream(name, rate=f.sample_rate)
