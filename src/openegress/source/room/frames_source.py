"""Turns a room's tracks into raw frames: decoded, fitted, mixed, and evenly paced.

The event loop queues encoded frames; one thread decodes all tracks and feeds the sink. A picture gets its
slot's time, never "now": a late tick does not make the recording late.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Collection

from openegress.core.codecs import MediaKind
from openegress.core.end_rules import EndRules
from openegress.core.errors import Phase, internal
from openegress.core.pause_mode import PauseMode
from openegress.core.plan import VideoEncoding
from openegress.core.units import S
from openegress.media import FrameSink
from openegress.media.canvas import Canvas
from openegress.media.overlays import Overlays
from openegress.room import EncodedFrame, Track
from openegress.source import SourceEvent, SourceStats
from openegress.source.memory import Shedding
from openegress.source.room.clock import LONGEST_WAIT_S, slots_at_once
from openegress.source.room.compositor import Compositor
from openegress.source.room.inbox import Inbox
from openegress.source.room.key_requests import KeyRequests
from openegress.source.room.paced_output import PacedOutput, TimeSpent, Until
from openegress.source.room.passthrough_source import FIRST_MEDIA_S, name_values
from openegress.source.room.pause_card import CARD
from openegress.source.room.regular_drain import LOOK_S, RELAXED_LOOK_S, RegularDrain
from openegress.source.room.selection import Selection
from openegress.source.room.timeline import RoomTimeline
from openegress.source.room.track_follower import TrackFollower
from openegress.source.room.tracks_beside import TracksBeside

AUDIO_TICK_S = 0.04
"""Tick of a recording without pictures: two blocks at a time."""
RELAXED_AUDIO_TICK_S = 0.2
"""Tick of a recording without pictures whose sound nobody waits for: a thread that wakes up rarely costs half
as much."""


class RoomFrameSource:
    """Implements source.Source."""

    def __init__(
        self,
        follower: TrackFollower,
        video: VideoEncoding | None,
        *,
        with_audio: bool,
        watched: bool = False,
        overlays: Overlays | None = None,
    ) -> None:
        """`follower` has joined; the source closes it. `watched`: somebody waits for the output."""
        self._follower = follower
        self._compositor = Compositor(
            Canvas(video.width, video.height) if video else None,
            video.framerate if video else 0,
            with_audio=with_audio,
            overlays=overlays,
        )
        self._is_watched = watched
        self._tick_s = _tick_s(video, watched)
        self._output = PacedOutput(
            self._compositor,
            video.framerate if video else None,
            with_audio=with_audio,
            tick_ns=round(self._tick_s * S),
        )
        self._inbox = Inbox()
        self._loop = asyncio.get_running_loop()
        self._sink: FrameSink | None = None
        self._timeline = RoomTimeline()
        self._drain = RegularDrain(follower, LOOK_S if watched or video else RELAXED_LOOK_S)
        self._stopping = threading.Event()
        self._stop_ns = 0
        self._thread: threading.Thread | None = None
        self._keys = KeyRequests()

    def keep_tracks(self, kinds: Collection[MediaKind]) -> TracksBeside:
        """Call it before prepare(): received media of these kinds also goes there."""
        beside = TracksBeside(self._follower, kinds)
        self._follower.listen_too(beside)
        return beside

    async def prepare(self) -> None:
        await self._follower.subscribe(self)
        await self._follower.wait_for_media(FIRST_MEDIA_S)

    def name_values(self) -> dict[str, str]:
        """The filename placeholders that only the room knows. Available once the room is joined."""
        return name_values(self._follower.selection.tracks)

    async def start(self, sink: FrameSink) -> int:
        selected = {track.sid for track in self._follower.selection.tracks}
        arrived = [at_ns for sid, at_ns in self._follower.arrived.items() if sid in selected]
        self._begin(sink, max(arrived, default=0) or self._follower.now_ns())
        return self._timeline.zero_ns

    def start_since(self, sink: FrameSink, since_ns: int) -> None:
        """Call it instead of start() if media time zero was this long ago."""
        self._begin(sink, self._follower.now_ns() - since_ns)

    def delay(self, by_ns: int) -> None:
        """Moves media that arrives from now on later on the timeline by this. Call it in the event loop."""
        self._timeline.delay(by_ns)

    def _begin(self, sink: FrameSink, zero_ns: int) -> None:
        self._timeline.begin(zero_ns, self._follower.now_ns())
        self._compositor.begin(zero_ns)
        if not self._is_watched:
            self._follower.batch_reads()
        self._sink = sink
        self._drain.begin()
        self._take(0)  # waiting for tracks begins at media time zero
        self._thread = threading.Thread(target=self._run, name="room frames")
        self._thread.start()

    async def pause(self, mode: PauseMode) -> int:
        """Stops receiving: the recording leaves the time out or shows a card. Returns when the pause began,
        in unix ns. Raises EgressError if the tracks cannot be unsubscribed; the recording then continues."""
        now_ns = self._follower.now_ns()
        if mode is PauseMode.HOLD:
            paused_ns = self._timeline.hold(now_ns)
            self._inbox.put((paused_ns, CARD))
        else:
            paused_ns = self._timeline.pause(now_ns)
        try:
            await self._follower.pause()
        except BaseException:
            # A failed pause must not leave out all later media.
            self._go_on(self._follower.now_ns())
            raise
        return paused_ns

    async def resume(self) -> int:
        """Continues the recording as soon as media arrives. Returns when it continued, in unix ns. Raises
        EgressError if the room closed meanwhile."""
        if self._timeline.held_ns is not None:
            # Their tiles are there at once, and wait for their pictures.
            resumed_ns = self._go_on(self._follower.now_ns())
            await self._follower.resume(FIRST_MEDIA_S)
            return resumed_ns
        return self._go_on(await self._follower.resume(FIRST_MEDIA_S))

    def _go_on(self, at_ns: int) -> int:
        """Continues the timeline. Returns when it continued, in unix ns."""
        was_held = self._timeline.held_ns is not None
        resumed_ns = self._timeline.resume(at_ns, self._follower.now_ns())
        if was_held:
            self._inbox.put((resumed_ns, self._follower.selection))
        return resumed_ns

    async def change_rules(self, rules: EndRules) -> None:
        await self._follower.change_rules(rules)

    @property
    def overlays(self) -> Overlays | None:
        """The overlays; None: the recording has no picture."""
        return self._compositor.overlays

    async def change_layout(self, metadata: str) -> None:
        """Applies the recorder's metadata."""
        await self._follower.change_layout(metadata)

    def events(self) -> AsyncIterator[SourceEvent]:
        return self._follower.events()

    async def stop(self) -> None:
        self._stop_ns = self._stop_ns or self._follower.now_ns()
        await self._follower.release()
        self._drain.end()
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(thread.join)

    async def close(self) -> None:
        await self._follower.close()

    def now_ns(self) -> int:
        if self._sink is None:
            return 0
        return self._timeline.due_ns(self._follower.now_ns()) - self._output.excused_ns

    def stats(self) -> SourceStats:
        left_out = self._output.left_out
        given = self._output.next_picture - left_out
        return SourceStats(given, self._compositor.unique, left_out, self._follower.losses())

    # --- Listener, on the event loop

    def on_frame(self, track: Track, frame: EncodedFrame) -> None:
        if (held_ns := self._timeline.held_ns) is not None and frame.at_ns >= held_ns:
            return  # it was already on its way
        self._inbox.put((track, frame))
        if self._sink is None and not self._output.has_pictures:
            self._inbox.forget_early(frame.at_ns)

    def on_selection(self, selection: Selection) -> None:
        if self._timeline.held_ns is None:
            self._inbox.put((self._follower.now_ns(), selection))

    def shed(self, what: Shedding) -> None:
        self._inbox.put(what)

    # --- the thread

    def _run(self) -> None:
        try:
            tick = 0
            began_ns = self._follower.now_ns()
            while True:
                tick += 1
                wait_ns = began_ns + round(tick * self._tick_s * S) - self._follower.now_ns()
                if wait_ns < 0:
                    tick -= wait_ns // round(self._tick_s * S)  # missed ticks are not made up for
                elif self._stopping.wait(wait_ns / S):
                    break
                if self._stopping.is_set():
                    break
                now_ns = self._follower.now_ns()
                self._take(self._timeline.ns(now_ns))
                self._give(now_ns)
            self._finish()
        except Exception as error:
            failure = internal(f"decoding failed: {error!r}", Phase.RECORDING)
            self._loop.call_soon_threadsafe(self._follower.fail, failure)

    def _take(self, now_ns: int) -> None:
        """Takes everything that has arrived; `now_ns` is media time."""
        for item in self._inbox.take_all():
            match item:
                case int(at_ns), Selection() as selection:
                    self._compositor.select(selection, max(0, self._timeline.ns(at_ns)))
                case Track() as track, EncodedFrame() as frame:
                    self._compositor.put(track, self._timeline.frame_ns(frame.at_ns), frame)
                case Shedding() as what:
                    self._compositor.shed(what)
        for sid in self._keys.due(self._compositor.keys_wanted(), now_ns):
            self._loop.call_soon_threadsafe(self._follower.request_key_frame, sid)
        for sid, reason in self._compositor.take_troubles().items():
            self._loop.call_soon_threadsafe(self._follower.leave_out, sid, reason)

    def _give(self, now_ns: int) -> None:
        """Gives everything due at `now_ns`, unix ns."""
        timeline = self._timeline
        known_ns = self._drain.known_ns(now_ns)
        due_ns = timeline.due_ns(now_ns)
        self._give_until(
            self._output.until(due_ns, timeline.ns(now_ns), timeline.ns(known_ns), timeline.cuts)
        )

    def _give_until(self, until: Until) -> None:
        assert self._sink is not None
        timeline = self._timeline
        spent = TimeSpent(self._follower.now_ns, self._follower.now_ns(), self._stop_ns)
        self._output.give(self._sink, until, timeline.cuts, timeline.holds, spent)

    def _finish(self) -> None:
        end_ns = self._timeline.ns(self._stop_ns)
        self._take(end_ns)
        self._give_until(self._output.until_end(self._timeline.cuts.recorded_ns(end_ns)))


def _tick_s(video: VideoEncoding | None, watched: bool) -> float:
    """Interval between two outputs."""
    if video is None:
        return AUDIO_TICK_S if watched else RELAXED_AUDIO_TICK_S
    return min(LONGEST_WAIT_S, (1 if watched else slots_at_once(video.framerate)) / video.framerate)
