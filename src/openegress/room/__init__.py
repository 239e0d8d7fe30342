"""A LiveKit client for recorders: it joins hidden, subscribes to what it is told, and hands out the encoded
frames of each track: in order, with lost packets recovered, at the time when a listener in the room had them.

Seen from outside, a room is one stream of events and one callback for frames. Reconnecting is the
client's own business: a track keeps its `TrackKey` over re-joins and republishing.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import NamedTuple, Protocol

from livekit.protocol.models import DataPacket

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.left_out import TrackLosses
from openegress.room.budget import Reason


class TrackSource(StrEnum):
    UNKNOWN = "unknown"
    CAMERA = "camera"
    MICROPHONE = "microphone"
    SCREEN_SHARE = "screen_share"
    SCREEN_SHARE_AUDIO = "screen_share_audio"


class TrackEncryption(Enum):
    """End to end, as its publisher says."""

    NONE = auto()
    GCM = auto()
    """LiveKit's own."""
    CUSTOM = auto()
    """Of the application, or of a newer LiveKit."""


class Lock(StrEnum):
    """Why an encrypted track cannot be decrypted, in words that follow "it is encrypted, and"."""

    NO_KEY = "no key of its room is configured: see room_keys in the configuration"
    AWAITED = "its key service has yet to answer"
    NOT_GIVEN = "its key service gave no key for it"
    CUSTOM = "in a way of its application's own"
    CODEC = "frames of its codec cannot be decrypted: publish it as VP8 or H264"


@dataclass(frozen=True, slots=True)
class Participant:
    sid: str
    identity: str
    name: str
    kind: str
    """standard, ingress, egress, sip, agent ... (livekit.ParticipantInfo.Kind in lower case)."""
    joined_at_ms: int = 0
    """Unix time."""
    opts_out: bool = False
    """Asks not to be recorded (attribute egress.exclude)."""


@dataclass(frozen=True, slots=True)
class TrackKey:
    """What stays the same when a track comes back under a new SID: a republish, a restarted server."""

    identity: str
    kind: MediaKind
    source: TrackSource
    name: str


@dataclass(frozen=True, slots=True)
class Track:
    """A published track as the room announces it. `sid` changes when it is published anew."""

    sid: str
    name: str
    kind: MediaKind
    source: TrackSource
    mime_type: str
    participant: Participant
    muted: bool
    width: int = 0
    height: int = 0
    encryption: TrackEncryption = TrackEncryption.NONE

    @property
    def key(self) -> TrackKey:
        return TrackKey(self.participant.identity, self.kind, self.source, self.name)


class EncodedFrame(NamedTuple):
    """One access unit (H264/H265: Annex B; VP8/VP9: a frame; AV1: OBUs with sizes, low-overhead format)
    or one audio packet, complete and in order. A named tuple, as most packets make one."""

    track_sid: str
    codec: AudioCodec | VideoCodec
    data: bytes
    at_ns: int
    """When a listener in the room had it: unix ns on our clock. It rises for pictures, unless a sender
    reorders them. For sound it may step back by as much as the network was late, and whoever records it keeps
    all of it."""
    rtp_timestamp: int
    """Unwrapped: never jumps back by 2**32."""
    clock_rate: int
    is_key: bool
    after_gap: bool = False
    """Packets before this one were lost for good; a decoder needs a key frame."""
    width: int = 0
    height: int = 0
    """Set on key frames of video."""


# --- events


@dataclass(frozen=True, slots=True)
class Joined:
    room_sid: str
    room_name: str


@dataclass(frozen=True, slots=True)
class ParticipantJoined:
    participant: Participant


@dataclass(frozen=True, slots=True)
class ParticipantLeft:
    participant: Participant


@dataclass(frozen=True, slots=True)
class ParticipantChanged:
    """Its name, or whether it opts out."""

    participant: Participant


@dataclass(frozen=True, slots=True)
class SpeakersChanged:
    identities: tuple[str, ...]
    """Of those who speak now, the loudest first."""


class Quality(StrEnum):
    POOR = "poor"
    GOOD = "good"
    EXCELLENT = "excellent"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class QualityChanged:
    """Of a participant's connection, as the server measures it."""

    identity: str
    quality: Quality


@dataclass(frozen=True, slots=True)
class OwnMetadataChanged:
    """Of the recorder itself."""

    metadata: str


@dataclass(frozen=True, slots=True)
class PauseAttributeChanged:
    """The recorder's own attribute egress.paused: whether its recording is to be paused."""

    paused: bool


@dataclass(frozen=True, slots=True)
class TrackPublished:
    track: Track


@dataclass(frozen=True, slots=True)
class TrackUnpublished:
    track: Track


@dataclass(frozen=True, slots=True)
class TrackMuted:
    """Or unmuted: see track.muted."""

    track: Track


@dataclass(frozen=True, slots=True)
class TrackSubscribed:
    """Its media is about to come. Again when the codec turns out to be another than announced."""

    track: Track
    codec: AudioCodec | VideoCodec


@dataclass(frozen=True, slots=True)
class MediaArrived:
    """The first packet of a subscribed track came in. Its frames follow within a fifth of a second."""

    track: Track
    at_ns: int
    """Unix ns."""


@dataclass(frozen=True, slots=True)
class KeyFrameArrived:
    """The first whole key frame of a subscribed video track, or the first of another codec: what a muxer has
    to know before the frame itself."""

    track: Track
    codec: VideoCodec
    data: bytes
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class SubscriptionFailed:
    track_sid: str
    reason: str


@dataclass(frozen=True, slots=True)
class TrackLeftOut:
    """A subscribed track costs more than it may, and sends nothing for a while."""

    track_sid: str
    identity: str
    reason: Reason
    for_s: int


@dataclass(frozen=True, slots=True)
class TrackTakenAgain:
    """Its media is about to come, from a key frame on."""

    track_sid: str
    identity: str


@dataclass(frozen=True, slots=True)
class DataArrived:
    """Somebody has sent this to the room by a data channel; decrypted where it was encrypted. Only where data
    is asked for."""

    identity: str
    """Of whom it is; empty: of the server."""
    packet: DataPacket
    at_ns: int
    """Unix ns."""


@dataclass(frozen=True, slots=True)
class DataLocked:
    """Data of a participant is encrypted, and cannot be decrypted; told once."""

    identity: str
    reason: str
    """In words that follow "it is encrypted, and"."""


@dataclass(frozen=True, slots=True)
class KeysAnswered:
    """A key service has answered, or will not: tracks may not be locked any more."""

    problem: str = ""
    """Why there is no answer."""


@dataclass(frozen=True, slots=True)
class ConnectionLost:
    reason: str


@dataclass(frozen=True, slots=True)
class Reconnected:
    after_s: float


class EndKind(Enum):
    LOST = "lost"
    """Join again. Of a room: joining again has failed for good."""
    OVER = "over"
    """The room ended, or the recorder was removed."""
    REPLACED = "replaced"
    """Somebody joined under our identity."""


@dataclass(frozen=True, slots=True)
class RoomClosed:
    """The room was deleted, the recorder removed, or re-joining failed for good. The last event."""

    reason: str
    kind: EndKind


RoomEvent = (
    Joined
    | ParticipantJoined
    | ParticipantLeft
    | ParticipantChanged
    | SpeakersChanged
    | QualityChanged
    | OwnMetadataChanged
    | PauseAttributeChanged
    | TrackPublished
    | TrackUnpublished
    | TrackMuted
    | TrackSubscribed
    | MediaArrived
    | KeyFrameArrived
    | SubscriptionFailed
    | TrackLeftOut
    | TrackTakenAgain
    | DataArrived
    | DataLocked
    | KeysAnswered
    | ConnectionLost
    | Reconnected
    | RoomClosed
)

OnFrame = Callable[[EncodedFrame], None]
"""Called on the event loop's thread for each frame of a subscribed track."""


@dataclass(frozen=True, slots=True)
class VideoQuality:
    """What the output needs of a track: the smallest layer at least this large is asked for."""

    width: int
    height: int
    framerate: int = 0


class Room(Protocol):
    """What room.client.RoomClient offers."""

    async def join(self) -> Joined:
        """Tracks may be subscribed to from here on, while the media path is brought up.

        Raises EgressError with phase SIGNALLING, the address tried and the cause.
        """

    async def connected(self) -> None:
        """The media path is up. Raises EgressError with phase ICE or SIGNALLING, what was tried and the
        cause."""

    def events(self) -> AsyncIterator[RoomEvent]: ...

    def tracks(self) -> list[Track]:
        """Published right now."""

    def participants(self) -> list[Participant]: ...

    def lock(self, track: Track) -> Lock | None:
        """Why nothing of a track could be decrypted; None: it can be, or its first frames will show."""

    def now_ns(self) -> int:
        """Unix time on the clock of the frames: it does not jump when the host's is set."""

    async def subscribe(self, sids: Iterable[str], on_frame: OnFrame) -> None: ...

    async def unsubscribe(self, sids: Iterable[str]) -> None: ...

    def subscribed(self) -> frozenset[str]:
        """The SIDs of tracks that are subscribed to, as they are by now: a track that came back under another
        SID is subscribed to under that one, asked for or not."""

    async def set_quality(self, sid: str, quality: VideoQuality) -> None: ...

    def batch_reads(self) -> None:
        """Nobody waits for frames from here on: they may be handed out a tenth of a second late, many at a
        time, which costs much less."""

    def drain(self) -> None:
        """Hands out what has come in, now."""

    def request_key_frame(self, sid: str) -> None: ...

    def leave_out(self, sid: str, reason: Reason) -> None:
        """Takes nothing more of a subscribed track for some seconds; each time for longer. Idempotent."""

    def left_out(self) -> frozenset[str]:
        """The SIDs of subscribed tracks that are left out."""

    def losses(self) -> list[TrackLosses]:
        """Of every track that was subscribed to so far."""

    async def close(self) -> None: ...
