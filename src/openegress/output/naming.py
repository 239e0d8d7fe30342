"""Makes the final names of an output's objects in the storage, once the values of the room are known."""

from collections.abc import Mapping, Sequence

from openegress.core import plan
from openegress.core.codecs import (
    CONTAINER_AUDIO,
    CONTAINER_VIDEO,
    TRACK_CONTAINER,
    AudioCodec,
    Container,
    MediaKind,
    VideoCodec,
)
from openegress.core.errors import EgressError, invalid
from openegress.media import StreamFormat
from openegress.output.part_names import LONGEST_NUMBER, beside_parts
from openegress.request import naming, places
from openegress.request.name_length import Cut, fitted, limit_of, squeezed
from openegress.request.naming import SegmentNames
from openegress.request.outputs import LONGEST_EXTENSION

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


def file_name(output: plan.FileOutput, values: Mapping[str, str]) -> str:
    """Returns the path of a file, without its extension if the track chooses the container."""
    extension = f".{output.container.value}" if output.container else LONGEST_EXTENSION
    if output.split is not None:
        extension = LONGEST_NUMBER + extension

    limit = limit_of(output.storage)
    mark = values.get(naming.MARK, "")

    def made(cut: Cut) -> str:
        return places.filled_file(output, cut.values(values), mark).filepath

    try:
        return fitted(made, lambda path: (naming.with_extension(path, extension),), limit, "filepath")
    except EgressError:
        # These values were unknown when the request was checked: a name that is too long is cut now, not
        # refused.
        return squeezed(made(Cut()), limit, len(extension))


def sidecar_name(output: plan.FileOutput | plan.SegmentOutput, values: Mapping[str, str], ending: str) -> str:
    """Returns the path of a sidecar whose name ends in `ending`: beside the file or the playlist, and named
    after it. In a split file whose path says where the number goes, it is named after the first part."""
    if isinstance(output, plan.FileOutput):
        extension = f".{output.container.value}" if output.container else LONGEST_EXTENSION
        stem = beside_parts(output, naming.sidecar_stem(file_name(output, values), extension))
    else:
        names = segment_names(output, values)
        stem = names.directory + naming.sidecar_stem(names.playlist, naming.PLAYLIST_EXTENSION)
    return squeezed(stem, limit_of(output.storage), len(ending)) + ending


def segment_names(output: plan.SegmentOutput, values: Mapping[str, str]) -> SegmentNames:
    """Returns the paths of segments and playlists."""
    extension = f".{output.container.value}"

    def made(cut: Cut) -> SegmentNames:
        filled = places.filled_segments(output, cut.values(values), values.get(naming.MARK, ""))
        return SegmentNames(filled.directory, filled.prefix, filled.playlist, filled.live_playlist)

    limit = limit_of(output.storage)
    try:
        return fitted(
            made,
            lambda names: naming.longest_of_segments(names, extension, output.timestamp_suffix),
            limit,
            "filename_prefix",
        )
    except EgressError:
        whole = made(Cut())
        ending_bytes = len(naming.segment_file("", 0, 0, True, extension))
        return SegmentNames(
            directory=squeezed(whole.directory, limit, 0),
            prefix=squeezed(whole.prefix, limit, ending_bytes),
            playlist=squeezed(whole.playlist.removesuffix(naming.PLAYLIST_EXTENSION), limit, ending_bytes)
            + naming.PLAYLIST_EXTENSION,
            live_playlist=squeezed(
                whole.live_playlist.removesuffix(naming.PLAYLIST_EXTENSION), limit, ending_bytes
            )
            + naming.PLAYLIST_EXTENSION
            if whole.live_playlist
            else "",
        )


def image_names(output: plan.ImageOutput, values: Mapping[str, str]) -> tuple[str, str]:
    """Returns (directory, prefix) of pictures."""

    def made(cut: Cut) -> tuple[str, str]:
        filled = places.filled_images(output, cut.values(values), values.get(naming.MARK, ""))
        return filled.directory, filled.prefix

    limit = limit_of(output.storage)
    try:
        return fitted(
            made,
            lambda names: naming.longest_of_images(*names, output.suffix),
            limit,
            "filename_prefix",
        )
    except EgressError:
        directory, prefix = made(Cut())
        ending_bytes = len(naming.image_file("", 0, 0, "timestamp"))
        return squeezed(directory, limit, 0), squeezed(prefix, limit, ending_bytes)
