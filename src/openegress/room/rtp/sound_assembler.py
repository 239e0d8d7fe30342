"""Takes the sound of a track from its packets, without redundancy, and decrypts it. Pure."""

from collections import deque
from dataclasses import dataclass
from typing import Protocol

from openegress.core.codecs import AudioCodec
from openegress.room.frame_keys import Undecryptable
from openegress.room.rtp.depacketise import AccessUnit, MalformedPayload, UnitKind, red
from openegress.room.rtp.frame_cipher import TrackCipher
from openegress.room.rtp.packets import RtpPacket
from openegress.room.signalling.sdp import Encoding, PayloadType

MAX_HELD = 400
"""Eight seconds of usual sound: longer than a key service may take."""


@dataclass(frozen=True, slots=True)
class _Sealed:
    timestamp: int
    data: bytes
    arrival_ns: int
    codec: AudioCodec


class SoundTaker(Protocol):
    """Receives the sound."""

    def on_unit(self, timestamp: int, unit: AccessUnit, arrival_ns: int) -> None:
        """Takes a packet of sound. `arrival_ns` is monotonic."""

    def on_lost_sound(self) -> None:
        """Called when sound cannot be used; on_malformed() or on_undecryptable() gives the reason."""

    def on_malformed(self, error: MalformedPayload) -> None: ...

    def on_undecryptable(self, cipher: TrackCipher, error: Undecryptable) -> None: ...


class SoundAssembler:
    """Takes the packets of a track in order, and gives its sound to a SoundTaker."""

    def __init__(self, taker: SoundTaker, cipher: TrackCipher | None) -> None:
        self.cipher = cipher
        self._taker = taker
        self._last_timestamp: int | None = None
        self._held: deque[_Sealed] = deque()
        """Sound whose key is awaited, in order."""

    def restart(self) -> None:
        """Prepares for packets that are unrelated to earlier ones."""
        self._last_timestamp = None
        self._held.clear()

    def put(self, packet: RtpPacket, kind: PayloadType, codec: AudioCodec, now_ns: int) -> None:
        if kind.encoding is not Encoding.RED:
            self._sound(packet.timestamp, packet.payload, packet.arrival_ns, codec, now_ns)
            return
        try:
            blocks = red.split(packet.payload)
        except MalformedPayload as error:
            self._taker.on_lost_sound()
            self._taker.on_malformed(error)
            return
        for block in blocks:
            timestamp = packet.timestamp - block.timestamp_offset & 0xFFFFFFFF
            last = self._last_timestamp
            newer = last is not None and 0 < (timestamp - last & 0xFFFFFFFF) < 1 << 31
            # Repeated blocks only replace lost ones; before the first packet there is no gap to fill. The
            # packet's own block is always new, even if RTP time started again.
            if block.data and (newer or block is blocks[-1]):
                self._sound(timestamp, block.data, packet.arrival_ns, codec, now_ns)

    def retry(self, now_ns: int) -> None:
        """Retries the sound that waits for a key, as it may have arrived."""
        while self._held:
            sealed = self._held.popleft()
            if not self._open(sealed, now_ns):
                self._held.appendleft(sealed)
                return

    def _sound(self, timestamp: int, data: bytes, arrival_ns: int, codec: AudioCodec, now_ns: int) -> None:
        self._last_timestamp = timestamp
        if self.cipher is None:
            self._taker.on_unit(timestamp, AccessUnit(data, UnitKind.KEY), arrival_ns)
        elif not self.cipher.is_injected(data):
            self._held.append(_Sealed(timestamp, data, arrival_ns, codec))
            self.retry(now_ns)

    def _open(self, sealed: _Sealed, now_ns: int) -> bool:
        """Hands out or drops sound. Returns False if it waits for its key."""
        cipher = self.cipher
        if cipher is None:
            return True  # the sender continues unencrypted
        try:
            data = cipher.open(sealed.codec, sealed.data, now_ns)
        except Undecryptable as error:
            if not error.is_certain and len(self._held) < MAX_HELD:
                return False
            self._taker.on_lost_sound()
            self._taker.on_undecryptable(cipher, error)
            return True
        self._taker.on_unit(sealed.timestamp, AccessUnit(data, UnitKind.KEY), sealed.arrival_ns)
        return True
