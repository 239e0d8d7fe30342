"""What a handler tells its worker: small frozen events, which core.info turns into EgressInfo.

`output` is the index in Plan.outputs. Times are unix ns, durations ns, sizes bytes.
"""

from enum import StrEnum

import msgspec

from openegress.core.codecs import EncoderSpeed
from openegress.core.errors import Phase
from openegress.core.left_out import LeftOut


class EndReason(StrEnum):
    """EgressInfo.details is "End reason: <this>"; the texts are upstream's, or name an option."""

    API = "StopEgress API"
    SOURCE_CLOSED = "Source closed"
    STREAMS_STOPPED = "All streams stopped"
    KILLED = "Process killed"
    LIMIT = "Session limit reached"
    MAX_DURATION = "max_duration reached"
    MAX_SIZE = "max_size reached"
    EMPTY = "Room empty (stop_when_empty)"
    IDLE = "Nobody publishes (stop_when_idle)"
    SILENT = "Nobody heard (stop_when_silent)"
    START_TIMEOUT = "start_timeout reached"
    TAKEN_OVER = "Another worker continues it"
    """For one part of an egress that continues."""
    FAILURE = "Failure"


class Event(msgspec.Struct, frozen=True):
    """Base of events."""


class AwaitingStart(Event, frozen=True, tag="awaiting_start"):
    """The page is loaded, and only its START_RECORDING is missing. For the worker; not in EgressInfo."""


class Active(Event, frozen=True, tag="active"):
    """The first frame is on its way to the outputs: media time zero."""

    at_ns: int


class Paused(Event, frozen=True, tag="paused"):
    """Recording is paused; the egress stays active."""

    at_ns: int


class Resumed(Event, frozen=True, tag="resumed"):
    """Media is recorded again."""

    at_ns: int


class Restarted(Event, frozen=True, tag="restarted"):
    """The handler died, and another one continues its recording."""

    at_ns: int
    lost_at_ns: int
    """Where the earlier recording ends."""
    times: int
    """Where this one begins."""
    missing_ns: int
    """The sum of all restarts until now."""


class Noticed(Event, frozen=True, tag="noticed"):
    """A notice for the caller, in EgressInfo.details."""

    text: str


class FileUpdate(Event, frozen=True, tag="file"):
    output: int
    filename: str = ""
    started_at_ns: int = 0
    ended_at_ns: int = 0
    duration_ns: int = 0
    size_bytes: int = 0
    location: str = ""
    part: int = 0
    """Number of the part of a file, from 0."""
    begin_ns: int = 0
    """Where on the recording's timeline the part begins."""


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


class StreamAdded(Event, frozen=True, tag="stream_added"):
    """Another URL is sent to from now on, or one that had ended starts again. Comes before its first
    StreamUpdate, with the same number."""

    output: int
    stream: int
    url: str
    """Redacted."""
    id: str = ""
    """The caller's own name for it."""


class StreamUpdate(Event, frozen=True, tag="stream"):
    """One URL of a stream output, or a websocket. Two URLs may look alike once redacted, so `stream`
    identifies it: its position among the output's URLs, where those added while recording come last."""

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
    """One output failed; the others continue. When none is left, the egress fails."""

    output: int
    error: str
    code: str


class ManifestStored(Event, frozen=True, tag="manifest"):
    location: str


class BackupUsed(Event, frozen=True, tag="backup"):
    output: int


class Ending(Event, frozen=True, tag="ending"):
    reason: EndReason
    phase: Phase | None = None
    """START_SIGNAL: it came while waiting for the page's signal."""


class Composing(Event, frozen=True, tag="composing"):
    """The recording is being composed, or is queued for that. The egress is ending meanwhile."""

    percent: int | None
    """None: it is queued."""


class EndReport(StrEnum):
    OWN = "own"
    """A handler reports how its own work ended: a recording, or a recovery."""
    RECOVERED = "recovered"
    """A recovery lost nothing of what was recorded, and reports how the egress itself ended."""
    MISSING = "missing"
    """The handler is gone, and nobody has reported how the streams ended."""


class Ended(Event, frozen=True, tag="ended"):
    """The last event. `code` is empty when the egress is complete, else an errors.Code."""

    at_ns: int
    reason: EndReason
    error: str = ""
    code: str = ""
    phase: Phase | None = None
    """Where it failed; otherwise as in Ending."""
    left_out: LeftOut = LeftOut()
    report: EndReport = EndReport.OWN


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
    sent_bytes: int = 0
    """Sent to streams, and to storages once stored."""
    waiting_uploads: int = 0
    """Segments and images that no storage has confirmed yet."""
    speed: EncoderSpeed | None = None
    """The encoder speed; None: no picture is encoded."""


class Uploaded(Event, frozen=True, tag="uploaded"):
    """One object was uploaded to a storage, or given up; for metrics, not in EgressInfo."""

    content_type: str
    elapsed_ms: float
    """Attempts and the pauses between them."""
    size_bytes: int = 0
    """0: it was given up."""
    stored: bool = True
    on_backup: bool = False
    status: int = 0
    """The HTTP status when it was given up; 0: there was no answer."""
    custom_endpoint: bool = False
    """The host of a storage other than its cloud's own endpoint."""


class Thumbnail(Event, frozen=True, tag="thumbnail"):
    """What is recorded right now, for the dashboard; not in EgressInfo."""

    jpeg: bytes


class Rejoined(Event, frozen=True, tag="rejoined"):
    """The connection to the room was lost and is restored; for the dashboard, not in EgressInfo."""

    at_ns: int
    """Unix ns at which it was restored."""
    after_s: float


class MarkerAdded(Event, frozen=True, tag="marker_added"):
    """Somebody named a moment; for the dashboard, not in EgressInfo."""

    at_ns: int
    """Unix ns of the moment, which may be in the past."""
    name: str
    media_ns: int
    """Where it is in the recording, pauses excluded."""


class ExtraFileStored(Event, frozen=True, tag="extra_file_stored"):
    """A sidecar or a file of chapters is stored; for the dashboard, as EgressInfo has no field for it."""

    at_ns: int
    filename: str


AnyEvent = (
    AwaitingStart
    | Active
    | Paused
    | Resumed
    | Restarted
    | Noticed
    | FileUpdate
    | SegmentsUpdate
    | ImagesUpdate
    | StreamAdded
    | StreamUpdate
    | OutputFailed
    | ManifestStored
    | BackupUsed
    | Ending
    | Composing
    | Ended
    | Progress
    | Uploaded
    | Thumbnail
    | Rejoined
    | MarkerAdded
    | ExtraFileStored
)

TimelineEvent = Rejoined | MarkerAdded | ExtraFileStored
"""Events that no record shows."""
ObserverEvent = Progress | Uploaded | Thumbnail | TimelineEvent
"""Events that bypass the record, for metrics and the dashboard."""
