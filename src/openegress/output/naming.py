"""What an output's objects are called in the storage, once the room has told all it can."""

from collections.abc import Sequence

from openegress.core.codecs import (
    AUDIO_IN,
    TRACK_CONTAINER,
    VIDEO_IN,
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
    Container.TS: ("video/mp2t", "video/mp2t"),
    Container.FLV: ("video/x-flv", "video/x-flv"),
}
"""With video, and without."""


def content_type(container: Container, formats: Sequence[StreamFormat]) -> str:
    return content_type_of(container, with_video=any(f.kind is MediaKind.VIDEO for f in formats))


def content_type_of(container: Container, *, with_video: bool) -> str:
    return _CONTENT_TYPE[container][0 if with_video else 1]


def container_for(formats: Sequence[StreamFormat]) -> Container:
    """Where encoded tracks go as they are. Raises EgressError when no container takes them together."""
    codecs: list[AudioCodec | VideoCodec] = [f.codec for f in formats]
    if len(codecs) == 1 and (container := TRACK_CONTAINER.get(codecs[0])) is not None:
        return container
    for container in (Container.MP4, Container.WEBM):
        if all(codec in (*AUDIO_IN[container], *VIDEO_IN[container]) for codec in codecs):
            return container
    names = " and ".join(codec.value for codec in codecs)
    raise invalid(f"no container takes {names} without transcoding; give an encoding preset")
