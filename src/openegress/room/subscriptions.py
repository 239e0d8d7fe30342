"""The subscribed tracks, each with its receiver, and the requests about them to the server."""

import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from livekit.protocol.models import ParticipantTracks
from livekit.protocol.models import VideoQuality as NumberedQuality
from livekit.protocol.rtc import UpdateSubscription, UpdateTrackSettings

from openegress.core.codecs import MIME_CODECS, AudioCodec, VideoCodec
from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.left_out import TrackLosses
from openegress.core.tasks import SideTasks
from openegress.core.units import MS
from openegress.room import OnFrame, Track, TrackEncryption, TrackKey, VideoQuality
from openegress.room.budget import KEY_REASONS, Reason, Standing
from openegress.room.demux import Demux
from openegress.room.events import (
    KeyFrameArrived,
    MediaArrived,
    RoomEvent,
    TrackLeftOut,
    TrackSubscribed,
    TrackTakenAgain,
)
from openegress.room.receiver import TrackReceiver
from openegress.room.rtp.depacketise import AccessUnit
from openegress.room.rtp.frame_cipher import RoomCipher, TrackCipher
from openegress.room.signalling import layers, sdp
from openegress.room.signalling.roster import Roster
from openegress.room.standings import Standings
from openegress.room.sync.participant import RoomSync
from openegress.room.unix_clock import UnixClock

MAX_PAST_LOSSES = 200
"""Limit for the tracks in records."""


class Send(Protocol):
    """Sends one message of SignalRequest, by its name, to the server; does nothing without a connection."""

    def __call__(self, **message: object) -> Awaitable[None]: ...


@dataclass(slots=True)
class _Subscription:
    key: TrackKey
    receiver: TrackReceiver
    standing: Standing
    out_before_ns: int
    """How long the track had been left out when it was subscribed to."""
    quality: VideoQuality | None = None
    told: AudioCodec | VideoCodec | None = None
    """The codec of the last TrackSubscribed."""
    arrived: bool = False


class Subscriptions:
    """The subscribed tracks. Receivers outlive connections and SIDs: a track that comes back under another
    SID keeps its receiver."""

    def __init__(
        self,
        roster: Roster,
        cipher: RoomCipher,
        clock: UnixClock,
        send: Send,
        emit: Callable[[RoomEvent], None],
    ) -> None:
        self._roster = roster
        self._cipher = cipher
        self._clock = clock
        self._send = send
        self._emit = emit
        self._sync = RoomSync()
        self._by_sid: dict[str, _Subscription] = {}
        self._past_losses: deque[TrackLosses] = deque(maxlen=MAX_PAST_LOSSES)
        """Losses of tracks that are no longer subscribed to."""
        self._standings = Standings(self._take_again)
        self._requests = SideTasks("a request to the server could not be made")
        self.demux = Demux(self._codec_known, self._key_frame_seen, self._in_trouble)

    # --- what is wanted

    async def add(self, sids: Iterable[str], on_frame: OnFrame) -> None:
        """See Room.subscribe."""
        fresh = []
        for sid in sids:
            known = self._by_sid.get(sid)
            if known is not None:
                known.receiver.on_frame = on_frame
                continue
            track = self._roster.track(sid)
            if track is None:
                raise EgressError(
                    Code.NOT_FOUND,
                    f"track {sid} is not published in this room",
                    fault=Fault.CALLER,
                    phase=Phase.FIRST_TRACK,
                )
            self._by_sid[sid] = self._subscription_to(track, on_frame)
            fresh.append(sid)
        if fresh:
            await self._request(fresh, subscribe=True)
            for sid in self.left_out().intersection(fresh):
                await self._request_settings(sid)

    async def remove(self, sids: Iterable[str]) -> None:
        gone = [sid for sid in sids if self.drop(sid)]
        if gone:
            await self._request(gone, subscribe=False)

    async def set_quality(self, sid: str, quality: VideoQuality) -> None:
        subscription = self._by_sid.get(sid)
        if subscription is not None and subscription.quality != quality:
            subscription.quality = quality
            await self._request_settings(sid)

    def request_key_frame(self, sid: str) -> None:
        subscription = self._by_sid.get(sid)
        if subscription is not None:
            subscription.receiver.request_key_frame(time.monotonic_ns())

    def sids(self) -> frozenset[str]:
        return frozenset(self._by_sid)

    def left_out(self) -> frozenset[str]:
        return frozenset(sid for sid, each in self._by_sid.items() if each.standing.is_left_out)

    def leave_out(self, sid: str, reason: Reason) -> None:
        subscription = self._by_sid.get(sid)
        if subscription is None or subscription.standing.is_left_out:
            return
        key = subscription.key
        pause_s = self._standings.leave_out(key, reason)
        for each, known in self._by_sid.items():
            if known.key == key:
                known.receiver.leave_out()
                self._requests.begin(self._request_settings(each))
        self._emit(TrackLeftOut(sid, key.identity, reason, round(pause_s)))

    def try_new_keys(self) -> None:
        """Takes tracks again that are left out because no key fitted."""
        self._standings.take_again(KEY_REASONS)

    def losses(self) -> list[TrackLosses]:
        """The losses of every track that was subscribed to so far."""
        now = [self._losses_of(sid, each) for sid, each in self._by_sid.items()]
        return [*self._past_losses, *(each for each in now if each.any)]

    async def close(self) -> None:
        """Hands out held frames before it returns."""
        self._standings.close()
        await self._requests.wait()
        for sid in list(self._by_sid):
            self.drop(sid)

    # --- what the server does

    def offered(self, offer: sdp.Offer) -> None:
        """Takes the SSRCs of tracks from an offer."""
        receivers = {sid: each.receiver for sid, each in self._by_sid.items()}
        streams = list(offer.streams())
        self.demux.map(streams, offer.payload_types(), receivers)
        for stream in streams:
            subscription = self._by_sid.get(stream.track_sid)
            track = self._roster.track(stream.track_sid)
            if subscription is None or track is None:
                continue
            codec = MIME_CODECS.get(track.mime_type.lower())
            if codec is not None and subscription.told is None:
                self._tell(subscription, track, codec)

    def take_over(self, track: Track) -> bool:
        """Continues with the receiver of a subscribed track that is back under a new SID. False: it was not
        subscribed to."""
        for sid, subscription in self._by_sid.items():
            if subscription.key == track.key and self._roster.track(sid) is None:
                del self._by_sid[sid]
                subscription.receiver.rename(track.sid, self._cipher_of(track))
                subscription.told = None
                self._by_sid[track.sid] = subscription
                return True
        return False

    def request_soon(self, sids: list[str]) -> None:
        """Requests tracks that were taken over, by their SIDs."""
        self._requests.begin(self._request(sids, subscribe=True))

    def drop(self, sid: str) -> bool:
        """Stops following the track. False: it was not subscribed to."""
        subscription = self._by_sid.pop(sid, None)
        if subscription is None:
            return False
        subscription.receiver.close()
        self.demux.remove(subscription.receiver)
        losses = self._losses_of(sid, subscription)
        if losses.any:
            self._past_losses.append(losses)
        return True

    def drop_absent(self) -> None:
        """Drops tracks that are not published any more."""
        for sid in [each for each in self._by_sid if self._roster.track(each) is None]:
            self.drop(sid)

    def flush(self) -> None:
        """Hands out what is held."""
        for subscription in self._by_sid.values():
            subscription.receiver.flush()

    async def request_again(self) -> None:
        """Requests all from a new connection, which does not know them."""
        present = [sid for sid in self._by_sid if self._roster.track(sid) is not None]
        if present:
            await self._request(present, subscribe=True)
            for sid in present:
                subscription = self._by_sid[sid]
                if subscription.quality is not None or subscription.standing.is_left_out:
                    await self._request_settings(sid)

    @property
    def expect_media(self) -> bool:
        """Whether packets should be arriving."""
        for sid, subscription in self._by_sid.items():
            track = self._roster.track(sid)
            if subscription.standing.is_left_out or track is None or track.muted:
                continue
            if subscription.receiver.stats.frames:
                return True
        return False

    # --- inside

    def _subscription_to(self, track: Track, on_frame: OnFrame) -> _Subscription:
        receiver = TrackReceiver(
            track.sid,
            track.key,
            on_frame,
            self.demux,
            self._sync,
            self._clock.offset_ns,
            cipher=self._cipher_of(track),
        )
        standing = self._standings.of(track.key, {each.key for each in self._by_sid.values()})
        if standing.is_left_out:
            receiver.leave_out()
        return _Subscription(track.key, receiver, standing, standing.out_ns(time.monotonic_ns()))

    def _cipher_of(self, track: Track) -> TrackCipher | None:
        if track.encryption is TrackEncryption.NONE:
            return None
        return self._cipher.of(track.participant.identity, time.monotonic_ns())

    def _take_again(self, key: TrackKey) -> None:
        for sid, subscription in self._by_sid.items():
            if subscription.key == key:
                subscription.receiver.take()
                self._requests.begin(self._request_settings(sid))
                self._emit(TrackTakenAgain(sid, key.identity))

    def _losses_of(self, sid: str, subscription: _Subscription) -> TrackLosses:
        receiver, standing = subscription.receiver, subscription.standing
        return TrackLosses(
            sid,
            subscription.key.identity,
            receiver.lost_packets,
            receiver.stats.dropped,
            left_out_ms=(out_ns := standing.out_ns(time.monotonic_ns()) - subscription.out_before_ns) // MS,
            left_out_why=standing.reason or "" if out_ns else "",
        )

    def _codec_known(self, receiver: TrackReceiver, codec: AudioCodec | VideoCodec) -> None:
        subscription = self._by_sid.get(receiver.track_sid)
        track = self._roster.track(receiver.track_sid)
        if subscription is None or track is None:
            return
        if subscription.told != codec:
            self._tell(subscription, track, codec)
        if not subscription.arrived:
            subscription.arrived = True
            self._emit(MediaArrived(track, self._clock.now_ns()))

    def _key_frame_seen(self, receiver: TrackReceiver, codec: VideoCodec, unit: AccessUnit) -> None:
        track = self._roster.track(receiver.track_sid)
        if track is not None:
            self._emit(KeyFrameArrived(track, codec, unit.data, unit.width, unit.height))

    def _in_trouble(self, receiver: TrackReceiver, reason: Reason) -> None:
        self.leave_out(receiver.track_sid, reason)

    def _tell(self, subscription: _Subscription, track: Track, codec: AudioCodec | VideoCodec) -> None:
        subscription.told = codec
        self._emit(TrackSubscribed(track, codec))

    async def _request(self, sids: list[str], *, subscribe: bool) -> None:
        by_participant: dict[str, list[str]] = {}
        for sid in sids:
            track = self._roster.track(sid)
            if track is not None:
                by_participant.setdefault(track.participant.sid, []).append(sid)
        await self._send(
            subscription=UpdateSubscription(
                track_sids=sids,
                subscribe=subscribe,
                participant_tracks=[
                    ParticipantTracks(participant_sid=participant, track_sids=each)
                    for participant, each in by_participant.items()
                ],
            )
        )

    async def _request_settings(self, sid: str) -> None:
        """Requests what the server sends of a track: nothing while it is left out, and otherwise the layer
        that its quality needs."""
        subscription = self._by_sid.get(sid)
        if subscription is None:
            return
        quality, disabled = subscription.quality, subscription.standing.is_left_out
        settings = UpdateTrackSettings(track_sids=[sid], disabled=disabled, quality=NumberedQuality.HIGH)
        if quality is not None:
            settings.quality = layers.choose(self._roster.layers(sid), quality)
            settings.fps = quality.framerate
        await self._send(track_setting=settings)
