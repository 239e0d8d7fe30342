"""The Plan: a validated request, frozen. Everything a handler needs to record, and nothing it may change.

It travels from the worker to the handler over their socket and lies in the recording's journal,
where `without_secrets` is stored apart from what recovery needs; it is never logged whole.
"""

from typing import Literal

import msgspec

from openegress.core.codecs import AudioCodec, Container, EncoderSpeed, H264Profile, VideoCodec
from openegress.core.end_rules import EndRules
from openegress.core.layout_spec import LayoutSpec
from openegress.core.looks import Looks, PictureFiles
from openegress.core.part import Part
from openegress.core.passthrough import Passthrough
from openegress.core.pause_mode import PauseMode
from openegress.core.plan_struct import Struct
from openegress.core.render import Render
from openegress.core.routes import DataRoute, VideoRoute
from openegress.core.selectors import Selector
from openegress.core.sidecars import Sidecar
from openegress.core.stems import StemFormat
from openegress.core.storages import StoragePlan

# --- what to encode to


class VideoEncoding(Struct, frozen=True):
    width: int
    height: int
    framerate: int
    kbps: int
    key_frame_interval_s: float
    codec: VideoCodec = VideoCodec.H264
    profile: H264Profile = H264Profile.MAIN
    speed: EncoderSpeed = EncoderSpeed.VERYFAST
    has_variable_rate: bool = False
    adapts: bool = False
    """`speed` is the initial one; it follows the time that the machine has."""


class AudioEncoding(Struct, frozen=True):
    codec: AudioCodec
    kbps: int
    sample_rate: int
    channels: int = 2


# --- where media comes from


class WebSource(Struct, frozen=True, tag="web"):
    url: str
    await_start_signal: bool = False


class TemplateSource(Struct, frozen=True, tag="template"):
    """A room composed by a web page: base_url?layout=&url=&token= (contract of @livekit/egress-sdk)."""

    room_name: str
    base_url: str
    layout: str
    ws_url: str
    token: str
    is_trusted: bool = False
    """The page is the server's own choice, and may load from networks that others may not."""
    sound: "MediaSource | None" = None
    """Takes the sound from the room, as another participant, instead of from the page."""


class TrackVideo(Struct, frozen=True, tag="track"):
    track_id: str


class ParticipantVideo(Struct, frozen=True, tag="participant"):
    identity: str
    prefer_screen_share: bool = False


class AudioRoute(Struct, frozen=True):
    """Which audio goes to which channel. `match` says what `value` is; "all" takes whatever no other route
    took, and "any" each track of `track_name`."""

    match: Literal["all", "any", "track", "participant", "kind", "not_kind", "alternate"]
    value: str = ""
    channel: Literal["both", "left", "right"] = "both"
    track_name: str = ""
    """Narrows the match to tracks of this name."""
    exclude: bool = False
    """Tracks that match are not recorded, nor even subscribed to, whatever other routes say."""


class MediaSource(Struct, frozen=True, tag="media"):
    """Tracks of a room, taken as they are. `single_track_id` is that of a Track egress, whose kind only the
    room knows."""

    room_name: str
    ws_url: str
    token: str
    video: TrackVideo | ParticipantVideo | None = None
    audio: tuple[AudioRoute, ...] = ()
    single_track_id: str = ""
    participant_identity: str = ""
    """Set for a Participant egress: it ends when this participant has left for good."""
    insecure: bool = False
    """Any certificate of the LiveKit server is accepted."""
    videos: tuple[VideoRoute, ...] = ()
    """Instead of `video`: each track by itself, in a TracksSource."""


class LayoutSource(Struct, frozen=True, tag="layout"):
    """A whole room in one of the built-in layouts, composed without a browser."""

    room_name: str
    layout: str
    ws_url: str
    token: str
    audio: tuple[AudioRoute, ...] = ()
    insecure: bool = False
    """As in a MediaSource."""
    specs: tuple[LayoutSpec, ...] = ()
    """The operator's own layouts: any of them may be requested while the egress runs."""


class TracksSource(Struct, frozen=True, tag="tracks"):
    """Tracks of a room as they are, each by itself."""

    room_name: str
    ws_url: str
    token: str
    audio: bool = True
    video: bool = True
    insecure: bool = False
    """As in a MediaSource."""
    chosen: MediaSource | None = None
    """Only these tracks."""
    data: tuple[DataRoute, ...] = ()
    """Goes into the file as well."""


Source = WebSource | TemplateSource | MediaSource | LayoutSource | TracksSource


# --- what comes out


class Split(Struct, frozen=True):
    """The length or the size at which a file is followed by another one. One of the two is 0."""

    every_s: float = 0.0
    every_bytes: int = 0


class FileOutput(Struct, frozen=True, tag="file"):
    filepath: str
    """Storage path; placeholders that only the room can fill ({track_type} ...) are still in it."""
    container: Container | None
    """None: the track's codec decides (core.codecs.TRACK_CONTAINER)."""
    storage: StoragePlan
    manifest: bool = True
    split: Split | None = None
    """It is recorded in parts, each a file of its own; {part} in its path stands for the number."""


class TracksFile(FileOutput, frozen=True, tag="tracks_file"):
    """The tracks of a room as they are, beside what is composed of it. It is the last output, or the only
    file."""


class SegmentOutput(Struct, frozen=True, tag="segments"):
    directory: str
    """Storage directory of segments and playlists, "" or ending in "/"."""
    prefix: str
    playlist: str
    live_playlist: str
    """Empty: none."""
    segment_s: int
    container: Container
    """TS or FMP4."""
    timestamp_suffix: bool
    storage: StoragePlan
    manifest: bool = True


class StreamTarget(Struct, frozen=True):
    url: str
    """The URL to connect to, including secrets."""
    redacted: str
    id: str = ""
    """The caller's own name for the URL (StreamDestination.id)."""


class StreamOutput(Struct, frozen=True, tag="stream"):
    protocol: Literal["rtmp", "srt"]
    targets: tuple[StreamTarget, ...]
    deny_networks: tuple[str, ...] = ()
    """No target may lead into these networks, including those that are added later."""


class Sheet(Struct, frozen=True):
    """How many thumbnails a sheet of a storyboard has."""

    columns: int = 10
    rows: int = 10


class ImageOutput(Struct, frozen=True, tag="images"):
    directory: str
    prefix: str
    interval_s: int
    width: int
    """0 with height 0: the source's size."""
    height: int
    suffix: Literal["index", "timestamp", "none"]
    storage: StoragePlan
    manifest: bool = True
    sheet: Sheet | None = None
    """Makes it a storyboard: thumbnails of `width` in sheets of this many, with an index."""


class WebsocketOutput(Struct, frozen=True, tag="websocket"):
    url: str
    redacted: str
    sample_rate: int = 48_000
    channels: int = 2
    id: str = ""
    """As in a StreamTarget."""
    deny_networks: tuple[str, ...] = ()
    """The URL may not lead into these networks, not even by redirects."""


Output = FileOutput | TracksFile | SegmentOutput | StreamOutput | ImageOutput | WebsocketOutput


class Limits(Struct, frozen=True):
    """0: none. A limit ends the egress as EGRESS_LIMIT_REACHED with finished outputs."""

    duration_s: float = 0.0
    file_bytes: int = 0


class Recorded(Struct, frozen=True):
    """Who and what of a room is recorded, as set by request.options."""

    only: tuple[Selector, ...] = ()
    """Empty: everybody and everything."""
    left_out: tuple[Selector, ...] = ()
    shows_left_out: bool = False
    may_opt_out: bool = True


class Plan(Struct, frozen=True):
    egress_id: str
    source: Source
    outputs: tuple[Output, ...]
    """In this order: file, segments, images, stream, websockets, file of tracks (core.info counts on it)."""
    video: VideoEncoding | None
    """None: no video, or the source's own (Passthrough.ALWAYS)."""
    audio: AudioEncoding | None
    passthrough: Passthrough = Passthrough.NEVER
    room_id: str = ""
    room_name: str = ""
    name_values: dict[str, str] = msgspec.field(default_factory=dict)
    """Known placeholders of file names, without braces: time, utc, room_name, retry ..."""
    limits: Limits = Limits()
    end_rules: EndRules = EndRules()
    recorded: Recorded = Recorded()
    looks: Looks = Looks()
    pictures: PictureFiles = PictureFiles()
    """Everything that may be drawn while it runs."""
    sidecars: tuple[Sidecar, ...] = ()
    """What is kept of the meeting beside the first file or playlist."""
    data_topics: tuple[str, ...] = ()
    """Patterns of the topics whose data is kept (fnmatch); empty: all."""
    data_routes: tuple[DataRoute, ...] = ()
    """Whose data, and of which topics, goes into the sidecar; empty: all."""
    stems: StemFormat | None = None
    """Each participant's voice is kept in a file of its own, beside the first file or playlist."""
    loudness_lufs: float = 0.0
    """The loudness of encoded sound and of stems; 0: unchanged."""
    on_pause: PauseMode = PauseMode.CUT
    render: Render = Render.LIVE
    resumes: bool = False
    """If its handler dies, another one continues the recording."""
    part: Part | None = None
    notices: tuple[str, ...] = ()
    """What is not done as requested; part of EgressInfo.details."""


def needs_browser(plan: Plan) -> bool:
    return isinstance(plan.source, WebSource | TemplateSource)


def encode(plan: Plan) -> bytes:
    """MessagePack, for journals and their seals: the same, whoever wrote it, of a plan and of what decode()
    makes of it. A whole number where a plan has a float is written as one."""
    return msgspec.msgpack.encode(decode(msgspec.msgpack.encode(plan)))


def decode(data: bytes) -> Plan:
    """Raises msgspec.ValidationError for an invalid plan."""
    return msgspec.msgpack.decode(data, type=Plan)
