"""Chooses containers and content types for what outputs store."""

from collections.abc import Sequence

from openegress.core.codecs import (
    CONTAINER_AUDIO,
    CONTAINER_VIDEO,
    TRACK_CONTAINER,
    AudioCodec,
    Container,
    MediaKind,
    VideoCodec,
)
from openegress.core.errors import invalid
from openegress.media import StreamFormat

JSON_TYPE = "application/json"
PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
IMAGE_TYPE = "image/jpeg"

_CONTENT_TYPE: dict[Container, tuple[str, str]] = {
    Container.MP4: ("video/mp4", "audio/mp4"),
    Container.FMP4: ("video/iso.segment", "audio/mp4"),
    Container.OGG: ("audio/ogg", "audio/ogg"),
    Container.MP3: ("audio/mpeg", "audio/mpeg"),
    Container.WEBM: ("video/webm", "audio/webm"),
    # Named for what it may hold: its tracks are unknown when it begins.
    Container.MKV: ("video/x-matroska", "video/x-matroska"),
    Container.MKA: ("audio/x-matroska", "audio/x-matroska"),
    Container.MCAP: ("application/x-mcap", "application/x-mcap"),
    Container.TS: ("video/mp2t", "video/mp2t"),
    Container.FLV: ("video/x-flv", "video/x-flv"),
}
"""Content types with video, and without."""


def content_type(container: Container, formats: Sequence[StreamFormat]) -> str:
    """Returns the content type. Without formats, a file's tracks come and go, and its type is that of all it
    may hold."""
    with_video = not formats or any(f.kind is MediaKind.VIDEO for f in formats)
    return content_type_of(container, with_video=with_video)


def content_type_of(container: Container, *, with_video: bool) -> str:
    return _CONTENT_TYPE[container][0 if with_video else 1]


def container_for(formats: Sequence[StreamFormat]) -> Container:
    """Returns the container for encoded tracks that are stored unchanged. Raises EgressError when no
    container takes them together."""
    codecs: list[AudioCodec | VideoCodec] = [f.codec for f in formats]
    if len(codecs) == 1 and (container := TRACK_CONTAINER.get(codecs[0])) is not None:
        return container
    for container in (Container.MP4, Container.WEBM):
        if all(codec in (*CONTAINER_AUDIO[container], *CONTAINER_VIDEO[container]) for codec in codecs):
            return container
    names = " and ".join(codec.value for codec in codecs)
    raise invalid(f"no container takes {names} without transcoding; give an encoding preset")
