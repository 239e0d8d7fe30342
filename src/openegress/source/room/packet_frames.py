"""Turns packets of a recorded track into frames of a room, with their senders' RTP timestamps."""

from openegress.core.codecs import AudioCodec, VideoCodec
from openegress.core.units import S
from openegress.media.meeting_file import MeetingPacket
from openegress.media.meeting_track import MeetingTrack
from openegress.room import EncodedFrame
from openegress.room.sound_length import duration_of

AHEAD_NS = 2 * S
"""How far ahead packets are read, because they lie in order of arrival."""
_CLOCK: dict[AudioCodec | VideoCodec, int] = {
    AudioCodec.OPUS: 48_000,
    AudioCodec.PCMU: 8_000,
    AudioCodec.PCMA: 8_000,
    **dict.fromkeys(VideoCodec, 90_000),
}
_JITTER_S = 0.005
"""Sound that follows within less than this has no gap: Matroska stores milliseconds."""


class PacketFrames:
    """Makes frames of the packets of one file."""

    def __init__(self) -> None:
        self._sound_ends: dict[int, int] = {}
        """Where the sound of each track ended so far."""

    def of(self, track: MeetingTrack, packet: MeetingPacket) -> EncodedFrame:
        """The frame of a packet. Call it for each packet of a sound track, in order."""
        return EncodedFrame(
            track_sid=str(track.index),
            codec=track.codec,
            data=packet.data,
            at_ns=packet.at_ns,
            rtp_timestamp=self._stamp(track, packet),
            clock_rate=_CLOCK[track.codec],
            is_key=packet.is_key,
            width=track.width if packet.is_key else 0,
            height=track.height if packet.is_key else 0,
        )

    def _stamp(self, track: MeetingTrack, packet: MeetingPacket) -> int:
        rate = _CLOCK[track.codec]
        stamp = packet.at_ns * rate // S
        if isinstance(track.codec, AudioCodec):
            expected = self._sound_ends.get(track.index)
            if expected is not None and abs(stamp - expected) < _JITTER_S * rate:
                stamp = expected
            self._sound_ends[track.index] = stamp + duration_of(track.codec, packet.data)
        return stamp
