"""The recorder's client of a LiveKit room: joins, subscribes, hands out frames, and joins again after a lost
connection."""

from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from openegress.core.left_out import TrackLosses
from openegress.core.room_keys import NO_KEYS, KeyAnswer, KeyService, KeySupply
from openegress.room import Lock, OnFrame, Participant, Track, VideoQuality
from openegress.room.budget import Reason
from openegress.room.connection import SessionOptions
from openegress.room.event_queue import EventQueue
from openegress.room.events import KeysAnswered, RoomEvent
from openegress.room.key_asker import KeyAsker
from openegress.room.membership import Membership, MembershipOptions
from openegress.room.rejoin import REJOIN_FOR_S
from openegress.room.rtp.frame_cipher import RoomCipher
from openegress.room.server_messages import ServerMessages
from openegress.room.signalling.roster import Roster
from openegress.room.subscriptions import Subscriptions
from openegress.room.transport.media import Transport
from openegress.room.unix_clock import UnixClock


class RoomClient:
    """Implements room.Room for one recorder in one room. `identity` is the egress id, as in `token`. After a
    lost connection it subscribes again by itself, also to tracks that come back under a new SID."""

    def __init__(
        self,
        url: str,
        token: str,
        identity: str,
        *,
        keys: KeySupply = NO_KEYS,
        options: SessionOptions | None = None,
        rejoin_for_s: float = REJOIN_FOR_S,
        make_transport: Callable[..., Transport] = Transport,
    ) -> None:
        self._unix_clock = UnixClock()
        self._roster = Roster(identity)
        self._events = EventQueue()
        self._deriving = ThreadPoolExecutor(1, "room keys")
        self._asker = self._asker_of(keys.service)
        self._cipher = RoomCipher(keys.keys, self._deriving, self._asker)
        self._subscriptions = Subscriptions(
            self._roster, self._cipher, self._unix_clock, self._send, self._events.put
        )
        options = options or SessionOptions()
        self._messages = ServerMessages(
            self._roster,
            self._subscriptions,
            self._cipher,
            self._events,
            self._unix_clock,
            self._send if options.data_tracks else None,
        )
        self._membership = Membership(
            url,
            token,
            self._subscriptions.demux,
            self._messages,
            MembershipOptions(options, rejoin_for_s, make_transport),
        )
        self._closed = False

    async def join(self) -> None:
        """Joins the room. Raises EgressError with phase SIGNALLING, the address tried and the cause."""
        await self._membership.join()

    async def connected(self) -> None:
        """Waits for the media path. Raises EgressError with phase ICE or SIGNALLING, what was tried and the
        cause."""
        await self._membership.connected()

    def events(self) -> AsyncIterator[RoomEvent]:
        """The events, for one reader. Ends after RoomClosed or `close`."""
        return self._events.stream()

    def tracks(self) -> list[Track]:
        return self._roster.tracks()

    def participants(self) -> list[Participant]:
        return self._roster.participants()

    def lock(self, track: Track) -> Lock | None:
        return self._cipher.lock(track)

    def now_ns(self) -> int:
        return self._unix_clock.now_ns()

    async def subscribe(self, sids: Iterable[str], on_frame: OnFrame) -> None:
        """Subscribes to tracks. If a track is already subscribed to, its frames go to the new `on_frame`.
        Raises EgressError (not_found) for a SID that is not published."""
        await self._subscriptions.add(sids, on_frame)

    async def unsubscribe(self, sids: Iterable[str]) -> None:
        """No frame of these tracks is handed out after this returns."""
        self.drain()
        await self._subscriptions.remove(sids)

    async def set_quality(self, sid: str, quality: VideoQuality) -> None:
        await self._subscriptions.set_quality(sid, quality)

    def batch_reads(self) -> None:
        """Reads media in batches; call it after connected()."""
        self._membership.batch_reads()

    def drain(self) -> None:
        self._membership.drain()

    def request_key_frame(self, sid: str) -> None:
        self._subscriptions.request_key_frame(sid)

    def subscribed(self) -> frozenset[str]:
        return self._subscriptions.sids()

    def left_out(self) -> frozenset[str]:
        return self._subscriptions.left_out()

    def leave_out(self, sid: str, reason: Reason) -> None:
        self._subscriptions.leave_out(sid, reason)

    def losses(self) -> list[TrackLosses]:
        return self._subscriptions.losses()

    async def close(self) -> None:
        """Leaves the room after handing out frames that are held. Idempotent."""
        if self._closed:
            return
        self._closed = True
        await self._messages.close()
        if self._asker is not None:
            await self._asker.close()
        await self._membership.stop_watching()
        await self._subscriptions.close()
        await self._membership.leave()
        self._deriving.shutdown(cancel_futures=True)  # closing takes a moment
        self._events.close()

    @property
    def path(self) -> str:
        """The path of the media, for logs: `udp host -> address:port`."""
        return self._membership.path

    def _asker_of(self, service: KeyService | None) -> KeyAsker | None:
        if service is None:
            return None
        return KeyAsker(service, self._take_keys, self._keys_told, self._without_key)

    def _take_keys(self, answer: KeyAnswer) -> None:
        if self._cipher.take(answer.keys):
            self._subscriptions.try_new_keys()

    def _keys_told(self, problem: str) -> None:
        self._events.put(KeysAnswered(problem))

    def _without_key(self) -> frozenset[str]:
        tracks = self._roster.tracks()
        return frozenset(each.participant.identity for each in tracks if self._cipher.lacks_key(each))

    async def _send(self, **message: object) -> None:
        await self._membership.send(**message)
