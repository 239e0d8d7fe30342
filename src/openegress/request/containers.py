"""What a request says of the containers that its encoded outputs go into. Pure."""

from openegress.core.codecs import VIDEO_IN, Container, VideoCodec
from openegress.core.errors import missing_or_invalid, unimplemented
from openegress.request import outputs
from openegress.request.requested import FileWish, RequestedOutputs


def of_file(wish: FileWish, codec: VideoCodec | None, *, fits_webm: bool) -> Container | None:
    """What the request says of its file's type; None: nothing, and codecs decide. `codec` is the one that is
    asked for; `fits_webm`: nothing else of the request keeps it from being a WebM."""
    asked = getattr(wish.file, "file_type", 0)
    if asked == outputs.MCAP:
        raise unimplemented("file_type MCAP of anything but layout tracks and media of StartEgress")
    if asked:
        container = outputs.FILE_CONTAINERS.get(asked)
        if container is None:
            raise missing_or_invalid("file_type")
        return container
    path = wish.file.filepath.lower()
    if is_named_webm(wish) and fits_webm and codec in (None, *VIDEO_IN[Container.WEBM]):
        return Container.WEBM
    # A codec moves a file that is named otherwise, as ever; VP8 and VP9 only one whose name leaves that open.
    if path.endswith(".mp4") and codec in (VideoCodec.VP8, VideoCodec.VP9):
        return Container.MP4
    return None


def is_named_webm(wish: FileWish) -> bool:
    """The API has no name for WebM: a path may ask for it."""
    return not getattr(wish.file, "file_type", 0) and wish.file.filepath.lower().endswith(".webm")


def of_others(wanted: RequestedOutputs) -> list[Container]:
    found: list[Container] = []
    if wanted.segments:
        found.append(outputs.segment_container(wanted.segments))
    if wanted.stream:
        found.append(Container.FLV if wanted.stream.protocol == "rtmp" else Container.TS)
    return found
