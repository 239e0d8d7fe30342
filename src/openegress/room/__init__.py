"""A LiveKit client for recorders. It joins hidden, subscribes to the tracks it is given, and hands out the
encoded frames of each track: in order, with lost packets recovered, and with the time when a listener in the
room got them.

To its user, a room is one stream of events and one callback for frames. The client reconnects by itself: a
track keeps its `TrackKey` when the recorder joins again, and when the track is published again.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import TYPE_CHECKING, NamedTuple, Protocol

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.left_out import TrackLosses
from openegress.room.budget import Reason

if TYPE_CHECKING:
    from openegress.room.events import RoomEvent


class TrackSource(StrEnum):
    UNKNOWN = "unknown"
    CAMERA = "camera"
    MICROPHONE = "microphone"
    SCREEN_SHARE = "screen_share"
    SCREEN_SHARE_AUDIO = "screen_share_audio"


class TrackEncryption(Enum):
    """The end-to-end encryption that the publisher announces."""

    NONE = auto()
    GCM = auto()
    """LiveKit's own."""
    CUSTOM = auto()
    """The application's own, or that of a newer LiveKit."""


class Lock(StrEnum):
    """Why an encrypted track cannot be decrypted, in words that follow "it is encrypted, and"."""

    NO_KEY = "no key of its room is configured: see room_keys in the configuration"
    AWAITED = "its key service has not answered yet"
    NOT_GIVEN = "its key service gave no key for it"
    CUSTOM = "its application uses an encryption of its own"
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
    """What identifies a track that comes back under a new SID: after it is published again, or its server
    restarts."""

    identity: str
    kind: MediaKind
    source: TrackSource
    name: str


@dataclass(frozen=True, slots=True)
class Track:
    """A published track as the room announces it. `sid` changes when it is published again."""

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
    """When a listener in the room got it: unix ns on our clock. It increases for pictures, unless a sender
    reorders them. For sound it may step back by as much as the network was late, and recorders keep all of
    it."""
    rtp_timestamp: int
    """Unwrapped: it never jumps back by 2**32."""
    clock_rate: int
    is_key: bool
    after_gap: bool = False
    """Packets before this one are lost for good; a decoder needs a key frame."""
    width: int = 0
    height: int = 0
    """Set on key frames of video."""


OnFrame = Callable[[EncodedFrame], None]
"""Called on the event loop's thread for each frame of a subscribed track."""


@dataclass(frozen=True, slots=True)
class VideoQuality:
    """The size that the output needs of a track: the smallest layer at least this large is requested."""

    width: int
    height: int
    framerate: int = 0


class Room(Protocol):
    """The interface of room.client.RoomClient."""

    async def join(self) -> None:
        """Joins. Tracks may be subscribed to from now on, while the media path is brought up. Raises
        EgressError with phase SIGNALLING, the address tried and the cause."""

    async def connected(self) -> None:
        """The media path is up. Raises EgressError with phase ICE or SIGNALLING, what was tried and the
        cause."""

    def events(self) -> "AsyncIterator[RoomEvent]": ...

    def tracks(self) -> list[Track]:
        """The currently published tracks."""

    def participants(self) -> list[Participant]: ...

    def lock(self, track: Track) -> Lock | None:
        """Why a track cannot be decrypted; None: it can be, or its first frames will show."""

    def now_ns(self) -> int:
        """Unix time on the clock of the frames: it does not jump when the host's clock is set."""

    async def subscribe(self, sids: Iterable[str], on_frame: OnFrame) -> None: ...

    async def unsubscribe(self, sids: Iterable[str]) -> None: ...

    def subscribed(self) -> frozenset[str]:
        """The current SIDs of subscribed tracks: a track that came back under another SID is subscribed to
        under the new one without being asked."""

    async def set_quality(self, sid: str, quality: VideoQuality) -> None: ...

    def batch_reads(self) -> None:
        """Call it when nobody waits for frames any more: they may then be handed out a fifth of a second
        late, many at a time, which costs much less."""

    def drain(self) -> None:
        """Hands out what has arrived so far."""

    def request_key_frame(self, sid: str) -> None: ...

    def leave_out(self, sid: str, reason: Reason) -> None:
        """Drops a subscribed track for some seconds; longer each time. Idempotent."""

    def left_out(self) -> frozenset[str]:
        """The SIDs of subscribed tracks that are left out."""

    def losses(self) -> list[TrackLosses]:
        """The losses of every track that was subscribed to so far."""

    async def close(self) -> None: ...
