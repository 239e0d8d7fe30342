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
    TAKEN_OVER = "Another worker goes on with it"
    """Of a part, whose egress goes on."""
    FAILURE = "Failure"


class Event(msgspec.Struct, frozen=True):
    """Base of events."""


class AwaitingStart(Event, frozen=True, tag="awaiting_start"):
    """The page is there; what is left is its START_RECORDING. For the worker, not in EgressInfo."""


class Active(Event, frozen=True, tag="active"):
    """The first frame is on its way to the outputs: media time zero."""

    at_ns: int


class Paused(Event, frozen=True, tag="paused"):
    """Nothing is recorded from here on, and the egress stays active."""

    at_ns: int


class Resumed(Event, frozen=True, tag="resumed"):
    """Media is recorded again."""

    at_ns: int


class Restarted(Event, frozen=True, tag="restarted"):
    """Its handler had died, and another one goes on with it."""

    at_ns: int
    lost_at_ns: int
    """What was recorded before ends here."""
    times: int
    """With this one."""
    missing_ns: int
    """With all before."""


class Noticed(Event, frozen=True, tag="noticed"):
    """What a caller is told by EgressInfo.details."""

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
    """Of a file in several parts, from 0."""
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
    """One more URL is sent to from here on, or one that had ended again. Comes before its first StreamUpdate,
    with the same number."""

    output: int
    stream: int
    url: str
    """Redacted."""
    id: str = ""
    """The caller's own name for it."""


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
    phase: Phase | None = None
    """START_SIGNAL: it came while the page's signal was awaited."""


class Composing(Event, frozen=True, tag="composing"):
    """What was recorded is being composed, or waits for its turn. The egress is ending meanwhile."""

    percent: int | None
    """How much of it is; None: it waits."""


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
    """Where it failed; else as in Ending."""
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
    """To streams and, once stored, to storages."""
    waiting_uploads: int = 0
    """Segments and images that no storage has confirmed yet."""
    speed: EncoderSpeed | None = None
    """That pictures are encoded with; None: none are."""


class Uploaded(Event, frozen=True, tag="uploaded"):
    """One object went to a storage, or was given up there; for metrics, not in EgressInfo."""

    content_type: str
    elapsed_ms: float
    """Attempts and the pauses between them."""
    size_bytes: int = 0
    """0: it was given up."""
    stored: bool = True
    on_backup: bool = False
    status: int = 0
    """What HTTP answered when it was given up; 0: nothing did."""
    custom_endpoint: bool = False
    """Of a storage that is not where its cloud has it."""


class Thumbnail(Event, frozen=True, tag="thumbnail"):
    """What is recorded right now, for the dashboard; not in EgressInfo."""

    jpeg: bytes


class Rejoined(Event, frozen=True, tag="rejoined"):
    """The connection to the room was lost and is back, for the dashboard; not in EgressInfo."""

    at_ns: int
    """Unix ns, when it was back."""
    after_s: float


class MarkerAdded(Event, frozen=True, tag="marker_added"):
    """A moment was given a name, for the dashboard; not in EgressInfo."""

    at_ns: int
    """Unix ns of the moment, which may be some time ago."""
    name: str
    media_ns: int
    """Where it is in the recording, which pauses are not in."""


class StoredBeside(Event, frozen=True, tag="stored_beside"):
    """A sidecar or a file of chapters is stored, for the dashboard; EgressInfo has no place for it."""

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
    | StoredBeside
)

Happening = Rejoined | MarkerAdded | StoredBeside
"""What happens to a recording that no record tells of."""
Aside = Progress | Uploaded | Thumbnail | Happening
"""What passes a record by: for metrics and whoever watches."""
