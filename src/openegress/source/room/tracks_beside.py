"""Keeps a room's tracks as they come, beside the picture composed from the same frames.

Runs on the event loop, on the composed picture's timeline, and leaves out the same pauses.
"""

from collections import deque
from collections.abc import Collection, Sequence
from typing import cast

from openegress.core.codecs import MediaKind
from openegress.core.pause_mode import PauseMode
from openegress.media import PacketSink
from openegress.media.held_packets import HeldPackets
from openegress.room import EncodedFrame, Track
from openegress.source.memory import Shedding
from openegress.source.room.selection import Selection
from openegress.source.room.track_follower import TrackFollower
from openegress.source.room.tracks_source import RoomTracksSource


class TracksBeside:
    """Implements source.room.subscribed_tracks.Listener. Call start(), then connect(), then stop()."""

    def __init__(self, follower: TrackFollower, kinds: Collection[MediaKind] = frozenset(MediaKind)) -> None:
        """The caller owns `follower`: it joins, subscribes, pauses and closes it. `kinds`: the kinds of
        tracks to keep."""
        self._kinds = kinds
        self._shared = _SharedRoom(follower)
        self._tracks = RoomTracksSource(cast(TrackFollower, self._shared))
        self._packets = HeldPackets()
        self._held: deque[tuple[Track, EncodedFrame]] | None = deque()
        """Frames from before the start, or since a pause; None: frames are taken at once."""
        self._from_ns = 0
        """Frames sent before this are dropped."""
        self._until_ns: int | None = None
        """Frames sent after this are dropped, too. None: there is no limit."""
        self._cut_ns = 0
        """Total time left out so far."""

    async def start(self, zero_ns: int) -> None:
        """Starts the packets. `zero_ns`: unix ns of media time zero."""
        self._shared.arrived[""] = self._from_ns = zero_ns
        await self._tracks.start(self._packets)
        self._take_held()

    def connect(self, sinks: Sequence[PacketSink]) -> None:
        """Gives packets to `sinks` from now on; if they are empty, no output that takes the tracks has
        opened."""
        self._packets.open(sinks)

    def pause(self, mode: PauseMode, paused_ns: int) -> None:
        """Drops media sent from that unix ns on. During a hold, no media comes."""
        if mode is PauseMode.HOLD:
            self._tracks.end_sequences()
        elif self._until_ns is None:
            self._until_ns, self._held = paused_ns, deque()

    def resume(self, resumed_ns: int) -> None:
        """Continues with media sent at this unix ns or later."""
        if self._until_ns is None:
            return
        # Media sent before the pause has arrived by now. The dropped media may contain key frames: new ones
        # are requested.
        self._tracks.end_sequences()
        self._cut_ns += resumed_ns - self._until_ns
        self._until_ns, self._from_ns = None, resumed_ns
        self._take_held()

    async def stop(self) -> None:
        """Writes held packets."""
        await self._tracks.stop()

    # --- Listener

    def on_frame(self, track: Track, frame: EncodedFrame) -> None:
        if track.kind not in self._kinds:
            return
        is_late = self._until_ns is not None and frame.at_ns < self._until_ns
        if self._held is None or is_late:
            self._take(track, frame)
        else:
            self._held.append((track, frame))

    def on_selection(self, selection: Selection) -> None:
        self._shared.selection = selection
        self._tracks.on_selection(selection)

    def shed(self, what: Shedding) -> None:
        """Drops nothing: the composing source does that."""

    # --- inside

    def _take_held(self) -> None:
        held, self._held = self._held or (), None
        for track, frame in held:
            self._take(track, frame)

    def _take(self, track: Track, frame: EncodedFrame) -> None:
        if frame.at_ns >= self._from_ns:
            recorded = frame._replace(at_ns=frame.at_ns - self._cut_ns) if self._cut_ns else frame
            self._tracks.on_frame(track, recorded)


class _SharedRoom:
    """The part of a TrackFollower that a RoomTracksSource uses, without what the other source does."""

    def __init__(self, follower: TrackFollower) -> None:
        self._follower = follower
        self.selection = follower.selection
        self.arrived: dict[str, int] = {}

    def now_ns(self) -> int:
        return self._follower.now_ns()

    def request_key_frame(self, sid: str) -> None:
        self._follower.request_key_frame(sid)

    def batch_reads(self) -> None:
        """Does nothing: the composing source knows whether it may wait."""

    async def release(self) -> None:
        """Does nothing: nothing is subscribed to for the tracks alone."""
