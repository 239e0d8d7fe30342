"""Decrypts the frames of tracks that are encrypted end to end. Pure.

LiveKit's format (client-sdk-js, src/e2ee/worker/FrameCryptor.ts; frame_crypto_transformer.cc of its WebRTC):

    clear bytes | AES-128-GCM ciphertext and tag | IV | length of the IV | index of the key

The clear bytes are authenticated. Their number depends on the codec. In H264 and H265, everything after them
has emulation prevention bytes, because it passes for a NAL unit. At the end, a sender may append metadata of
a picture (frameMetadata.ts: inverted numbers, their length, "LKTS"), which is cut off.
"""

import glob
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Protocol

from openegress.core.annex_b import BEGIN
from openegress.core.codecs import MIME_CODECS, AudioCodec, VideoCodec
from openegress.core.room_keys import KEY_RING, RoomKey
from openegress.core.room_patterns import fits
from openegress.room import Lock, Track, TrackEncryption
from openegress.room.budget import Reason
from openegress.room.frame_keys import Buffer, KeyChain, KeyRing, Undecryptable
from openegress.room.rtp.depacketise import AccessUnit, UnitKind, join_video, join_vp9

IV_BYTES = 12
TAG_BYTES = 16
TRAILER_BYTES = IV_BYTES + 2
METADATA_MARK = b"LKTS"
MAX_FAILURES = 25
"""Frames in a row that no key fits before the track is left out: half a second of sound. A key may change a
moment before its sender's frames do."""

DECRYPTED = frozenset({*AudioCodec, VideoCodec.VP8, VideoCodec.VP9, VideoCodec.H264, VideoCodec.H265})
"""Codecs that can be decrypted. LiveKit's SDKs do not encrypt AV1: a sender must read the OBUs to split them
into packets."""

_H264_SLICES = frozenset({1, 5})
_H265_SLICES = frozenset({*range(10), *range(16, 22)})


_Place = tuple[tuple[str, ...], int]
"""The participant whose key is missing, and its index."""


class KeyAsking(Protocol):
    """Asks a key service for missing keys."""

    def want(self, identity: str, index: int | None = None) -> bool:
        """Asks for a missing key of a participant; `index`: which one. Returns whether an answer is
        expected."""


class TrackCipher:
    """Decrypts one track."""

    def __init__(self, room: "RoomCipher", identity: str) -> None:
        self._room = room
        self._identity = identity
        self._failures = 0
        """Failures in a row."""

    def is_injected(self, payload: bytes) -> bool:
        """Whether the server made this frame, whose last RTP payload is given: silence, or a blank
        picture."""
        mark = self._room.server_mark
        return bool(mark) and payload.endswith(mark)

    def open(self, codec: AudioCodec | VideoCodec, frame: bytes, now_ns: int) -> bytes:
        """Decrypts a frame as sent; H264 has start codes of four bytes. Returns it as its encoder made it.
        Raises Undecryptable."""
        try:
            plain = self._open(codec, frame, now_ns)
        except Undecryptable as error:
            self._failures += error.is_certain
            raise
        self._failures = 0
        return plain

    def join(self, codec: VideoCodec, payloads: Sequence[bytes], now_ns: int) -> AccessUnit:
        """Joins the payloads of a frame like depacketise.join_video(), and decrypts it. Raises
        MalformedPayload or Undecryptable."""
        if codec is VideoCodec.VP9:  # its headers are encrypted too, layer by layer
            return join_vp9(payloads, partial(self.open, codec, now_ns=now_ns))
        unit = join_video(codec, payloads)
        if unit.kind is UnitKind.PARAMETERS:
            return unit
        return unit._replace(data=self.open(codec, unit.data, now_ns))

    def trouble(self) -> Reason | None:
        """Call it after a frame that could not be decrypted. A reason to leave the track out, or None."""
        if self._failures < MAX_FAILURES:
            return None
        self._failures = 0
        has_opened = self._room.ring(self._identity).has_opened
        return Reason.KEY_CHANGED if has_opened else Reason.WRONG_KEY

    def _open(self, codec: AudioCodec | VideoCodec, frame: bytes, now_ns: int) -> bytes:
        if codec not in DECRYPTED:
            raise Undecryptable(f"{codec} is not decrypted")
        frame = _without_metadata(frame)
        clear = _clear_bytes(codec, frame)
        head = frame[:clear]
        sealed = memoryview(frame)[clear:]
        if codec in (VideoCodec.H264, VideoCodec.H265):
            sealed = memoryview(bytes(sealed).replace(b"\0\0\3", b"\0\0"))
        if len(sealed) < TAG_BYTES + TRAILER_BYTES or sealed[-2] != IV_BYTES:
            raise Undecryptable("the frame is not encrypted")
        end = len(sealed) - TRAILER_BYTES
        iv = sealed[end : end + IV_BYTES]
        return head + self._room.decrypt(self._identity, sealed[-1], iv, sealed[:end], head, now_ns)


class RoomCipher:
    """The keys of a room; without one, no frame of an encrypted track can be decrypted."""

    def __init__(self, keys: Sequence[RoomKey], executor: Executor, asking: KeyAsking | None = None) -> None:
        """`executor`: see KeyChain. `asking`: None without a key service."""
        self._executor = executor
        self._asking = asking
        self._configured = [KeyChain(key, executor) for key in keys]
        for chain in self._configured:
            chain.has(0, 0)
        self._given: dict[_Place, KeyChain] = {}
        """Keys from the key service."""
        self._given_before: dict[_Place, KeyChain] = {}
        """Keys that were replaced: frames on their way are still encrypted with these."""
        self._rings: dict[str, KeyRing] = {}
        self.server_mark = b""
        """The end of frames that the server made itself (JoinResponse.sif_trailer); empty: there are none."""

    def take(self, keys: Sequence[RoomKey]) -> bool:
        """Takes keys from the key service. Each replaces the participant's key of the same index. False: no
        new key."""
        is_news = False
        for key in keys:
            place = (key.identities, key.index)
            before = self._given.get(place)
            if before is not None and before.key == key:
                continue
            is_news = True
            earlier = self._given_before.get(place)
            back_again = earlier is not None and earlier.key == key
            self._given[place] = earlier if earlier and back_again else KeyChain(key, self._executor)
            if before is not None:
                self._given_before[place] = before
        for identity, ring in self._rings.items():
            ring.hold(self._chains_of(identity))
            ring.prepare(0)
        return is_news

    def lacks_key(self, track: Track) -> bool:
        """Whether the track has LiveKit's encryption, and there is no key of its participant."""
        return track.encryption is TrackEncryption.GCM and self.ring(track.participant.identity).is_empty

    def lock(self, track: Track) -> Lock | None:
        """See Room.lock."""
        if track.encryption is TrackEncryption.NONE:
            return None
        if track.encryption is TrackEncryption.CUSTOM:
            return Lock.CUSTOM
        codec = MIME_CODECS.get(track.mime_type.lower())
        if codec is not None and codec not in DECRYPTED:
            return Lock.CODEC
        identity = track.participant.identity
        if not self.ring(identity).is_empty:
            return None
        if self._asking is None:
            return Lock.NO_KEY
        return Lock.AWAITED if self._asking.want(identity) else Lock.NOT_GIVEN

    def of(self, identity: str, now_ns: int = 0) -> TrackCipher:
        """The cipher for a track of that participant, which is about to be received."""
        self.ring(identity).prepare(now_ns)
        return TrackCipher(self, identity)

    def open_data(self, identity: str, index: int, iv: bytes, sealed: bytes, now_ns: int) -> bytes:
        """Decrypts a data packet of that participant (client-sdk-js, src/e2ee/worker/DataCryptor.ts): AES-GCM
        with the keys of its frames. Raises Undecryptable."""
        if self.ring(identity).is_empty and self._asking is None:
            raise Undecryptable(Lock.NO_KEY)
        if len(iv) != IV_BYTES or len(sealed) < TAG_BYTES:
            raise Undecryptable("the packet is not encrypted as LiveKit does it")
        return self.decrypt(identity, index, iv, sealed, b"", now_ns)

    def decrypt(
        self, identity: str, index: int, iv: Buffer, sealed: Buffer, clear: Buffer, now_ns: int
    ) -> bytes:
        """Decrypts like KeyRing.decrypt(), and requests a missing key."""
        try:
            return self.ring(identity).decrypt(index, iv, sealed, clear, now_ns)
        except Undecryptable as error:
            if self._asking is not None and error.index is not None and error.is_likely:
                is_awaited = self._asking.want(identity, error.index)
                error.is_certain = error.is_certain and not is_awaited
            raise

    def ring(self, identity: str) -> KeyRing:
        ring = self._rings.get(identity)
        if ring is None:
            ring = self._rings[identity] = KeyRing()
            ring.hold(self._chains_of(identity))
        return ring

    def _chains_of(self, identity: str) -> Iterator[KeyChain]:
        places = [(whose, index) for whose in ((glob.escape(identity),), ()) for index in range(KEY_RING)]
        yield from (self._given[place] for place in places if place in self._given)
        for chain in self._configured:
            if not chain.key.identities or fits(identity, chain.key.identities):
                yield chain
        yield from (self._given_before[place] for place in places if place in self._given_before)


def _without_metadata(frame: bytes) -> bytes:
    """Cuts off metadata. No encrypted frame ends like it: its last byte but one is the length of the IV."""
    if not frame.endswith(METADATA_MARK):
        return frame
    size = frame[-len(METADATA_MARK) - 1 : -len(METADATA_MARK)]
    return frame[: -(size[0] ^ 0xFF)] if size and len(METADATA_MARK) < size[0] ^ 0xFF < len(frame) else frame


def _clear_bytes(codec: AudioCodec | VideoCodec, frame: bytes) -> int:
    match codec:
        case VideoCodec.VP8:
            return 3 if frame[0] & 1 else 10
        case VideoCodec.H264 | VideoCodec.H265:
            return _slice_header(codec, frame)
        case VideoCodec.VP9:
            return 0
        case _:
            return 1


def _slice_header(codec: AudioCodec | VideoCodec, frame: bytes) -> int:
    """The length up to the second byte of the first slice, whatever its value."""
    for start in BEGIN.finditer(frame):
        first = start[1][0]
        if codec is VideoCodec.H264:
            is_slice = first & 0x1F in _H264_SLICES
        else:
            is_slice = first >> 1 & 0x3F in _H265_SLICES
        if is_slice:
            return start.end() + 1
    raise Undecryptable("the frame has no slice")
