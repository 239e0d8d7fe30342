"""The outputs of a request, v1 and v2 alike, as parts of the plan: names, storages, targets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from livekit.protocol.egress import (
    DirectFileOutput,
    EncodedFileOutput,
    EncodedFileType,
    ImageFileSuffix,
    ImageOutput,
    ParticipantEgressRequest,
    RoomCompositeEgressRequest,
    SegmentedFileOutput,
    SegmentedFileProtocol,
    SegmentedFileSuffix,
    StartEgressRequest,
    StreamProtocol,
    TrackCompositeEgressRequest,
    WebEgressRequest,
)
from livekit.protocol.egress import FileOutput as WireFile
from livekit.protocol.egress import StreamOutput as WireStream
from livekit.protocol.models import ImageCodec

from openegress.core import destinations, naming, stream_urls
from openegress.core.codecs import DEFAULT_SEGMENT_S, Container
from openegress.core.destinations import AssumeRole, Upload
from openegress.core.encoding import side
from openegress.core.errors import Code, EgressError, missing_or_invalid
from openegress.core.plan import (
    FileOutput,
    SegmentOutput,
    StoragePlan,
    StreamOutput,
    StreamTarget,
    WebsocketOutput,
)
from openegress.core.plan import (
    ImageOutput as ImagePlan,
)
from openegress.core.stream_urls import StreamKind

Encoded = (
    RoomCompositeEgressRequest | WebEgressRequest | ParticipantEgressRequest | TrackCompositeEgressRequest
)

DEFAULT_IMAGE_INTERVAL_S = 10
MAX_SEGMENT_S = 600

FILE_CONTAINERS: dict[int, Container] = {
    EncodedFileType.MP4: Container.MP4,
    EncodedFileType.OGG: Container.OGG,
    EncodedFileType.MP3: Container.MP3,
}


@dataclass(frozen=True, slots=True)
class FileWish:
    file: EncodedFileOutput | DirectFileOutput | WireFile
    uploads: tuple[Upload, ...]


@dataclass(frozen=True, slots=True)
class SegmentWish:
    segments: SegmentedFileOutput
    uploads: tuple[Upload, ...]


@dataclass(frozen=True, slots=True)
class ImageWish:
    images: ImageOutput
    uploads: tuple[Upload, ...]


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a request asks for, at most one file, stream and segmented output, and images."""

    file: FileWish | None = None
    stream: StreamOutput | None = None
    websockets: tuple[WebsocketOutput, ...] = ()
    segments: SegmentWish | None = None
    images: tuple[ImageWish, ...] = ()

    @property
    def only_images(self) -> bool:
        return bool(self.images) and not (self.file or self.stream or self.segments or self.websockets)

    @property
    def only_websockets(self) -> bool:
        return bool(self.websockets) and not (self.file or self.stream or self.segments or self.images)


# --- reading requests


def of_encoded(request: Encoded) -> Outputs:
    """v1: of each kind the list, else the deprecated single field. Raises EgressError invalid_argument."""
    legacy: Literal["file", "stream", "segments"] | None = None
    if not isinstance(request, ParticipantEgressRequest):
        legacy = request.WhichOneof("output")
    files = list(request.file_outputs)
    streams = list(request.stream_outputs)
    segments = list(request.segment_outputs)
    if not isinstance(request, ParticipantEgressRequest):
        if not files and legacy == "file":
            files = [request.file]
        if not streams and legacy == "stream":
            streams = [request.stream]
        if not segments and legacy == "segments":
            segments = [request.segments]
    _at_most_one(len(files), "multiple file outputs")
    _at_most_one(len(streams), "multiple stream outputs")
    _at_most_one(len(segments), "multiple segmented file outputs")
    others = bool(files or segments or request.image_outputs)
    found = Outputs(
        file=FileWish(files[0], (files[0],)) if files else None,
        stream=_stream(streams[0], others) if streams else None,
        segments=SegmentWish(segments[0], (segments[0],)) if segments else None,
        images=tuple(ImageWish(images, (images,)) for images in request.image_outputs),
    )
    if found == Outputs():
        raise missing_or_invalid("output")
    return found


def of_v2(request: StartEgressRequest) -> Outputs:
    """v2: storages are the output's, then the request's. Raises EgressError invalid_argument."""
    if not request.outputs:
        raise missing_or_invalid("output")
    files: list[FileWish] = []
    streams: list[WireStream] = []
    segments: list[SegmentWish] = []
    images: list[ImageWish] = []
    for output in request.outputs:
        own: tuple[Upload, ...] = (output.storage,) if output.HasField("storage") else ()
        shared: tuple[Upload, ...] = (request.storage,) if request.HasField("storage") else ()
        match output.WhichOneof("config"):
            case "file":
                files.append(FileWish(output.file, own + shared))
            case "stream":
                streams.append(output.stream)
            case "segments":
                segments.append(SegmentWish(output.segments, (*own, output.segments, *shared)))
            case "images":
                images.append(ImageWish(output.images, (*own, output.images, *shared)))
            case None:
                raise missing_or_invalid("output config")
    _at_most_one(len(files), "multiple file outputs")
    _at_most_one(len(streams), "multiple stream outputs")
    _at_most_one(len(segments), "multiple segmented file outputs")
    stream: StreamOutput | None = None
    websockets: tuple[WebsocketOutput, ...] = ()
    if streams:
        if _stream_kind(streams[0]) is StreamKind.WEBSOCKET:
            websockets = _websockets(streams[0])
        else:
            stream = _stream(streams[0], bool(files or segments or images))
    return Outputs(
        file=files[0] if files else None,
        stream=stream,
        websockets=websockets,
        segments=segments[0] if segments else None,
        images=tuple(images),
    )


def _at_most_one(count: int, field: str) -> None:
    if count > 1:
        raise missing_or_invalid(field)


# --- streams


def _stream_urls(stream: WireStream) -> list[tuple[str, str]]:
    """(url, id)."""
    return [(url, "") for url in stream.urls] + [(each.url, each.id) for each in stream.destinations]


def _stream_kind(stream: WireStream) -> StreamKind:
    match stream.protocol:
        case StreamProtocol.DEFAULT_PROTOCOL:
            urls = _stream_urls(stream)
            if not urls:
                raise missing_or_invalid("stream protocol")
            return stream_urls.kind_of(urls[0][0])
        case StreamProtocol.RTMP:
            return StreamKind.RTMP
        case StreamProtocol.SRT:
            return StreamKind.SRT
        case StreamProtocol.WEBSOCKET:
            return StreamKind.WEBSOCKET
        case _:
            raise missing_or_invalid("stream protocol")


def _stream(stream: WireStream, others: bool) -> StreamOutput:
    """`others`: the request has outputs beside this one, so that URLs may follow with UpdateStream."""
    kind = _stream_kind(stream)
    if kind is StreamKind.WEBSOCKET:
        raise missing_or_invalid("stream protocol")
    urls = _stream_urls(stream)
    if not urls and not others:
        raise missing_or_invalid("stream url")
    targets: dict[str, StreamTarget] = {}
    for url, stream_id in urls:
        target = stream_urls.target(url, kind, stream_id)
        targets.setdefault(target.url, target)
    return StreamOutput(
        protocol="rtmp" if kind is StreamKind.RTMP else "srt", targets=tuple(targets.values())
    )


def _websockets(stream: WireStream) -> tuple[WebsocketOutput, ...]:
    urls = _stream_urls(stream)
    if not urls:
        raise missing_or_invalid("stream url")
    return tuple(stream_urls.websocket(url) for url, _ in urls)


# --- files, segments, images


@dataclass(frozen=True, slots=True)
class Naming:
    """What names are made of, and where the server puts what names no storage."""

    identifier: str
    values: Mapping[str, str]
    storage: StoragePlan
    assume_role: AssumeRole = field(default_factory=AssumeRole)
    allow_local: bool = True
    retry_count: int = 0
    sized: tuple[int, int] = (0, 0)
    """Picture of sources that have one of their own; zeros: the track tells."""

    def choose(self, uploads: Sequence[Upload]) -> StoragePlan:
        return destinations.choose(
            uploads, self.storage, allow_local=self.allow_local, assume_role=self.assume_role
        )

    def check_retry(self, path: str) -> None:
        """A second attempt must not overwrite what the first one stored."""
        if self.retry_count and path and not path.endswith("/") and "{retry}" not in path:
            raise EgressError(Code.FAILED_PRECONDITION, "output configuration does not support retry")


def file_output(wish: FileWish, container: Container | None, naming_: Naming) -> FileOutput:
    """`container` None: a track's, whose codec decides. Raises EgressError."""
    storage = naming_.choose(wish.uploads)
    naming_.check_retry(wish.file.filepath)
    extension = f".{container.value}" if container else ""
    path = naming.file_path(wish.file.filepath, naming_.identifier, naming_.values, extension)
    return FileOutput(
        filepath=destinations.path_in(storage, path, "filepath"),
        container=container,
        storage=storage,
        manifest=not wish.file.disable_manifest,
    )


def segment_container(wish: SegmentWish) -> Container:
    match wish.segments.protocol:
        case SegmentedFileProtocol.DEFAULT_SEGMENTED_FILE_PROTOCOL | SegmentedFileProtocol.HLS_PROTOCOL:
            return Container.TS
        case SegmentedFileProtocol.HLS_FMP4_PROTOCOL:
            return Container.FMP4
        case _:
            raise missing_or_invalid("protocol")


def segment_seconds(wish: SegmentWish) -> int:
    seconds = wish.segments.segment_duration or DEFAULT_SEGMENT_S
    if seconds > MAX_SEGMENT_S:
        raise missing_or_invalid(f"segment_duration ({seconds} s is above the longest, {MAX_SEGMENT_S})")
    return seconds


def segment_output(wish: SegmentWish, naming_: Naming) -> SegmentOutput:
    """Raises EgressError."""
    wire = wish.segments
    if wire.filename_suffix not in (SegmentedFileSuffix.INDEX, SegmentedFileSuffix.TIMESTAMP):
        raise missing_or_invalid("filename_suffix")
    storage = naming_.choose(wish.uploads)
    for path in (wire.filename_prefix, wire.playlist_name, wire.live_playlist_name):
        naming_.check_retry(path)
    names = naming.segment_names(
        wire.filename_prefix, wire.playlist_name, wire.live_playlist_name, naming_.identifier, naming_.values
    )
    return SegmentOutput(
        directory=destinations.path_in(storage, names.directory, "filename_prefix"),
        prefix=names.prefix,
        playlist=names.playlist,
        live_playlist=names.live_playlist,
        segment_s=segment_seconds(wish),
        container=segment_container(wish),
        timestamp_suffix=wire.filename_suffix == SegmentedFileSuffix.TIMESTAMP,
        storage=storage,
        manifest=not wire.disable_manifest,
    )


IMAGE_SUFFIXES: dict[int, Literal["index", "timestamp", "none"]] = {
    ImageFileSuffix.IMAGE_SUFFIX_INDEX: "index",
    ImageFileSuffix.IMAGE_SUFFIX_TIMESTAMP: "timestamp",
    ImageFileSuffix.IMAGE_SUFFIX_NONE_OVERWRITE: "none",
}


def image_output(wish: ImageWish, naming_: Naming) -> ImagePlan:
    """Raises EgressError."""
    wire = wish.images
    suffix = IMAGE_SUFFIXES.get(wire.filename_suffix)
    if suffix is None:
        raise missing_or_invalid("filename_suffix")
    if wire.image_codec not in (ImageCodec.IC_DEFAULT, ImageCodec.IC_JPEG):
        raise missing_or_invalid("image_codec")
    storage = naming_.choose(wish.uploads)
    naming_.check_retry(wire.filename_prefix)
    directory, prefix = naming.image_names(wire.filename_prefix, naming_.identifier, naming_.values)
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
    """One side given: the other keeps the picture's shape, where that is known."""
    width, height = side("width", wire.width), side("height", wire.height)
    if sized == (0, 0) or (width and height):
        return width, height
    if width:
        return width, _even(width * sized[1] / sized[0])
    if height:
        return _even(height * sized[0] / sized[1]), height
    return sized


def _even(value: float) -> int:
    return max(2, round(value / 2) * 2)
