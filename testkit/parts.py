"""What end-to-end tests of rooms share: a LiveKit server, the service, and people who come and go."""

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

from livekit.api import DeleteRoomRequest

from testkit.livekit_server import LivekitServer
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.raw_publisher import RawPublisher, RawTrack
from testkit.service import Service

PublisherT = TypeVar("PublisherT", Publisher, RawPublisher)


@dataclass
class Parts:
    livekit: LivekitServer
    service: Service
    people: AsyncExitStack = field(default_factory=AsyncExitStack)
    """The people who leave when it is closed, after each test."""
    secret: bytes = b""
    """The key with which people encrypt unless join() says otherwise; empty: no encryption."""

    async def enter(self, publisher: PublisherT) -> PublisherT:
        return await self.people.enter_async_context(publisher)

    async def join(
        self,
        room: str,
        identity: str,
        video: VideoSpec | None,
        audio: AudioSpec | None,
        secret: bytes | None = None,
        *,
        kind: str = "",
        by_hkdf: bool = False,
    ) -> Publisher:
        """See Publisher."""
        secret = self.secret if secret is None else secret
        return await self.enter(
            Publisher(self.livekit, room, identity, video, audio, kind=kind, secret=secret, by_hkdf=by_hkdf)
        )

    async def join_raw(self, room: str, camera: RawTrack | None, microphone: RawTrack | None) -> RawPublisher:
        """Joins as ann, with codecs that the SDK does not publish."""
        return await self.enter(RawPublisher(self.livekit, room, "ann", camera, microphone))

    async def start(self, method: str = "StartRoomCompositeEgress", **request: Any) -> str:
        """The id of an egress that is active."""
        info = await self.service.call(method, **request)
        await self.service.active(info["egress_id"])
        return str(info["egress_id"])

    async def delete(self, room: str) -> None:
        await self.livekit.room_service().delete_room(DeleteRoomRequest(room=room))
