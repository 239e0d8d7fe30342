"""Joins a room for one egress, keeps the selection subscribed as tracks come and go, and detects the end.

The client owns the room, `selection` decides what to record, and the listener handles frames. Everything here
runs on the event loop.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

from openegress.core.end_rules import EndRules
from openegress.core.errors import EgressError, Phase, internal, invalid
from openegress.core.events import Rejoined
from openegress.core.left_out import TrackLosses
from openegress.core.tasks import cancelled
from openegress.room import Room, Track
from openegress.room.budget import Reason
from openegress.room.events import (
    ConnectionLost,
    DataLocked,
    EndKind,
    KeyFrameArrived,
    KeysAnswered,
    MediaArrived,
    OwnMetadataChanged,
    ParticipantChanged,
    ParticipantJoined,
    ParticipantLeft,
    PauseAttributeChanged,
    Reconnected,
    RoomClosed,
    RoomEvent,
    SpeakersChanged,
    SubscriptionFailed,
    TrackLeftOut,
    TrackMuted,
    TrackPublished,
    TrackSubscribed,
    TrackTakenAgain,
    TrackUnpublished,
)
from openegress.source import Closed, Failed, Muted, SourceEvent
from openegress.source.room import room_failures
from openegress.source.room.awaited import WaitLimits, not_found, refuse_useless
from openegress.source.room.grace import GracePeriod
from openegress.source.room.locked_tracks import LockedTracks
from openegress.source.room.memory_watch import watch_memory
from openegress.source.room.observed_room import ObservedRoom
from openegress.source.room.reselection import Reselection
from openegress.source.room.selection import Missing, Selection, Verdict
from openegress.source.room.source_events import ENDS, SourceEvents
from openegress.source.room.subscribed_tracks import Intake, Listener, SubscribedTracks
from openegress.source.room.track_policy import RoomState, TrackPolicy


class TrackFollower:
    """Joins a room, waits for what the request names, follows it, and ends."""

    def __init__(
        self,
        room: Room,
        room_name: str,
        policy: TrackPolicy,
        patience: WaitLimits | None = None,
        memory_bytes: int = 0,
        *,
        has_layout: bool = True,
    ) -> None:
        """`memory_bytes`: what this process may use before it sheds media; 0: all there is. `has_layout`: the
        policy lays out the room."""
        self._room = room
        self._policy = policy
        self._patience = patience or WaitLimits()
        self._memory_bytes = memory_bytes
        self._events = SourceEvents(room_name, has_layout=has_layout)
        self._tracks = SubscribedTracks(room)
        self._locked = LockedTracks(room.lock, self.notice)
        self._reselection = Reselection(self._select_anew, self.fail)
        self._grace = GracePeriod(self._patience, lambda: self._events.end(Closed()))
        self._connecting: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._speakers: tuple[str, ...] = ()
        self._metadata = ""
        self._began = False

    @property
    def selection(self) -> Selection:
        return self._tracks.selection

    @property
    def arrived(self) -> dict[str, int]:
        """Unix ns of the first packet of each track, by SID."""
        return self._tracks.arrived

    @property
    def key_frames(self) -> dict[str, KeyFrameArrived]:
        """The first key frame of each video track, by SID."""
        return self._tracks.key_frames

    async def join(self) -> None:
        """Joins, and waits until everything that the request names is there.

        Raises EgressError: NOT_FOUND for a track or participant that does not appear, or the room client's
        error about the connection.
        """
        await self._room.join()
        self._connecting = asyncio.create_task(self._connect(), name="room media path")
        self._tasks += [asyncio.create_task(self._follow(), name="room events"), self._connecting]
        self._reselect()
        await self._wait_for_requested()
        wrong = self._policy.wrong_kind(self._state())
        if wrong:
            raise invalid(f"track {wrong} is not of the requested kind: audio or video")
        self._began = True

    def observe(self, observer: ObservedRoom) -> None:
        """Adds the events that `observer` sees of the room to ours. Call it before join()."""
        self._events.observer = observer

    def take_best(self) -> None:
        """Call it before subscribe(): every video comes in the best available quality."""
        self._tracks.take_best()

    def listen_too(self, listener: Listener) -> None:
        """Call it before subscribe(): `listener` gets everything the other one gets."""
        self._tracks.listen_too(listener)

    async def subscribe(self, listener: Listener) -> None:
        """Sends frames and changes to `listener` from here on. Returns when the media path is up.

        Raises EgressError if it does not come up, or the room closed meanwhile.
        """
        self._tracks.listen(listener)
        watching = watch_memory(self._memory_bytes, listener.shed, self._events.notice)
        self._tasks.append(asyncio.create_task(watching, name="room memory"))
        await self._apply()
        assert self._connecting is not None
        await asyncio.wait({self._connecting})
        self._events.refuse_if_over()

    async def wait_for_media(self, timeout_s: float) -> None:
        """Waits until each selected, unmuted track has sent its first packet, or time is up.

        Raises EgressError if the room closed meanwhile.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._events.wait_until(lambda: self._tracks.have_arrived)
        except TimeoutError:
            self.notice("no media from some tracks yet", after_s=timeout_s)

    async def first_key_frame(self, sid: str) -> KeyFrameArrived:
        """Waits for the first key frame of a track. Raises EgressError if the room closed meanwhile."""
        await self._events.wait_until(lambda: sid in self.key_frames)
        return self.key_frames[sid]

    async def release(self) -> None:
        """Unsubscribes; media that the room client still holds reaches the listener first."""
        await self._tracks.release()

    async def pause(self) -> None:
        """Unsubscribes; media that the room client still holds reaches the listener first."""
        self._tracks.take_in(Intake.NOTHING)
        await self._apply()

    async def resume(self, timeout_s: float) -> int:
        """Subscribes again. Returns the unix ns at which the last of the tracks arrived, or now if there are
        none. Raises like wait_for_media()."""
        self._tracks.take_in(Intake.SELECTED)
        await self._apply()
        await self.wait_for_media(timeout_s)
        arrived_ns = self._tracks.last_arrival_ns()
        return self.now_ns() if arrived_ns is None else arrived_ns

    async def change_rules(self, rules: EndRules) -> None:
        """Replaces the rules that end the recording automatically."""
        self._policy.change_rules(rules)
        await self._reselection.change()

    async def change_layout(self, metadata: str) -> None:
        """Applies the layout in the recorder's metadata."""
        self._metadata = metadata
        await self._reselection.change()

    def now_ns(self) -> int:
        """Unix time on the frames' clock."""
        return self._room.now_ns()

    def batch_reads(self) -> None:
        """See Room."""
        self._room.batch_reads()

    def drain(self) -> None:
        """See Room."""
        self._room.drain()

    def request_key_frame(self, sid: str) -> None:
        self._room.request_key_frame(sid)

    def leave_out(self, sid: str, reason: Reason) -> None:
        """See Room."""
        self._room.leave_out(sid, reason)

    def losses(self) -> tuple[TrackLosses, ...]:
        """See Room."""
        return (*self._room.losses(), *self._locked.losses())

    def fail(self, error: EgressError) -> None:
        """Ends the recording with an error."""
        self._events.end(Failed(error))

    def notice(self, text: str, **fields: str | int | float | bool | None) -> None:
        self._events.notice(text, **fields)

    def events(self) -> AsyncIterator[SourceEvent]:
        """The events until close(), with at most one Closed or Failed."""
        return self._events.stream()

    async def close(self) -> None:
        """Leaves the room. Idempotent."""
        self._tracks.stop_listening()
        self._grace.revoke()
        tasks, self._tasks = self._tasks, []
        await cancelled(*tasks)
        await self._reselection.close()
        await self._room.close()
        self._events.close()

    # --- waiting for the start

    async def _wait_for_requested(self) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        while (missing := self._missing())[0] is not Missing.NOTHING:
            limit_s = self._patience.limit_s(missing[0])
            try:
                async with asyncio.timeout_at(None if limit_s is None else began_s + limit_s):
                    await self._events.next_change()
            except TimeoutError:
                raise not_found(*missing) from None

    def _missing(self) -> tuple[Missing, str]:
        """What the recording waits for. Raises EgressError if waiting is useless, or the room is closed."""
        self._events.refuse_if_over()
        what, name = self._policy.missing(self._state(), self.selection)
        refuse_useless(what, name, self._room.tracks(), self._why_useless)
        return what, name

    def _why_useless(self, track: Track, what: Missing) -> str:
        return self._locked.why(track) or self._policy.refusal(track, what)

    async def _connect(self) -> None:
        try:
            await self._room.connected()
        except EgressError as error:
            self.fail(error)

    # --- following the room

    async def _follow(self) -> None:
        try:
            async for event in self._room.events():
                await self._on_event(event)
        except EgressError as error:
            self.fail(error)
        except Exception as error:
            self.fail(internal(f"the room could not be followed: {error!r}", Phase.RECORDING))
        finally:
            self._events.wake()

    async def _on_event(self, event: RoomEvent) -> None:
        self._events.observe(event, self.now_ns())
        match event:
            case (
                TrackPublished()
                | TrackUnpublished()
                | TrackMuted()
                | ParticipantJoined()
                | ParticipantLeft()
                | ParticipantChanged()
            ):
                if isinstance(event, TrackMuted) and self._is_single(event.track):
                    self._events.put(Muted(event.track.muted, self.now_ns()))
                await self._reselection.change()
            case SpeakersChanged(identities):
                self._speakers = identities
                await self._reselection.change()
            case OwnMetadataChanged() | PauseAttributeChanged():
                if self._events.take_orders(event) and isinstance(event, OwnMetadataChanged):
                    await self.change_layout(event.metadata)
            case MediaArrived(track, at_ns):
                self.arrived.setdefault(track.sid, at_ns)
                self._events.wake()
            case KeyFrameArrived(track):
                self.key_frames[track.sid] = event
                self._events.wake()
            case TrackSubscribed(track, codec):
                self.notice("track subscribed", track=track.sid, codec=codec.value)
            case SubscriptionFailed(sid, reason):
                self._on_subscription_failed(sid, reason)
            case TrackLeftOut(sid, identity, why, for_s):
                self.notice("track left out", track=sid, identity=identity, reason=str(why), for_s=for_s)
                if why is Reason.WRONG_KEY:
                    self._refuse_named(sid, identity)
                await self._reselection.change()
            case TrackTakenAgain(sid, identity):
                self.notice("track taken again", track=sid, identity=identity)
                await self._reselection.change()
            case ConnectionLost(reason):
                self.notice("connection to room lost", reason=reason)
                # Nobody has left: the recorder just cannot see them.
                self._grace.mark_rejoin()
                self._grace.revoke()
            case Reconnected(after_s):
                self.notice("connection to room is back", after_s=after_s)
                self._events.put(Rejoined(time.time_ns(), after_s))
                self._grace.mark_rejoin()
                await self._reselection.change()
            case RoomClosed(reason, kind):
                self._on_closed(reason, kind)
            case KeysAnswered(problem):
                self._locked.answered(problem)
                await self._reselection.change()
            case DataLocked(identity, reason):
                self.notice("data left out: it is end-to-end encrypted", identity=identity, reason=reason)

    def _refuse_named(self, sid: str, identity: str) -> None:
        """Fails the recording if it is for this track, of which nothing could be decrypted so far."""
        track = next((each for each in self.selection.tracks if each.sid == sid), None)
        if track is not None and self._policy.names(track, self.selection):
            self.fail(room_failures.undecipherable(sid, identity))

    def _is_single(self, track: Track) -> bool:
        """Whether it is the only recorded track, whatever its current SID."""
        return bool(self._policy.single_track_id) and any(t.sid == track.sid for t in self.selection.tracks)

    def _on_subscription_failed(self, sid: str, reason: str) -> None:
        if not self._tracks.takes(sid):
            return
        self.notice("failed to subscribe to track", track=sid, reason=reason)
        if self._policy.needs(sid, self.selection):
            self.fail(room_failures.not_subscribed(sid, reason))

    def _on_closed(self, reason: str, kind: EndKind) -> None:
        if kind is EndKind.OVER:
            self._events.end(Closed())
            return
        phase = Phase.RECORDING if self._began else Phase.SIGNALLING
        self.fail(room_failures.connection_failed(reason, kind, phase))

    def _state(self) -> RoomState:
        out = self._room.left_out()
        tracks = [track for track in self._room.tracks() if self._room.lock(track) is None]
        return RoomState(
            # A track that is left out sends nothing, so it counts as muted.
            [replace(track, muted=True) if track.sid in out else track for track in tracks],
            self._room.participants(),
            self._speakers,
            self._metadata,
            self._grace.last_rejoin,
            asyncio.get_running_loop().time(),
        )

    def _reselect(self) -> None:
        state = self._state()
        self._tracks.selection = selection = self._policy.select(state, self.selection)
        self._locked.look(self._room.tracks(), lambda track: self._policy.wants(track, selection))
        self._events.wake()
        self._reselection.at(self._policy.recheck_at_s)
        if self._began:
            self._judge(state)

    async def _select_anew(self) -> None:
        self._reselect()
        await self._apply()

    async def _apply(self) -> None:
        if not self._events.is_over:
            await self._tracks.apply()

    def _judge(self, state: RoomState) -> None:
        match self._policy.verdict(state, self.selection):
            case Verdict.GO_ON:
                self._grace.revoke()
            case Verdict.END_UNLESS_BACK:
                self._grace.begin(state.last_rejoin)
            case verdict:
                self._events.end(ENDS[verdict])
