"""Applies the option video_codec to the codec of pictures. Pure."""

from dataclasses import replace

from openegress.core.codecs import AskedCodec, Container
from openegress.core.errors import invalid
from openegress.request import containers
from openegress.request.encoding import Wish
from openegress.request.options import Options
from openegress.request.requested import RequestedOutputs

MIN_AV1_SIDE, MAX_AV1_HEIGHT = 64, 8704
"""Limits for pictures that SVT-AV1 encodes, and encodes in time."""


def chosen(wish: Wish, every: Options, asked: Options, wanted: RequestedOutputs, *, has_video: bool) -> Wish:
    """`wish` with the option's codec. `every` includes the options of the configuration and the room; `asked`
    has only the request's own. If only the configuration or the room names a codec, a request that names
    another one gets that, and outputs that do not take it get H.264. Raises EgressError if the request itself
    asks for an impossible one."""
    named = every.video_codec
    if named is None or not has_video:
        return wish
    is_asked = asked.video_codec is not None
    if wish.video_codec is not None:
        if is_asked and wish.video_codec is not named.codec:
            raise invalid(
                f"video_codec={named.value}: advanced.video_codec asks for {wish.video_codec.value};"
                " leave one of the two out"
            )
        return wish
    why = _refusal(named, wanted, wish)
    if why and is_asked:
        raise invalid(f"video_codec={named.value}: {why}")
    if why:
        return wish
    return replace(wish, video_codec=named.codec, asked=wish.asked or is_asked)


def _refusal(named: AskedCodec, wanted: RequestedOutputs, wish: Wish) -> str:
    """The reason why an output does not take the codec; "": all of them do."""
    if named is AskedCodec.H264:
        return ""
    if wanted.stream is not None:
        return "streams are H.264; leave it out, or stream in a separate egress"
    if wanted.segments is not None and named is AskedCodec.VP9:
        return "HLS players do not support VP9; leave it out, or ask for hevc or av1"
    if Container.TS in containers.of_others(wanted):
        return "in HLS it needs segments of fMP4; set protocol to HLS_FMP4_PROTOCOL"
    if named is AskedCodec.AV1 and wish.height > MAX_AV1_HEIGHT:
        return f"pictures are at most {MAX_AV1_HEIGHT} high"
    if named is AskedCodec.AV1 and min(wish.width, wish.height) < MIN_AV1_SIDE:
        return f"the sides of a picture are {MIN_AV1_SIDE} at least"
    is_webm = wanted.file is not None and containers.is_named_webm(wanted.file)
    if is_webm and named is AskedCodec.HEVC:
        return "WebM cannot hold HEVC; use a path that ends in .mp4"
    return ""
