"""The layout `tracks`: every track of a room in one file, each as it is. What such a request may ask for."""

import posixpath

from livekit.protocol.egress import EncodedFileType, RoomCompositeEgressRequest, TemplateSource

from openegress.core.codecs import Container
from openegress.core.errors import Code, EgressError, Fault, invalid, missing_or_invalid, unimplemented
from openegress.request import layouts
from openegress.request.encoding import Wish
from openegress.request.naming import KNOWN_EXTENSIONS
from openegress.request.outputs import MCAP
from openegress.request.requested import FileWish, RequestedOutputs

_PLANNED = (".mp4",)
_OURS = {".mkv": Container.MKV, ".mka": Container.MKA, ".mcap": Container.MCAP}
_OF_SOUND = (EncodedFileType.OGG, EncodedFileType.MP3)
_NAME_IT = "name the file .mkv or .mcap, or .mka for sound alone"


def file_of(wanted: RequestedOutputs) -> FileWish:
    """The only output. Raises EgressError, INVALID_ARGUMENT, where the request has others."""
    others = [
        name
        for name, there in (
            ("segments", wanted.segments),
            ("streams", wanted.stream or wanted.websockets),
            ("images", wanted.images),
        )
        if there
    ]
    if others or wanted.file is None:
        raise invalid(
            f"layout {layouts.TRACKS} records to one file and takes no {' nor '.join(others)}: they need a "
            "picture that is composed; start another egress for them, with another layout"
        )
    return wanted.file


def container_of(wish: FileWish, *, audio_only: bool, video_only: bool) -> Container:
    """By the file's type or name; without an extension it is Matroska. Raises EgressError: UNIMPLEMENTED for
    MP4, INVALID_ARGUMENT for files that hold one track of a kind at most."""
    file_type = getattr(wish.file, "file_type", 0)
    if file_type == EncodedFileType.MP4:
        raise _planned("file_type MP4")
    if file_type == MCAP:
        return Container.MCAP
    if file_type in _OF_SOUND:
        raise invalid(f"file_type {EncodedFileType.Name(file_type)} holds one track: {_NAME_IT}")
    if file_type:
        raise missing_or_invalid("file_type")
    extension = posixpath.splitext(wish.file.filepath)[1].lower()
    if extension in _PLANNED:
        raise _planned(extension)
    if extension in KNOWN_EXTENSIONS:
        raise invalid(f"filepath ends in {extension}, which cannot hold all tracks of a room: {_NAME_IT}")
    if extension == ".mka" and video_only:
        raise invalid("filepath ends in .mka, which holds sound alone, and video_only is set: name it .mkv")
    return _OURS.get(extension, Container.MKA if audio_only else Container.MKV)


def notices(
    request: RoomCompositeEgressRequest | TemplateSource, wish: Wish, container: Container
) -> tuple[str, ...]:
    """What of the request has no effect."""
    found = []
    if wish.asked and not wish.passthrough:
        found.append(f"preset and advanced have no effect: layout {layouts.TRACKS} stores tracks as they are")
    if isinstance(request, RoomCompositeEgressRequest) and request.audio_mixing:
        found.append(f"audio_mixing has no effect: layout {layouts.TRACKS} keeps every voice for itself")
    if container is Container.MKA and not request.audio_only:
        found.append("a file named .mka holds sound alone: no picture is recorded")
    return tuple(found)


def _planned(what: str) -> EgressError:
    text = f"{unimplemented(f'{what} with layout {layouts.TRACKS}').message}: {_NAME_IT}"
    return EgressError(Code.UNIMPLEMENTED, text, fault=Fault.SERVICE)
