"""Decides what a request for several tracks of a room in one file, each as it is, may ask for: the layout
`tracks`, or several tracks of a v2 media source."""

import posixpath
from dataclasses import dataclass

import msgspec
from livekit.protocol.egress import EncodedFileType
from livekit.protocol.egress import FileOutput as WireFile

from openegress.core import plan as parts
from openegress.core.codecs import Container
from openegress.core.errors import invalid, missing_or_invalid
from openegress.core.text import shown
from openegress.request import outputs
from openegress.request.encoding import Wish
from openegress.request.naming import KNOWN_EXTENSIONS
from openegress.request.outputs import MCAP
from openegress.request.requested import RequestedFile, RequestedOutputs

_OURS = {
    ".mkv": Container.MKV,
    ".mka": Container.MKA,
    ".mcap": Container.MCAP,
    ".mp4": Container.MP4,
}
_BESIDE = {ending: container for ending, container in _OURS.items() if container is not Container.MKA}
"""Containers by extension of files beside a composite, which hold pictures too."""
_AUDIO_FILE_TYPES = (EncodedFileType.OGG, EncodedFileType.MP3)
_NAMING_HINT = "name the file .mkv, .mp4 or .mcap, or .mka for sound alone"


@dataclass(frozen=True, slots=True)
class RecordedMedia:
    """Whether the request asks for sound and for pictures."""

    audio: bool
    video: bool


def file_of(wanted: RequestedOutputs, what: str) -> RequestedFile:
    """The file, which must be the only output. Raises EgressError, INVALID_ARGUMENT, if the request has
    others. `what`: how it asks for tracks."""
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
            f"{what} records to one file and takes no {' nor '.join(others)}: they need a "
            f"picture that is composed; start another egress for them ({_NAMING_HINT} for the tracks)"
        )
    return wanted.file


def container_of(requested: RequestedFile, has: RecordedMedia) -> Container:
    """The container, which the file's type or name decides; without an extension it is Matroska. Raises
    EgressError, INVALID_ARGUMENT, for containers that hold only one track of a kind."""
    file_type = getattr(requested.file, "file_type", 0)
    if file_type == EncodedFileType.MP4:
        return Container.MP4
    if file_type == MCAP:
        return Container.MCAP
    if file_type in _AUDIO_FILE_TYPES:
        raise invalid(f"file_type {EncodedFileType.Name(file_type)} holds one track: {_NAMING_HINT}")
    if file_type:
        raise missing_or_invalid("file_type")
    extension = posixpath.splitext(requested.file.filepath)[1].lower()
    if extension not in _OURS and extension in KNOWN_EXTENSIONS:
        raise invalid(f"filepath ends in {extension}, which cannot hold all tracks of a room: {_NAMING_HINT}")
    if extension == ".mka" and not has.audio:
        raise invalid(
            "filepath ends in .mka, which holds sound alone, and no sound is asked for: name it .mkv"
        )
    return _OURS.get(extension, Container.MKV if has.video else Container.MKA)


def of_sound(source: parts.TracksSource) -> parts.TracksSource:
    """`source` without pictures."""
    chosen = source.chosen
    if chosen is not None:
        chosen = msgspec.structs.replace(chosen, video=None, videos=())
    return msgspec.structs.replace(source, video=False, chosen=chosen)


def with_file(
    found: tuple[parts.Output, ...], path: str, wanted: RequestedOutputs, names: outputs.Naming
) -> tuple[parts.Output, ...]:
    """`found` with a file of tracks at `path` ("": none), in the same storage as the outputs beside it.
    Raises EgressError, INVALID_ARGUMENT, for a path that no such file may have."""
    if not path:
        return found
    container = _BESIDE.get(posixpath.splitext(path)[1].lower())
    if container is None:
        raise invalid(f'tracks_file: "{shown(path, 64)}" has to end in {", ".join(_BESIDE)}')
    stored = [each.uploads for each in (wanted.file, wanted.segments, *wanted.images) if each is not None]
    requested = RequestedFile(WireFile(filepath=path), stored[0] if stored else ())
    file = outputs.file_output(requested, container, names)
    tracks = parts.TracksFile(file.filepath, container, file.storage, _has_manifest(found))
    taken = [each.filepath for each in found if isinstance(each, parts.FileOutput)]
    if tracks.filepath in taken:
        raise invalid(f'tracks_file: "{shown(path, 64)}" is the name of the recording beside it')
    return (*found, tracks) if taken else (tracks, *found)


def _has_manifest(found: tuple[parts.Output, ...]) -> bool:
    """Whether there is a manifest, as for the other outputs."""
    stored = [o for o in found if isinstance(o, parts.FileOutput | parts.SegmentOutput | parts.ImageOutput)]
    return not stored or any(each.manifest for each in stored)


def notices(has: RecordedMedia, wish: Wish, container: Container, what: str) -> tuple[str, ...]:
    """Notices about parts of the request that have no effect."""
    found = []
    if wish.asked and not wish.passthrough:
        found.append(f"preset and advanced have no effect: {what} stores tracks as they are")
    if container is Container.MKA and has.video:
        found.append("a file named .mka holds sound alone: no picture is recorded")
    if container is Container.MP4:
        found.append("MP4 holds no G.711, and no browser plays VP8 from it: name the file .mkv for these")
    return tuple(found)
