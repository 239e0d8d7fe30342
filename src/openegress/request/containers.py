"""Chooses the containers of encoded outputs. Pure."""

from openegress.core.codecs import CONTAINER_VIDEO, Container, VideoCodec
from openegress.core.errors import missing_or_invalid, unimplemented
from openegress.request import outputs
from openegress.request.requested import RequestedFile, RequestedOutputs


def of_file(requested: RequestedFile, codec: VideoCodec | None, *, fits_webm: bool) -> Container | None:
    """The file type that the request chooses; None: it chooses none, and the codecs decide. `codec` is the
    requested one. `fits_webm`: nothing else in the request rules out WebM."""
    asked = getattr(requested.file, "file_type", 0)
    if asked == outputs.MCAP:
        raise unimplemented("file_type MCAP of anything but layout tracks and media of StartEgress")
    if asked:
        container = outputs.FILE_CONTAINERS.get(asked)
        if container is None:
            raise missing_or_invalid("file_type")
        return container
    path = requested.file.filepath.lower()
    if is_named_webm(requested) and fits_webm and codec in (None, *CONTAINER_VIDEO[Container.WEBM]):
        return Container.WEBM
    # A codec changes the container even if the file is named otherwise, as upstream does. VP8 and VP9 do so
    # only if the name leaves it open.
    if path.endswith(".mp4") and codec in (VideoCodec.VP8, VideoCodec.VP9):
        return Container.MP4
    return None


def is_named_webm(requested: RequestedFile) -> bool:
    """Whether the path asks for WebM, which the API has no name for."""
    return not getattr(requested.file, "file_type", 0) and requested.file.filepath.lower().endswith(".webm")


def of_others(wanted: RequestedOutputs) -> list[Container]:
    found: list[Container] = []
    if wanted.segments:
        found.append(outputs.segment_container(wanted.segments))
    if wanted.stream:
        found.append(Container.FLV if wanted.stream.protocol == "rtmp" else Container.TS)
    return found
