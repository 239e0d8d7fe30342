"""Joins the packets of a track to pictures, and finds which of them a decoder can use. Pure."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from openegress.core.codecs import VideoCodec
from openegress.core.units import S
from openegress.room.frame_keys import Undecryptable
from openegress.room.rtp.depacketise import AccessUnit, MalformedPayload, UnitKind, has_end, join_video
from openegress.room.rtp.frame_cipher import TrackCipher
from openegress.room.rtp.packets import OVERTAKEN, RtpPacket

BLANK_SIDE = 8
"""Maximum side of a blank picture: LiveKit ends a track with pictures of 2x2 or 8x8."""
MAX_FRAME_PACKETS = 4000
MAX_PREFIX_BYTES = 16 * 1024
"""Bytes of parameter sets before a picture: a sender may send each in a separate unit."""

HELD_FOR_NS = 2 * S
"""How long a picture waits for its key: after that, a new key frame arrives before all waiting pictures could
be decoded."""
MAX_HELD_BYTES = 4 * 1024 * 1024


class PictureTaker(Protocol):
    """Receives the pictures. Times are monotonic ns."""

    def on_unit(self, timestamp: int, unit: AccessUnit, arrival_ns: int) -> None:
        """Takes a picture that can be decoded; `arrival_ns` is that of its first packet."""

    def on_first_key_frame(self, codec: VideoCodec, unit: AccessUnit) -> None:
        """Called before on_unit(), once for each codec."""

    def on_blank(self) -> None:
        """Called when the server has added a picture of its own after the last one of a track that was muted
        or has ended."""

    def on_unusable(self, timestamp: int, arrival_ns: int, now_ns: int) -> None:
        """Called when a picture was incomplete, malformed, or without the key frame it depends on: none can
        be decoded before the next key frame. `timestamp` and `arrival_ns` are those of on_unit."""

    def on_malformed(self, error: MalformedPayload) -> None:
        """Takes the reason why packets make no picture. on_unusable() follows."""

    def on_undecryptable(self, cipher: TrackCipher, error: Undecryptable) -> None:
        """Takes the reason why a picture cannot be decrypted. on_unusable() follows."""


class _State(Enum):
    """The requirement for the next picture."""

    AWAITS_KEY = auto()
    """A key frame is needed."""
    DECODABLE = auto()
    """Any picture can be used."""
    BLANK = auto()
    """A key frame is needed. Any other picture is the server's own."""


@dataclass(frozen=True, slots=True)
class _Gathered:
    """The packets of a frame."""

    timestamp: int
    payloads: list[bytes]
    first_arrival_ns: int
    at_ns: int
    """When it was complete."""
    is_broken: bool
    """Some packets are lost."""
    is_marked: bool
    """Its last packet says that it is the last."""

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.payloads))


class FrameAssembler:
    """Takes the packets of a track in order, and gives its pictures to a PictureTaker."""

    def __init__(self, taker: PictureTaker, cipher: TrackCipher | None) -> None:
        self.cipher = cipher
        self._taker = taker
        self._codec: VideoCodec | None = None
        self._payloads: list[bytes] = []
        """The packets of the frame being gathered."""
        self._first_arrival_ns = 0
        self._timestamp = -1
        self._is_broken = False
        """The frame being gathered has lost packets."""
        self._marks = False
        """The sender marks the last packet of a frame."""
        self._state = _State.AWAITS_KEY
        self._prefix: AccessUnit | None = None
        """Parameter sets that belong to the next picture."""
        self._shown: VideoCodec | None = None
        """The codec whose first key frame was reported."""
        self._held: deque[_Gathered] = deque()
        """Pictures that wait for their key, in order."""
        self._held_bytes = 0

    def restart(self) -> None:
        """Prepares for packets that are unrelated to earlier ones."""
        self._payloads = []
        self._held.clear()
        self._held_bytes = 0
        self._is_broken = False
        self._marks = False
        self._state = _State.AWAITS_KEY
        self._prefix = None

    def switch(self, codec: VideoCodec | None) -> None:
        """Changes to the codec of the packets that follow; None: sound."""
        self._codec = codec
        self._payloads = []
        self._held.clear()
        self._held_bytes = 0
        self._prefix = None
        self._await_key()

    def gap(self) -> None:
        """Call it when packets were given up."""
        self._is_broken = True

    def forget(self) -> None:
        """Drops the frame being gathered, whose end will not arrive."""
        self._payloads = []

    def put(self, packet: RtpPacket, now_ns: int) -> None:
        if packet.timestamp != self._timestamp:
            if self._payloads:
                self._finish(now_ns, is_marked=False)
            self._timestamp = packet.timestamp
        arrival_ns = packet.arrival_ns
        if not self._payloads:
            self._first_arrival_ns = arrival_ns
        elif arrival_ns != OVERTAKEN:
            earlier_ns = self._first_arrival_ns
            self._first_arrival_ns = arrival_ns if earlier_ns == OVERTAKEN else min(earlier_ns, arrival_ns)
        self._payloads.append(packet.payload)
        if packet.marker or len(self._payloads) > MAX_FRAME_PACKETS:
            self._finish(now_ns, is_marked=packet.marker)

    def retry(self, now_ns: int) -> None:
        """Retries the frames that wait for a key, as it may have arrived."""
        while self._held:
            gathered = self._held.popleft()
            if not self._open(gathered, now_ns):
                self._held.appendleft(gathered)
                return
            self._held_bytes = max(0, self._held_bytes - gathered.size_bytes)

    def _finish(self, now_ns: int, *, is_marked: bool) -> None:
        gathered = _Gathered(
            self._timestamp, self._payloads, self._first_arrival_ns, now_ns, self._is_broken, is_marked
        )
        self._payloads = []
        self._is_broken = False
        self._marks |= is_marked
        if self._held or not self._open(gathered, now_ns):
            self._held.append(gathered)
            self._held_bytes += gathered.size_bytes
            self.retry(now_ns)

    def _open(self, gathered: _Gathered, now_ns: int) -> bool:
        """Hands out or drops a frame. Returns False if it waits for its key."""
        if gathered.is_broken:
            # It is unknown whether the loss hit this frame or the previous one, so both are dropped.
            self._refuse(gathered, now_ns)
            return True
        assert self._codec is not None
        cipher = self.cipher
        if cipher is not None and cipher.is_injected(gathered.payloads[-1]):
            self._blank()
            return True
        try:
            if not gathered.is_marked and self._is_cut(gathered.payloads):
                raise MalformedPayload("a frame without its end")
            if cipher is None:
                unit = join_video(self._codec, gathered.payloads)
            else:
                unit = cipher.join(self._codec, gathered.payloads, now_ns)
        except MalformedPayload as error:
            self._taker.on_malformed(error)
            self._refuse(gathered, now_ns)
            return True
        except Undecryptable as error:
            assert cipher is not None
            in_time = now_ns - gathered.at_ns <= HELD_FOR_NS and self._held_bytes <= MAX_HELD_BYTES
            if in_time and not error.is_certain:
                return False
            self._taker.on_undecryptable(cipher, error)
            self._refuse(gathered, now_ns)
            return True
        joined = self._with_prefix(unit)
        if unit.kind is not UnitKind.PARAMETERS:
            self._unit(joined, gathered, now_ns)
        elif len(joined.data) <= MAX_PREFIX_BYTES:
            self._prefix = joined
        else:
            self._prefix = unit
        return True

    def _is_cut(self, payloads: Sequence[bytes]) -> bool:
        """Whether a frame without marker lacks its end, although no packet is missing: a server that changes
        the layer or pauses the track does not send the rest, and numbers packets without a gap."""
        assert self._codec is not None
        ends = has_end(self._codec, payloads)
        return self._marks if ends is None else not ends

    def _with_prefix(self, unit: AccessUnit) -> AccessUnit:
        if self._prefix is None:
            return unit
        prefix, self._prefix = self._prefix, None
        takes_size = unit.kind is not UnitKind.DELTA
        return unit._replace(
            data=prefix.data + unit.data,
            width=unit.width or (prefix.width if takes_size else 0),
            height=unit.height or (prefix.height if takes_size else 0),
        )

    def _unit(self, unit: AccessUnit, gathered: _Gathered, now_ns: int) -> None:
        if unit.is_key:
            is_blank = 0 < unit.width <= BLANK_SIDE and 0 < unit.height <= BLANK_SIDE
            self._state = _State.BLANK if is_blank else _State.DECODABLE
        if self._state is _State.BLANK:
            self._blank()
        elif self._state is _State.AWAITS_KEY:
            self._refuse(gathered, now_ns)
        else:
            assert self._codec is not None
            if unit.is_key and self._shown is not self._codec:
                self._shown = self._codec
                self._taker.on_first_key_frame(self._codec, unit)
            self._taker.on_unit(gathered.timestamp, unit, gathered.first_arrival_ns)

    def _blank(self) -> None:
        self._await_key()
        self._taker.on_blank()

    def _refuse(self, gathered: _Gathered, now_ns: int) -> None:
        self._await_key()
        self._prefix = None
        self._taker.on_unusable(gathered.timestamp, gathered.first_arrival_ns, now_ns)

    def _await_key(self) -> None:
        if self._state is _State.DECODABLE:
            self._state = _State.AWAITS_KEY
