"""The recorder's client of a LiveKit room: joins, subscribes, hands out frames, and joins again when lost."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from livekit.protocol.models import ParticipantTracks, SubscriptionError
from livekit.protocol.models import VideoQuality as NumberedQuality
from livekit.protocol.rtc import (
    JoinResponse,
    SignalResponse,
    SubscriptionPermissionUpdate,
    UpdateSubscription,
    UpdateTrackSettings,
)

from openegress.core.codecs import AudioCodec, VideoCodec
from openegress.core.errors import Code, EgressError, Fault, Phase, internal
from openegress.core.left_out import TrackLosses
from openegress.core.room_keys import RoomKey
from openegress.core.tasks import Errands
from openegress.core.units import MS, S
from openegress.room import (
    ConnectionLost,
    Joined,
    KeyFrameArrived,
    Lock,
    MediaArrived,
    OnFrame,
    Participant,
    Reconnected,
    RoomClosed,
    RoomEvent,
    SubscriptionFailed,
    Track,
    TrackEncryption,
    TrackKey,
    TrackLeftOut,
    TrackPublished,
    TrackSubscribed,
    TrackTakenAgain,
    TrackUnpublished,
    VideoQuality,
)
from openegress.room.budget import Reason, Standing
from openegress.room.connection import EndKind, RoomConnection, SessionEnd, SessionOptions
from openegress.room.rtp.demux import Demux
from openegress.room.rtp.depacketise import AccessUnit
from openegress.room.rtp.frame_cipher import DECRYPTED, RoomCipher, TrackCipher
from openegress.room.rtp.receiver import TrackReceiver
from openegress.room.signalling import layers, sdp
from openegress.room.signalling.enum_names import name_of
from openegress.room.signalling.roster import RETURN_GRACE_S, Roster, RosterEvent
from openegress.room.sync.participant import RoomSync
from openegress.room.transport.media import Transport
from openegress.room.unix_clock import UnixClock

logger = logging.getLogger(__name__)

REJOIN_FOR_S = 120.0
"""A server being replaced is back within a minute or two; a longer absence is the room's end."""
MOST_PAST_LOSSES = 200
"""Records tell of so many tracks."""
REJOIN_PAUSES_S = (0.0, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0)
"""Between tries; the last one repeats."""

CODEC_OF_MIME: dict[str, AudioCodec | VideoCodec] = {
    "audio/opus": AudioCodec.OPUS,
    "audio/red": AudioCodec.OPUS,
    "audio/pcmu": AudioCodec.PCMU,
    "audio/pcma": AudioCodec.PCMA,
    "video/h264": VideoCodec.H264,
    "video/h265": VideoCodec.H265,
    "video/vp8": VideoCodec.VP8,
    "video/vp9": VideoCodec.VP9,
    "video/av1": VideoCodec.AV1,
}


@dataclass(slots=True)
class _Subscription:
    key: TrackKey
    receiver: TrackReceiver
    standing: Standing
    out_before_ns: int
    """For how long the track had been left out when it was subscribed to."""
    quality: VideoQuality | None = None
    told: AudioCodec | VideoCodec | None = None
    """The codec of the last TrackSubscribed."""
    arrived: bool = False


class RoomClient:
    """Implements room.Room for one recorder in one room.

    `identity` is the egress id, as in `token`. After a lost connection subscriptions are made anew by
    themselves, also for tracks that come back under a new SID.
    """

    def __init__(
        self,
        url: str,
        token: str,
        identity: str,
        *,
        keys: Sequence[RoomKey] = (),
        options: SessionOptions | None = None,
        rejoin_for_s: float = REJOIN_FOR_S,
        make_transport: Callable[..., Transport] = Transport,
    ) -> None:
        self._url = url
        self._token = token
        self._options = options or SessionOptions()
        self._rejoin_for_s = rejoin_for_s
        self._make_transport = make_transport
        self._roster = Roster(identity)
        self._sync = RoomSync()
        self._deriving = ThreadPoolExecutor(1, "room keys")
        self._cipher = RoomCipher(keys, self._deriving)
        self._demux = Demux(self._codec_known, self._key_frame_seen, self._in_trouble)
        self._subscriptions: dict[str, _Subscription] = {}
        self._past_losses: deque[TrackLosses] = deque(maxlen=MOST_PAST_LOSSES)
        """Of tracks that are not subscribed to any more."""
        self._standings: dict[TrackKey, Standing] = {}
        """Of tracks that are subscribed to or were left out lately: whoever publishes anew begins as they
        ended."""
        self._pauses: dict[TrackKey, asyncio.TimerHandle] = {}
        """Of tracks that are left out."""
        self._connection: RoomConnection | None = None
        self._connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """The media path of the first join is up."""
        self._events: asyncio.Queue[RoomEvent | None] = asyncio.Queue()
        self._supervisor: asyncio.Task[None] | None = None
        self._requests = Errands("a request to the server could not be made")
        self._expiry: asyncio.TimerHandle | None = None
        self._unix_clock = UnixClock()
        self._settled_at = 0.0
        """Until then, tracks that end may come back after a re-join; monotonic seconds."""
        self._relaxed = False
        self._closed = False

    # --- Room

    async def join(self) -> Joined:
        """Raises EgressError with phase SIGNALLING, the address tried and the cause."""
        if self._supervisor is not None:
            raise RuntimeError("a RoomClient joins once")
        connection, join = await self._open()
        joined = Joined(join.room.sid, join.room.name)
        self._emit(joined)
        self._supervisor = asyncio.create_task(self._supervise(connection))
        return joined

    async def connected(self) -> None:
        """Raises EgressError with phase ICE or SIGNALLING, what was tried and the cause."""
        await asyncio.shield(self._connected)

    async def events(self) -> AsyncIterator[RoomEvent]:
        """For one reader. Ends after RoomClosed or `close`."""
        while (event := await self._events.get()) is not None:
            yield event
            if isinstance(event, RoomClosed):
                return

    def tracks(self) -> list[Track]:
        return self._roster.tracks()

    def participants(self) -> list[Participant]:
        return self._roster.participants()

    def lock(self, track: Track) -> Lock | None:
        if track.encryption is TrackEncryption.NONE:
            return None
        if track.encryption is TrackEncryption.CUSTOM:
            return Lock.CUSTOM
        if not self._cipher.has_keys:
            return Lock.NO_KEY
        codec = CODEC_OF_MIME.get(track.mime_type.lower())
        return None if codec is None or codec in DECRYPTED else Lock.CODEC

    def now_ns(self) -> int:
        return self._unix_clock.now_ns()

    async def subscribe(self, sids: Iterable[str], on_frame: OnFrame) -> None:
        """Again for a subscribed track: its frames go to the new `on_frame`.

        Raises EgressError (not_found) for a SID that is not published.
        """
        fresh = []
        for sid in sids:
            known = self._subscriptions.get(sid)
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
            receiver = TrackReceiver(
                sid,
                track.key,
                on_frame,
                self._demux,
                self._sync,
                self._unix_clock.offset_ns,
                cipher=self._cipher_of(track),
            )
            standing = self._standing(track.key)
            if standing.is_left_out:
                receiver.leave_out()
            out_ns = standing.out_ns(time.monotonic_ns())
            self._subscriptions[sid] = _Subscription(track.key, receiver, standing, out_ns)
            fresh.append(sid)
        if fresh:
            await self._request(fresh, subscribe=True)
            for sid in self.left_out().intersection(fresh):
                await self._request_settings(sid)

    async def unsubscribe(self, sids: Iterable[str]) -> None:
        """No frame of these tracks is handed out after this returns."""
        self.drain()
        gone = [sid for sid in sids if self._drop(sid)]
        if gone:
            await self._request(gone, subscribe=False)

    async def set_quality(self, sid: str, quality: VideoQuality) -> None:
        subscription = self._subscriptions.get(sid)
        if subscription is not None and subscription.quality != quality:
            subscription.quality = quality
            await self._request_settings(sid)

    def batch_reads(self) -> None:
        """After connected()."""
        self._relaxed = True
        if self._connection is not None:
            self._connection.batch_reads()

    def read_at_once(self) -> None:
        self._relaxed = False
        if self._connection is not None:
            self._connection.read_at_once()

    def drain(self) -> None:
        if self._connection is not None:
            self._connection.drain()

    def request_key_frame(self, sid: str) -> None:
        subscription = self._subscriptions.get(sid)
        if subscription is not None:
            subscription.receiver.request_key_frame(time.monotonic_ns())

    def left_out(self) -> frozenset[str]:
        return frozenset(sid for sid, each in self._subscriptions.items() if each.standing.is_left_out)

    def leave_out(self, sid: str, reason: Reason) -> None:
        subscription = self._subscriptions.get(sid)
        if subscription is None or subscription.standing.is_left_out:
            return
        key = subscription.key
        pause_s = subscription.standing.leave_out(reason, time.monotonic_ns()) / S
        self._pauses[key] = asyncio.get_running_loop().call_later(pause_s, self._take_again, key)
        for each, known in self._subscriptions.items():
            if known.key == key:
                known.receiver.leave_out()
                self._requests.begin(self._request_settings(each))
        self._emit(TrackLeftOut(sid, key.identity, reason, round(pause_s)))

    def losses(self) -> list[TrackLosses]:
        now = [self._losses_of(sid, each) for sid, each in self._subscriptions.items()]
        return [*self._past_losses, *(each for each in now if each.any)]

    async def close(self) -> None:
        """Leaves the room. Frames that are held are handed out before. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for timer in (self._expiry, *self._pauses.values()):
            if timer is not None:
                timer.cancel()
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        if not self._connected.cancel() and not self._connected.cancelled():
            self._connected.exception()  # of no interest any more
        await self._requests.wait()
        for sid in list(self._subscriptions):
            self._drop(sid)
        if self._connection is not None:
            await self._connection.leave()
            await self._connection.close()
        self._deriving.shutdown(cancel_futures=True)  # what is under way takes a moment
        self._events.put_nowait(None)

    @property
    def path(self) -> str:
        """How media comes in, for logs: `udp host -> address:port`."""
        return self._connection.path if self._connection else "none"

    # --- joining

    async def _open(self) -> tuple[RoomConnection, JoinResponse]:
        connection = RoomConnection(
            self._url,
            self._demux,
            on_join=self._present,
            on_message=self._message,
            on_offer=self._offer,
            flowing=self._flowing,
            options=self._options,
            make_transport=self._make_transport,
        )
        join = await connection.open(self._token)
        self._connection = connection
        return connection, join

    def _present(self, join: JoinResponse) -> None:
        """Who is there as we come in."""
        now_s = time.monotonic()
        if self._supervisor is not None:
            self._settled_at = now_s + RETURN_GRACE_S
        self._cipher.server_mark = join.sif_trailer
        self._publish(self._roster.joined(join.other_participants, now_s))

    async def _supervise(self, connection: RoomConnection) -> None:
        """Owns the session from the join to the end of the room, of which it tells whatever happens."""
        try:
            await self._follow(connection)
        except Exception as error:
            logger.exception("the room client failed")
            text = f"the room client failed: {error!r}"
            if not self._connected.done():
                self._connected.set_exception(internal(text, Phase.SIGNALLING))
            self._emit(RoomClosed(text, failed=True))

    async def _follow(self, connection: RoomConnection) -> None:
        try:
            await self._up(connection)
        except EgressError as error:
            self._connected.set_exception(error)
            return
        self._connected.set_result(None)
        while True:
            assert self._connection is not None
            end = await self._connection.ended()
            self._token = self._connection.token
            connection, self._connection = self._connection, None
            await connection.close()
            if end.kind is not EndKind.LOST:
                for subscription in self._subscriptions.values():
                    subscription.receiver.flush()
                self._emit(RoomClosed(end.reason, failed=end.kind is EndKind.REPLACED))
                return
            if not await self._rejoin(end):
                return

    async def _rejoin(self, end: SessionEnd) -> bool:
        """False: given up, and said so."""
        loop = asyncio.get_running_loop()
        lost_at = loop.time()
        logger.warning("connection to the room lost: %s", end.reason)
        self._emit(ConnectionLost(end.reason))
        attempt = 0
        while True:
            await asyncio.sleep(REJOIN_PAUSES_S[min(attempt, len(REJOIN_PAUSES_S) - 1)])
            attempt += 1
            try:
                await self._open_again()
            except EgressError as error:
                final = error.code is Code.UNAUTHENTICATED
                if final or loop.time() - lost_at > self._rejoin_for_s:
                    logger.error("cannot join again: %s", error.text)
                    self._emit(RoomClosed(f"{end.reason}; cannot join again: {error.text}", failed=True))
                    return False
                logger.info("try %d to join again failed: %s", attempt, error.text)
                continue
            break
        if self._expiry is not None:
            self._expiry.cancel()
        self._watch_absent()
        after_s = loop.time() - lost_at
        logger.info("joined again after %.2f s", after_s)
        self._emit(Reconnected(after_s))
        return True

    async def _open_again(self) -> None:
        connection, _ = await self._open()
        present = [sid for sid in self._subscriptions if self._roster.track(sid) is not None]
        if present:
            await self._request(present, subscribe=True)
            for sid in present:
                subscription = self._subscriptions[sid]
                if subscription.quality is not None or subscription.standing.is_left_out:
                    await self._request_settings(sid)
        await self._up(connection)
        if self._relaxed:
            connection.batch_reads()

    async def _up(self, connection: RoomConnection) -> None:
        try:
            await connection.up()
        except EgressError:
            self._connection = None
            raise

    def _watch_absent(self) -> None:
        """Those who were there before the re-join and are not yet back count as gone after a while."""
        self._expiry = None
        if self._closed:
            return
        now_s = time.monotonic()
        self._publish(self._roster.expire(now_s))
        if self._roster.waiting or now_s < self._settled_at:
            self._expiry = asyncio.get_running_loop().call_later(1.0, self._watch_absent)
            return
        for sid in [each for each in self._subscriptions if self._roster.track(each) is None]:
            self._drop(sid)

    # --- signalling

    def _message(self, message: SignalResponse) -> None:
        match message.WhichOneof("message"):
            case "update":
                self._publish(self._roster.updated(message.update.participants))
            case "speakers_changed":
                self._publish(self._roster.speaking(message.speakers_changed.speakers))
            case "subscription_response":
                response = message.subscription_response
                reason = name_of(SubscriptionError, response.err).removeprefix("se ")
                self._emit(SubscriptionFailed(response.track_sid, reason))
            case "subscription_permission_update":
                self._permission(message.subscription_permission_update)

    def _permission(self, update: SubscriptionPermissionUpdate) -> None:
        if not update.allowed:
            reason = "its publisher does not allow the recorder to subscribe"
            self._emit(SubscriptionFailed(update.track_sid, reason))

    def _offer(self, offer: sdp.Offer) -> None:
        receivers = {sid: each.receiver for sid, each in self._subscriptions.items()}
        streams = list(offer.streams())
        self._demux.map(streams, offer.payload_types(), receivers)
        for stream in streams:
            subscription = self._subscriptions.get(stream.track_sid)
            track = self._roster.track(stream.track_sid)
            if subscription is None or track is None:
                continue
            codec = CODEC_OF_MIME.get(track.mime_type.lower())
            if codec is not None and subscription.told is None:
                self._tell(subscription, track, codec)

    async def _request(self, sids: list[str], *, subscribe: bool) -> None:
        if self._connection is None:
            return  # joining again: subscriptions are made then
        by_participant: dict[str, list[str]] = {}
        for sid in sids:
            track = self._roster.track(sid)
            if track is not None:
                by_participant.setdefault(track.participant.sid, []).append(sid)
        await self._connection.send(
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
        """What the server sends of a track: nothing while it is left out, else what its quality asks for."""
        subscription = self._subscriptions.get(sid)
        if self._connection is None or subscription is None:
            return
        quality, disabled = subscription.quality, subscription.standing.is_left_out
        settings = UpdateTrackSettings(track_sids=[sid], disabled=disabled, quality=NumberedQuality.HIGH)
        if quality is not None:
            settings.quality = layers.choose(self._roster.layers(sid), quality)
            settings.fps = quality.framerate
        await self._connection.send(track_setting=settings)

    # --- events

    def _publish(self, events: list[RosterEvent]) -> None:
        moved: list[str] = []
        for event in events:
            match event:
                case TrackPublished(track):
                    if self._take_over(track):
                        moved.append(track.sid)
                case TrackUnpublished(track) if not self._may_return(track, events):
                    self._drop(track.sid)
            self._emit(event)
        if moved and self._connection is not None:
            self._requests.begin(self._request(moved, subscribe=True))

    def _may_return(self, track: Track, events: list[RosterEvent]) -> bool:
        """Published anew in the same breath, or soon after a re-join, when publishers find their way back."""
        if time.monotonic() < self._settled_at:
            return True
        return any(isinstance(each, TrackPublished) and each.track.key == track.key for each in events)

    def _take_over(self, track: Track) -> bool:
        """A subscribed track that is back under a new SID: its receiver goes on."""
        for sid, subscription in self._subscriptions.items():
            if subscription.key == track.key and self._roster.track(sid) is None:
                del self._subscriptions[sid]
                subscription.receiver.rename(track.sid, self._cipher_of(track))
                subscription.told = None
                self._subscriptions[track.sid] = subscription
                return True
        return False

    def _cipher_of(self, track: Track) -> TrackCipher | None:
        if track.encryption is TrackEncryption.NONE:
            return None
        return self._cipher.of(track.participant.identity)

    def _drop(self, sid: str) -> bool:
        subscription = self._subscriptions.pop(sid, None)
        if subscription is None:
            return False
        subscription.receiver.close()
        self._demux.remove(subscription.receiver)
        losses = self._losses_of(sid, subscription)
        if losses.any:
            self._past_losses.append(losses)
        return True

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
        subscription = self._subscriptions.get(receiver.track_sid)
        track = self._roster.track(receiver.track_sid)
        if subscription is None or track is None:
            return
        if subscription.told != codec:
            self._tell(subscription, track, codec)
        if not subscription.arrived:
            subscription.arrived = True
            self._emit(MediaArrived(track, self.now_ns()))

    def _key_frame_seen(self, receiver: TrackReceiver, codec: VideoCodec, unit: AccessUnit) -> None:
        track = self._roster.track(receiver.track_sid)
        if track is not None:
            self._emit(KeyFrameArrived(track, codec, unit.data, unit.width, unit.height))

    def _tell(self, subscription: _Subscription, track: Track, codec: AudioCodec | VideoCodec) -> None:
        subscription.told = codec
        self._emit(TrackSubscribed(track, codec))

    def _standing(self, key: TrackKey) -> Standing:
        now_ns = time.monotonic_ns()
        kept = {each.key for each in self._subscriptions.values()}
        self._standings = {k: s for k, s in self._standings.items() if k in kept or not s.is_forgiven(now_ns)}
        return self._standings.setdefault(key, Standing())

    def _in_trouble(self, receiver: TrackReceiver, reason: Reason) -> None:
        self.leave_out(receiver.track_sid, reason)

    def _take_again(self, key: TrackKey) -> None:
        """Whether the track behaves is seen by taking it."""
        del self._pauses[key]
        self._standings[key].take(time.monotonic_ns())
        for sid, subscription in self._subscriptions.items():
            if subscription.key == key:
                subscription.receiver.take()
                self._requests.begin(self._request_settings(sid))
                self._emit(TrackTakenAgain(sid, key.identity))

    def _flowing(self) -> bool:
        """Should media be coming in?"""
        for sid, subscription in self._subscriptions.items():
            track = self._roster.track(sid)
            if subscription.standing.is_left_out or track is None or track.muted:
                continue
            if subscription.receiver.stats.frames:
                return True
        return False

    def _emit(self, event: RoomEvent) -> None:
        self._events.put_nowait(event)
