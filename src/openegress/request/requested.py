"""Finds which outputs a request asks for, in v1 and v2."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar

from livekit.protocol.egress import (
    DirectFileOutput,
    EncodedFileOutput,
    ImageOutput,
    Output,
    ParticipantEgressRequest,
    RoomCompositeEgressRequest,
    SegmentedFileOutput,
    StartEgressRequest,
    StreamProtocol,
    TrackCompositeEgressRequest,
    WebEgressRequest,
)
from livekit.protocol.egress import FileOutput as WireFile
from livekit.protocol.egress import StreamOutput as WireStream

from openegress.core.errors import missing_or_invalid
from openegress.core.plan import StreamOutput, StreamTarget, WebsocketOutput
from openegress.request import stream_urls
from openegress.request.destinations import UploadRequest
from openegress.request.stream_urls import StreamKind

Live = TypeVar("Live", StreamTarget, WebsocketOutput)
Encoded = (
    RoomCompositeEgressRequest | WebEgressRequest | ParticipantEgressRequest | TrackCompositeEgressRequest
)

MAX_IMAGE_OUTPUTS = 20
"""Limit for outputs of images: each has its encoder, queue and uploader, and is in every EgressInfo and
webhook."""


@dataclass(frozen=True, slots=True)
class RequestedFile:
    file: EncodedFileOutput | DirectFileOutput | WireFile
    uploads: tuple[UploadRequest, ...]


@dataclass(frozen=True, slots=True)
class RequestedSegments:
    segments: SegmentedFileOutput
    uploads: tuple[UploadRequest, ...]


@dataclass(frozen=True, slots=True)
class RequestedImages:
    images: ImageOutput
    uploads: tuple[UploadRequest, ...]


@dataclass(frozen=True, slots=True)
class RequestedOutputs:
    """The outputs of a request: at most one file, stream and segmented output, and any number of images."""

    file: RequestedFile | None = None
    stream: StreamOutput | None = None
    websockets: tuple[WebsocketOutput, ...] = ()
    segments: RequestedSegments | None = None
    images: tuple[RequestedImages, ...] = ()

    @property
    def is_encoded(self) -> bool:
        return bool(self.file or self.stream or self.segments)

    @property
    def only_images(self) -> bool:
        return bool(self.images) and not (self.is_encoded or self.websockets)

    @property
    def only_websockets(self) -> bool:
        return bool(self.websockets) and not (self.is_encoded or self.images)


def of_encoded(request: Encoded) -> RequestedOutputs:
    """The outputs of a v1 request: the list of each kind, or the deprecated single field. Raises EgressError
    invalid_argument."""
    legacy: Literal["file", "stream", "segments"] | None = None
    if not isinstance(request, ParticipantEgressRequest):
        legacy = request.WhichOneof("output")
    files = list(request.file_outputs)
    streams = list(request.stream_outputs)
    segments = list(request.segment_outputs)
    if not isinstance(request, ParticipantEgressRequest):
        # Clients may set both fields to the same output, for older servers. It counts once.
        if legacy == "file" and request.file not in files:
            files.append(request.file)
        if legacy == "stream" and request.stream not in streams:
            streams.append(request.stream)
        if legacy == "segments" and request.segments not in segments:
            segments.append(request.segments)
    _at_most_one_of_each(len(files), len(streams), len(segments))
    _at_most(MAX_IMAGE_OUTPUTS, len(request.image_outputs), "image_outputs")
    others = bool(files or segments or request.image_outputs)
    found = RequestedOutputs(
        file=RequestedFile(files[0], (files[0],)) if files else None,
        stream=_stream(streams[0], others) if streams else None,
        segments=RequestedSegments(segments[0], (segments[0],)) if segments else None,
        images=tuple(RequestedImages(images, (images,)) for images in request.image_outputs),
    )
    if found == RequestedOutputs():
        raise missing_or_invalid("output")
    return found


def of_v2(request: StartEgressRequest) -> RequestedOutputs:
    """The outputs of a v2 request, each with its own storage or that of the request. Raises EgressError
    invalid_argument."""
    if not request.outputs:
        raise missing_or_invalid("output")
    _at_most(3 + MAX_IMAGE_OUTPUTS, len(request.outputs), "outputs")
    files: list[RequestedFile] = []
    streams: list[WireStream] = []
    segments: list[RequestedSegments] = []
    images: list[RequestedImages] = []
    for output in request.outputs:
        own: tuple[UploadRequest, ...] = (output.storage,) if output.HasField("storage") else ()
        shared: tuple[UploadRequest, ...] = (request.storage,) if request.HasField("storage") else ()
        match output.WhichOneof("config"):
            case "file":
                files.append(RequestedFile(output.file, own + shared))
            case "stream":
                streams.append(output.stream)
            case "segments":
                segments.append(RequestedSegments(output.segments, (*own, output.segments, *shared)))
            case "images":
                images.append(RequestedImages(output.images, (*own, output.images, *shared)))
            case None:
                raise missing_or_invalid("output config")
    _at_most_one_of_each(len(files), len(streams), len(segments))
    _at_most(MAX_IMAGE_OUTPUTS, len(images), "image outputs")
    stream: StreamOutput | None = None
    websockets: tuple[WebsocketOutput, ...] = ()
    if streams:
        if _stream_kind(streams[0]) is StreamKind.WEBSOCKET:
            websockets = _websockets(streams[0])
        else:
            stream = _stream(streams[0], bool(files or segments or images))
    return RequestedOutputs(
        file=files[0] if files else None,
        stream=stream,
        websockets=websockets,
        segments=segments[0] if segments else None,
        images=tuple(images),
    )


def unused_storages(request: StartEgressRequest) -> tuple[str, ...]:
    """Notices about storages of a v2 request that nothing is stored in."""
    notices = []
    is_used = False
    for number, output in enumerate(request.outputs):
        field = f"outputs[{number}]" if len(request.outputs) > 1 else "outputs"
        config = output.WhichOneof("config")
        inner = getattr(output, config) if config in ("segments", "images") else None
        has_inner = inner is not None and inner.WhichOneof("output") is not None
        if config == "stream":
            if _names_storage(output):
                notices.append(f"{field}.storage has no effect: a stream is not stored")
        elif _names_storage(output):
            if inner is not None and has_inner:
                what = f"{field}.{config}.{inner.WhichOneof('output')}"
                notices.append(f"{what} has no effect: {field}.storage is used")
        else:
            is_used |= not has_inner
    if request.HasField("storage") and request.storage.WhichOneof("provider") and not is_used:
        notices.append("storage has no effect: no output is stored there")
    return tuple(notices)


def _names_storage(output: Output) -> bool:
    return output.HasField("storage") and output.storage.WhichOneof("provider") is not None


def _at_most_one_of_each(files: int, streams: int, segments: int) -> None:
    for count, kind in ((files, "file"), (streams, "stream"), (segments, "segmented file")):
        if count > 1:
            raise missing_or_invalid(f"multiple {kind} outputs")


def _at_most(most: int, count: int, field: str) -> None:
    if count > most:
        raise missing_or_invalid(f"{field} (there are {count}, and at most {most} are taken)")


def _stream_urls(stream: WireStream) -> list[tuple[str, str]]:
    """The URL and id of each destination."""
    _at_most(stream_urls.MAX_AT_ONCE, len(stream.urls) + len(stream.destinations), "stream urls")
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
    """Makes a stream output. `others`: the request has other outputs, so that URLs may follow with
    UpdateStream."""
    kind = _stream_kind(stream)
    if kind is StreamKind.WEBSOCKET:
        raise missing_or_invalid("stream protocol")
    urls = _stream_urls(stream)
    if not urls and not others:
        raise missing_or_invalid("stream url")
    targets = _each_once(stream_urls.target(url, kind, stream_id) for url, stream_id in urls)
    return StreamOutput(protocol="rtmp" if kind is StreamKind.RTMP else "srt", targets=targets)


def _websockets(stream: WireStream) -> tuple[WebsocketOutput, ...]:
    urls = _stream_urls(stream)
    if not urls:
        raise missing_or_invalid("stream url")
    return _each_once(stream_urls.websocket(url, stream_id) for url, stream_id in urls)


def _each_once(targets: Iterable[Live]) -> tuple[Live, ...]:
    """The targets, each URL once. Raises EgressError for a URL with two ids."""
    found: dict[str, Live] = {}
    for target in targets:
        if found.setdefault(target.url, target).id != target.id:
            raise missing_or_invalid(f"stream url ({target.redacted} is there twice, with two ids)")
    return tuple(found.values())
