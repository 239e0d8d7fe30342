"""Makes the plan's parts for files, segments and images that a request asks for: names and storages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from livekit.protocol.egress import (
    EncodedFileType,
    ImageFileSuffix,
    ImageOutput,
    SegmentedFileProtocol,
    SegmentedFileSuffix,
)
from livekit.protocol.egress import FileOutput as WireFile
from livekit.protocol.models import ImageCodec

from openegress.core.codecs import DEFAULT_SEGMENT_S, Container
from openegress.core.errors import Code, EgressError, missing_or_invalid
from openegress.core.plan import FileOutput, SegmentOutput
from openegress.core.plan import ImageOutput as ImagePlan
from openegress.core.storages import StoragePlan
from openegress.request import destinations, name_length, naming
from openegress.request.destinations import AssumeRole, UploadRequest
from openegress.request.encoding import check_pixels, side
from openegress.request.name_length import Cut, limit_of
from openegress.request.naming import Distinct, SegmentNames
from openegress.request.requested import RequestedFile, RequestedImages, RequestedSegments

DEFAULT_IMAGE_INTERVAL_S = 10
MAX_SEGMENT_S = 43_200
"""Limit for a segment's length: half a day. A recovery considers a length of a day or more as damage
(output.hls.recover)."""
FILE_CONTAINERS: dict[int, Container] = {
    EncodedFileType.MP4: Container.MP4,
    EncodedFileType.OGG: Container.OGG,
    EncodedFileType.MP3: Container.MP3,
}

LONGEST_EXTENSION = f".{Container.WEBM.value}"
"""The longest extension of files whose container a track decides."""

MCAP = 4
"""Number in EncodedFileType."""


def is_mcap(file: WireFile) -> bool:
    """Whether a file is an MCAP, by its type, or by its name if no type is set."""
    return file.file_type == MCAP or (not file.file_type and file.filepath.lower().endswith(".mcap"))


@dataclass(frozen=True, slots=True)
class Naming:
    """The values of names, and the storage of outputs that name none."""

    identifier: str
    values: Mapping[str, str]
    storage: StoragePlan
    assume_role: AssumeRole = field(default_factory=AssumeRole)
    allow_local: bool = True
    deny_networks: tuple[str, ...] = ()
    retry_count: int = 0
    sized: tuple[int, int] = (0, 0)
    """Size of the encoded picture; zeros: none is encoded."""
    distinct: Distinct = Distinct.NONE
    egress_id: str = ""
    """The id that makes a name distinct."""

    def mark(self, template: str) -> str:
        """The suffix for the name that `template` makes."""
        match self.distinct:
            case Distinct.ALL:
                return self.egress_id
            case Distinct.UNNAMED if naming.is_own(template):
                return self.egress_id
            case _:
                return ""

    def choose(self, uploads: Sequence[UploadRequest]) -> StoragePlan:
        return destinations.choose(
            uploads,
            self.storage,
            allow_local=self.allow_local,
            assume_role=self.assume_role,
            deny_networks=self.deny_networks,
        )

    def check_retry(self, path: str) -> None:
        """Raises EgressError if a second attempt would overwrite what the first one stored."""
        if self.retry_count and path and not path.endswith("/") and "{retry}" not in path:
            raise EgressError(Code.FAILED_PRECONDITION, "output configuration does not support retry")


def file_output(requested: RequestedFile, container: Container | None, naming_: Naming) -> FileOutput:
    """Makes a file output. `container` is None if the codec of the track decides. Raises EgressError."""
    storage = naming_.choose(requested.uploads)
    naming_.check_retry(requested.file.filepath)
    extension = f".{container.value}" if container else ""
    template = requested.file.filepath

    def made(cut: Cut) -> str:
        identifier = cut.text(naming_.identifier.replace("/", "_"))
        return naming.file_path(
            template, identifier, cut.values(naming_.values), extension, naming_.mark(template)
        )

    path = name_length.fitted(
        made,
        lambda path: (naming.with_extension(path, extension or LONGEST_EXTENSION),),
        limit_of(storage),
        "filepath",
    )
    return FileOutput(
        filepath=destinations.path_in(storage, path, "filepath"),
        container=container,
        storage=storage,
        manifest=not requested.file.disable_manifest,
    )


def renamed(path: str, container: Container | None) -> tuple[str, ...]:
    """The notice about a path with the extension of another kind of file. If `container` is None, there is
    none yet."""
    if container is None or naming.known_extension(path) in ("", f".{container.value}"):
        return ()
    asked, extension = naming.known_extension(path), f".{container.value}"
    return (f"filepath ends in {asked}, and the file is {container.name}: its name ends in {extension}",)


def segment_container(requested: RequestedSegments) -> Container:
    match requested.segments.protocol:
        case SegmentedFileProtocol.DEFAULT_SEGMENTED_FILE_PROTOCOL | SegmentedFileProtocol.HLS_PROTOCOL:
            return Container.TS
        case SegmentedFileProtocol.HLS_FMP4_PROTOCOL:
            return Container.FMP4
        case _:
            raise missing_or_invalid("protocol")


def segment_seconds(requested: RequestedSegments) -> int:
    seconds = requested.segments.segment_duration or DEFAULT_SEGMENT_S
    if seconds > MAX_SEGMENT_S:
        raise missing_or_invalid(f"segment_duration ({seconds} s is above the longest, {MAX_SEGMENT_S})")
    return seconds


def segment_output(requested: RequestedSegments, naming_: Naming) -> SegmentOutput:
    """Makes a segmented output. Raises EgressError."""
    wire = requested.segments
    if wire.filename_suffix not in (SegmentedFileSuffix.INDEX, SegmentedFileSuffix.TIMESTAMP):
        raise missing_or_invalid("filename_suffix")
    storage = naming_.choose(requested.uploads)
    for path in (wire.filename_prefix, wire.playlist_name, wire.live_playlist_name):
        naming_.check_retry(path)
    by_timestamp = wire.filename_suffix == SegmentedFileSuffix.TIMESTAMP
    container = segment_container(requested)

    def made(cut: Cut) -> SegmentNames:
        return naming.segment_names(
            wire.filename_prefix,
            wire.playlist_name,
            wire.live_playlist_name,
            cut.text(naming_.identifier.replace("/", "_")),
            cut.values(naming_.values),
            naming_.mark(wire.playlist_name or wire.filename_prefix),
        )

    names = name_length.fitted(
        made,
        lambda names: naming.longest_of_segments(names, f".{container.value}", by_timestamp),
        limit_of(storage),
        "filename_prefix",
    )
    return SegmentOutput(
        directory=destinations.path_in(storage, names.directory, "filename_prefix"),
        prefix=names.prefix,
        playlist=names.playlist,
        live_playlist=names.live_playlist,
        segment_s=segment_seconds(requested),
        container=container,
        timestamp_suffix=by_timestamp,
        storage=storage,
        manifest=not wire.disable_manifest,
    )


IMAGE_SUFFIXES: dict[int, Literal["index", "timestamp", "none"]] = {
    ImageFileSuffix.IMAGE_SUFFIX_INDEX: "index",
    ImageFileSuffix.IMAGE_SUFFIX_TIMESTAMP: "timestamp",
    ImageFileSuffix.IMAGE_SUFFIX_NONE_OVERWRITE: "none",
}


def image_output(requested: RequestedImages, naming_: Naming) -> ImagePlan:
    """Makes an image output. Raises EgressError."""
    wire = requested.images
    suffix = IMAGE_SUFFIXES.get(wire.filename_suffix)
    if suffix is None:
        raise missing_or_invalid("filename_suffix")
    if wire.image_codec not in (ImageCodec.IC_DEFAULT, ImageCodec.IC_JPEG):
        raise missing_or_invalid("image_codec")
    storage = naming_.choose(requested.uploads)
    naming_.check_retry(wire.filename_prefix)

    def made(cut: Cut) -> tuple[str, str]:
        return naming.image_names(
            wire.filename_prefix,
            cut.text(naming_.identifier.replace("/", "_")),
            cut.values(naming_.values),
            naming_.mark(wire.filename_prefix),
        )

    directory, prefix = name_length.fitted(
        made,
        lambda names: naming.longest_of_images(*names, suffix),
        limit_of(storage),
        "filename_prefix",
    )
    width, height = _image_size(wire, naming_.sized)
    return ImagePlan(
        directory=destinations.path_in(storage, directory, "filename_prefix"),
        prefix=prefix,
        interval_s=wire.capture_interval or DEFAULT_IMAGE_INTERVAL_S,
        width=width,
        height=height,
        suffix=suffix,
        storage=storage,
        manifest=not wire.disable_manifest,
    )


def _image_size(wire: ImageOutput, sized: tuple[int, int]) -> tuple[int, int]:
    """The size of images. If one side is given, the other keeps the picture's shape. Raises EgressError for
    images that are too large."""
    width, height = side("width", wire.width), side("height", wire.height)
    if not (width or height):
        return sized
    width = width or _even(height * sized[0] / sized[1])
    height = height or _even(width * sized[1] / sized[0])
    check_pixels(width, height)
    return width, height


def _even(value: float) -> int:
    return max(2, round(value / 2) * 2)
