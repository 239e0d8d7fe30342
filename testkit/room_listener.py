"""A recorder in a room that only remembers the events and frames that a RoomClient hands out."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from openegress.core.codecs import AudioCodec, VideoCodec
from openegress.core.tokens import recorder_token
from openegress.room import EncodedFrame, Track, TrackSource
from openegress.room.client import RoomClient
from openegress.room.connection import SessionOptions
from openegress.room.events import RoomEvent
from openegress.room.transport.media import Transport
from testkit.livekit_server import LivekitServer

EventType = TypeVar("EventType", bound=RoomEvent)


class RoomListener:
    """Joins on entry, leaves on exit. `frames` by track SID, in order of arrival."""

    def __init__(
        self,
        server: LivekitServer,
        room: str,
        identity: str = "EG_listener",
        *,
        options: SessionOptions | None = None,
        transport: Callable[..., Transport] = Transport,
    ) -> None:
        token = recorder_token(server.api_key, server.api_secret, room, identity)
        self.client = RoomClient(server.ws_url, token, identity, options=options, make_transport=transport)
        self.events: list[RoomEvent] = []
        self.frames: dict[str, list[EncodedFrame]] = {}
        self._changed = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "RoomListener":
        await self.client.join()
        await self.client.connected()
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self.client.close()
        if self._reader is not None:
            await self._reader

    async def until(self, condition: Callable[[], object], timeout_s: float = 20) -> None:
        """Waits for a condition on frames and events."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def track(self, source: TrackSource, identity: str = "") -> Track:
        """Waits until somebody publishes it."""
        found: list[Track] = []

        def published() -> bool:
            found[:] = [
                each
                for each in self.client.tracks()
                if each.source is source and identity in ("", each.participant.identity)
            ]
            return bool(found)

        await self.until(published)
        return found[0]

    async def subscribe(self, *tracks: Track) -> None:
        await self.client.subscribe([each.sid for each in tracks], self.on_frame)

    def on_frame(self, frame: EncodedFrame) -> None:
        self.frames.setdefault(frame.track_sid, []).append(frame)
        self._changed.set()

    def of(self, track: Track) -> list[EncodedFrame]:
        return self.frames.get(track.sid, [])

    def every(self, codec: AudioCodec | VideoCodec) -> list[EncodedFrame]:
        """Frames of one codec over all SIDs, in the order of their first frame."""
        return [frame for frames in self.frames.values() for frame in frames if frame.codec == codec]

    def told(self, kind: type[EventType]) -> list[EventType]:
        return [each for each in self.events if isinstance(each, kind)]

    async def _read(self) -> None:
        async for event in self.client.events():
            self.events.append(event)
            self._changed.set()
