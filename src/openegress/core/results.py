"""The results of outputs in an EgressInfo, changed in place. Pure."""

from livekit.protocol.egress import EgressInfo, FileInfo, ImagesInfo, SegmentsInfo, StreamInfo

from openegress.core.events import (
    FileUpdate,
    ImagesUpdate,
    SegmentsUpdate,
    StreamAdded,
    StreamStatus,
    StreamUpdate,
)

_STREAM_STATUSES = {
    StreamStatus.ACTIVE: StreamInfo.ACTIVE,
    StreamStatus.FINISHED: StreamInfo.FINISHED,
    StreamStatus.FAILED: StreamInfo.FAILED,
}


def apply(
    info: EgressInfo, event: FileUpdate | SegmentsUpdate | ImagesUpdate | StreamAdded | StreamUpdate
) -> None:
    match event:
        case FileUpdate():
            _update_file(_file(info, event), event)
        case SegmentsUpdate():
            _update_segments(info.segment_results[0], event)
        case ImagesUpdate():
            first = _files(info) + len(info.segment_results)
            _update_images(info.image_results[event.output - first], event)
        case StreamAdded():
            _add_stream(info, event)
        case StreamUpdate():
            _update_stream(info.stream_results[_place(info, event.output, event.stream)], event)


def is_sending(info: EgressInfo, event: StreamAdded) -> bool:
    """Whether the stream is active already."""
    place = _place(info, event.output, event.stream)
    return place < len(info.stream_results) and info.stream_results[place].status == StreamInfo.ACTIVE


def start(info: EgressInfo, at_ns: int) -> None:
    for result in _stored(info):
        result.started_at = result.started_at or at_ns


def finish(info: EgressInfo, at_ns: int) -> None:
    for result in _stored(info):
        if result.started_at and not result.ended_at:
            result.ended_at = at_ns
    timed_results: list[FileInfo | SegmentsInfo] = [*info.file_results, *info.segment_results]
    for timed in timed_results:
        if timed.started_at and not timed.duration:
            timed.duration = max(0, timed.ended_at - timed.started_at)
    for stream in info.stream_results:
        if stream.status == StreamInfo.ACTIVE:
            stream.status = StreamInfo.FINISHED
            _end_stream(stream, at_ns)


def break_streams(info: EgressInfo, error: str, at_ns: int) -> None:
    """Streams that were live when their handler died have failed."""
    for stream in info.stream_results:
        if stream.status == StreamInfo.ACTIVE:
            stream.status, stream.error = StreamInfo.FAILED, error
            _end_stream(stream, at_ns)


def mirror(info: EgressInfo) -> None:
    """Fills the deprecated single result, where there is one, from the list that replaced it."""
    match info.WhichOneof("result"):
        case "file":
            info.file.CopyFrom(info.file_results[0])
        case "segments":
            info.segments.CopyFrom(info.segment_results[0])
        case "stream":
            del info.stream.info[:]
            info.stream.info.extend(info.stream_results)
        case None:
            pass


def _end_stream(stream: StreamInfo, at_ns: int) -> None:
    stream.ended_at = stream.ended_at or at_ns
    stream.started_at = stream.started_at or stream.ended_at
    stream.duration = stream.duration or max(0, stream.ended_at - stream.started_at)


def _stored(info: EgressInfo) -> list[FileInfo | SegmentsInfo | ImagesInfo]:
    return [*info.file_results, *info.segment_results, *info.image_results]


def _files(info: EgressInfo) -> int:
    """How many outputs are files: one that is split has a result for each part."""
    return min(1, len(info.file_results))


def _file(info: EgressInfo, event: FileUpdate) -> FileInfo:
    """Each part of a file has a result. The file of tracks follows one that has no other part."""
    place = event.part + min(1, event.output)
    while len(info.file_results) <= place:
        info.file_results.add()
    return info.file_results[place]


def _update_file(result: FileInfo, event: FileUpdate) -> None:
    result.filename = event.filename or result.filename
    result.location = event.location or result.location
    result.started_at = event.started_at_ns or result.started_at
    result.ended_at = event.ended_at_ns or result.ended_at
    result.duration = event.duration_ns or result.duration
    result.size = event.size_bytes or result.size


def _update_segments(result: SegmentsInfo, event: SegmentsUpdate) -> None:
    result.playlist_name = event.playlist_name or result.playlist_name
    result.live_playlist_name = event.live_playlist_name or result.live_playlist_name
    result.playlist_location = event.playlist_location or result.playlist_location
    result.live_playlist_location = event.live_playlist_location or result.live_playlist_location
    result.segment_count = event.segment_count or result.segment_count
    result.started_at = event.started_at_ns or result.started_at
    result.ended_at = event.ended_at_ns or result.ended_at
    result.duration = event.duration_ns or result.duration
    result.size = event.size_bytes or result.size


def _update_images(result: ImagesInfo, event: ImagesUpdate) -> None:
    result.filename_prefix = event.filename_prefix or result.filename_prefix
    result.image_count = event.image_count or result.image_count
    result.started_at = event.started_at_ns or result.started_at
    result.ended_at = event.ended_at_ns or result.ended_at


def _place(info: EgressInfo, output: int, stream: int) -> int:
    """The place of a stream among the results. It goes by number, never by URL: two keys may redact alike.
    The results of a stream output come before those of websockets, each of which is an output of its own; a
    plan has one or the other."""
    first = _files(info) + len(info.segment_results) + len(info.image_results)
    return output - first + stream


def _add_stream(info: EgressInfo, event: StreamAdded) -> None:
    """A stream that had ended begins again in its place."""
    place = _place(info, event.output, event.stream)
    result = info.stream_results[place] if place < len(info.stream_results) else info.stream_results.add()
    result.CopyFrom(StreamInfo(url=event.url, id=event.id))


def _update_stream(result: StreamInfo, event: StreamUpdate) -> None:
    result.status = _STREAM_STATUSES[event.status]
    result.started_at = event.started_at_ns or result.started_at
    result.ended_at = 0 if event.status is StreamStatus.ACTIVE else event.ended_at_ns or result.ended_at
    result.duration = event.duration_ns or result.duration
    # A stream that is back has no error any more.
    result.error = event.error
    result.retries = event.retries or result.retries
    result.last_retry_at = event.last_retry_at_ns or result.last_retry_at
