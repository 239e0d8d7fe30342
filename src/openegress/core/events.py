"""What a handler tells its worker: small frozen events, which core.info turns into EgressInfo.

`output` is the index in Plan.outputs. Times are unix ns, durations ns, sizes bytes.
"""

from enum import StrEnum

import msgspec


class EndReason(StrEnum):
    """EgressInfo.details is "End reason: <this>"; the texts are upstream's."""

    API = "StopEgress API"
    SOURCE_CLOSED = "Source closed"
    STREAMS_STOPPED = "All streams stopped"
    KILLED = "Process killed"
    LIMIT = "Session limit reached"
    FAILURE = "Failure"


class Event(msgspec.Struct, frozen=True):
    """Base of events."""


class Active(Event, frozen=True, tag="active"):
    """The first frame is on its way to the outputs: media time zero."""

    at_ns: int


class FileUpdate(Event, frozen=True, tag="file"):
    output: int
    filename: str = ""
    started_at_ns: int = 0
    ended_at_ns: int = 0
    duration_ns: int = 0
    size_bytes: int = 0
    location: str = ""


class SegmentsUpdate(Event, frozen=True, tag="segments"):
    output: int
    playlist_name: str = ""
    live_playlist_name: str = ""
    playlist_location: str = ""
    live_playlist_location: str = ""
    segment_count: int = 0
    started_at_ns: int = 0
    ended_at_ns: int = 0
    duration_ns: int = 0
    size_bytes: int = 0


class ImagesUpdate(Event, frozen=True, tag="images"):
    output: int
    filename_prefix: str = ""
    image_count: int = 0
    started_at_ns: int = 0
    ended_at_ns: int = 0


class StreamStatus(StrEnum):
    ACTIVE = "active"
    FINISHED = "finished"
    FAILED = "failed"


class StreamUpdate(Event, frozen=True, tag="stream"):
    """One URL of a stream output, or a websocket. Two URLs may look alike once redacted, so `stream` says
    which one it is: its place among the output's own, those added while recording at the end."""

    output: int
    url: str
    """Redacted."""
    status: StreamStatus
    stream: int = 0
    started_at_ns: int = 0
    ended_at_ns: int = 0
    duration_ns: int = 0
    error: str = ""
    retries: int = 0
    last_retry_at_ns: int = 0


class OutputFailed(Event, frozen=True, tag="output_failed"):
    """One output came to harm; the others go on. When none is left the session fails."""

    output: int
    error: str
    code: str


class ManifestStored(Event, frozen=True, tag="manifest"):
    location: str


class BackupUsed(Event, frozen=True, tag="backup"):
    output: int


class Ending(Event, frozen=True, tag="ending"):
    reason: EndReason


class Ended(Event, frozen=True, tag="ended"):
    """The last event. `code` is empty when the egress is complete, else an errors.Code."""

    at_ns: int
    reason: EndReason
    error: str = ""
    code: str = ""


class Progress(Event, frozen=True, tag="progress"):
    """Once a second while recording, for metrics, the dashboard and the command line; not in EgressInfo."""

    media_ns: int
    frames: int
    unique_frames: int
    dropped_frames: int
    size_bytes: int
    queue: int = 0
    fps: float = 0.0
    cpu_cores: float = 0.0
    """Of the whole process tree, filled in by the worker."""


AnyEvent = (
    Active
    | FileUpdate
    | SegmentsUpdate
    | ImagesUpdate
    | StreamUpdate
    | OutputFailed
    | ManifestStored
    | BackupUsed
    | Ending
    | Ended
    | Progress
)
