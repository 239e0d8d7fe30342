"""The events of a room, as its client reports them."""

from dataclasses import dataclass
from enum import Enum, StrEnum

from livekit.protocol.models import DataPacket

from openegress.core.codecs import AudioCodec, VideoCodec
from openegress.room import Participant, Track
from openegress.room.budget import Reason


@dataclass(frozen=True, slots=True)
class ParticipantJoined:
    participant: Participant


@dataclass(frozen=True, slots=True)
class ParticipantLeft:
    participant: Participant


@dataclass(frozen=True, slots=True)
class ParticipantChanged:
    """A participant's name changed, or whether they opt out."""

    participant: Participant


@dataclass(frozen=True, slots=True)
class SpeakersChanged:
    identities: tuple[str, ...]
    """Identities of those who are speaking, the loudest first."""


class Quality(StrEnum):
    POOR = "poor"
    GOOD = "good"
    EXCELLENT = "excellent"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class QualityChanged:
    """The quality of a participant's connection changed, as measured by the server."""

    identity: str
    quality: Quality


@dataclass(frozen=True, slots=True)
class OwnMetadataChanged:
    """The metadata of the recorder's own participant changed."""

    metadata: str


@dataclass(frozen=True, slots=True)
class PauseAttributeChanged:
    """The recorder's own attribute egress.paused changed: whether its recording should be paused."""

    paused: bool


@dataclass(frozen=True, slots=True)
class TrackPublished:
    track: Track


@dataclass(frozen=True, slots=True)
class TrackUnpublished:
    track: Track


@dataclass(frozen=True, slots=True)
class TrackMuted:
    """A track was muted or unmuted, see track.muted."""

    track: Track


@dataclass(frozen=True, slots=True)
class TrackSubscribed:
    """A track was subscribed to: its media is about to arrive. Sent again if the codec differs from the
    announced one."""

    track: Track
    codec: AudioCodec | VideoCodec


@dataclass(frozen=True, slots=True)
class MediaArrived:
    """The first packet of a subscribed track arrived. Its frames follow within a fifth of a second."""

    track: Track
    at_ns: int
    """Unix ns."""


@dataclass(frozen=True, slots=True)
class KeyFrameArrived:
    """The first complete key frame of a subscribed video track, or the first with another codec: muxers need
    this before the frame itself."""

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
    """A subscribed track costs more than it may, so it is left out for a while."""

    track_sid: str
    identity: str
    reason: Reason
    for_s: int


@dataclass(frozen=True, slots=True)
class TrackTakenAgain:
    """A track that was left out is taken again: its media is about to arrive, beginning with a key frame."""

    track_sid: str
    identity: str


@dataclass(frozen=True, slots=True)
class DataArrived:
    """A data packet that somebody sent to the room, already decrypted. Reported only if data is requested."""

    identity: str
    """The sender; empty: the server."""
    packet: DataPacket
    at_ns: int
    """Unix ns."""


@dataclass(frozen=True, slots=True)
class DataLocked:
    """Data of a participant is encrypted and cannot be decrypted; sent once."""

    identity: str
    reason: str
    """The reason, in words that follow "it is encrypted, and"."""


@dataclass(frozen=True, slots=True)
class KeysAnswered:
    """A key service has answered or failed: tracks may no longer be locked."""

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
    """For a connection: join again. For a room: joining again has failed permanently."""
    OVER = "over"
    """The room ended, or the recorder was removed."""
    REPLACED = "replaced"
    """Somebody joined under our identity."""


@dataclass(frozen=True, slots=True)
class RoomClosed:
    """The room was deleted, the recorder was removed, or joining again has failed permanently. The last
    event."""

    reason: str
    kind: EndKind


RoomEvent = (
    ParticipantJoined
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
