"""A participant who sends what no encoder would send: wrong sizes, floods, jumps, storms of changes."""

import asyncio
import contextlib
import math
import random
import struct
import time
from collections.abc import Coroutine
from fractions import Fraction
from types import TracebackType

import av
from av.video.codeccontext import VideoCodecContext
from livekit import api, rtc
from livekit.protocol.models import TrackSource, TrackType
from livekit.protocol.rtc import (
    AddTrackRequest,
    MuteTrackRequest,
    SimulcastCodec,
    UpdateParticipantMetadata,
)

from openegress.core.units import S
from openegress.room.signalling.websocket import Signalling
from testkit.participants import Keys
from testkit.raw_connection import RawCodec, RawConnection, Section, is_video, send_only
from testkit.rtp_sender import payloads

OPUS_SILENCE = b"\xf8\xff\xfe"
"""20 ms (RFC 6716)."""
ODD_SIZES = (
    *((1, 17), (17, 1), (1, 1080), (1920, 1), (3, 19)),
    *((18, 2), (2, 720), (322, 178), (64, 1000), (1280, 720)),
)
ODD_NAMES = (
    "",
    "\n\n",
    "\u202egnp.exe",
    "e" + "\u0301" * 200,
    "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 20,
    "\u0627\u0644\u0639" * 60,
    "\x1b[31mred\x00",
    "\u5b57" * 80,
)


def still(width: int, height: int, count: int = 4) -> list[bytes]:
    """One grey picture of any size as VP8 sends it: a key frame, and a frame that says nothing changed."""
    encoder = av.CodecContext.create("libvpx", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base = Fraction(1, 30)
    encoder.options = {"deadline": "realtime", "cpu-used": "16", "lag-in-frames": "0"}
    frame = av.VideoFrame(width, height, "yuv420p")
    for plane in frame.planes:
        plane.update(b"\x80" * plane.buffer_size)
    units = []
    for index in range(count):
        frame.pts = index
        units.append(b"".join(bytes(packet) for packet in encoder.encode(frame)))
    return units


def key_frame_head(width: int, height: int) -> bytes:
    """A VP8 key frame (RFC 6386 section 9.1) of any size, with nothing after its header."""
    tag = 1 << 4 | 1024 << 5
    return tag.to_bytes(3, "little") + b"\x9d\x01\x2a" + struct.pack("<HH", width, height) + bytes(1200)


class Hostile:
    """Joins on entry with one track for each of `codecs`, and leaves on exit. Attacks run until cancelled."""

    def __init__(self, server: Keys, room: str, identity: str, codecs: list[RawCodec]) -> None:
        self._server, self._room, self._identity = server, room, identity
        self._connection = RawConnection(server.ws_url, identity)
        grants = api.VideoGrants(
            room_join=True, room=room, can_publish=True, can_subscribe=False, can_update_own_metadata=True
        )
        self._token = server.token(room, identity, grants=grants)
        self._codecs = codecs
        self._random = random.Random(7)
        self.sections: list[Section] = []
        self.sids: list[str] = []
        self.done: dict[str, int] = {}
        """The number of actions of each attack, by its name."""
        self._speaking: dict[str, asyncio.Task[rtc.Room]] = {}
        """Others of the same kind who send data, by their attack. LiveKit's SDK does not survive a cancelled
        connect: they stay."""

    async def __aenter__(self) -> "Hostile":
        await self._connection.open(self._token)
        for codec in self._codecs:
            await self._announce(codec)
        await self._connection.negotiate()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for speaking in self._speaking.values():
            await (await speaking).disconnect()
        await self._connection.close()

    async def attack(self, seconds: float, *attacks: Coroutine[None, None, None]) -> None:
        """Runs all at once. Raises the errors of the attacks themselves."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                for each in attacks:
                    group.create_task(each)

    def _count(self, name: str) -> None:
        self.done[name] = self.done.get(name, 0) + 1

    async def _announce(self, codec: RawCodec) -> None:
        section = self._connection.add_section(codec)
        video = is_video(codec)
        request = AddTrackRequest(
            cid=section.cid,
            name=f"track {len(self.sections)}",
            type=TrackType.VIDEO if video else TrackType.AUDIO,
            source=TrackSource.CAMERA if video else TrackSource.MICROPHONE,
            width=640 if video else 0,
            height=360 if video else 0,
            simulcast_codecs=[SimulcastCodec(codec=codec, cid=section.cid)],
            disable_red=True,
        )
        self.sids.append(await self._connection.announce(request))
        self.sections.append(section)

    def _send(self, index: int, parts: list[bytes], at_ns: int | None = None) -> None:
        self._connection.send(self.sections[index], parts, time.time_ns() if at_ns is None else at_ns)

    # --- pictures

    async def calm(self, index: int) -> None:
        """Normal pictures."""
        key, *rest = still(64, 36)
        number = 0
        while True:
            picture = rest[number % 3] if number else key
            is_vp8 = self.sections[index].codec == "vp8"
            self._send(index, payloads("vp8", picture, picture_id=number) if is_vp8 else [OPUS_SILENCE])
            number += 1
            await asyncio.sleep(0.03)

    async def odd_sizes(self, index: int) -> None:
        """Another size with each picture, including sizes of one pixel, and every third one garbage."""
        pictures = [still(*size, 1)[0] for size in ODD_SIZES]
        number = 0
        while True:
            picture = pictures[number % len(pictures)]
            if number % 3 == 2:
                picture = picture[:10] + self._random.randbytes(300)
            self._send(index, payloads("vp8", picture, picture_id=number))
            number += 1
            self._count("odd_sizes")
            await asyncio.sleep(0.03)

    async def costly(self, index: int, width: int, height: int, per_s: float) -> None:
        """Small key frames that take long to decode."""
        (key,) = await asyncio.to_thread(still, width, height, 1)
        number = 0
        while True:
            self._send(index, payloads("vp8", key, picture_id=number))
            number += 1
            self._count("costly")
            await asyncio.sleep(1 / per_s)

    async def bombs(self, index: int) -> None:
        """Headers that announce the largest possible picture."""
        number = 0
        while True:
            self._send(index, payloads("vp8", key_frame_head(16383, 16383), picture_id=number))
            number += 1
            self._count("bombs")
            await asyncio.sleep(0.03)

    async def endless_picture(self, index: int) -> None:
        """H264 without any marker, and without progress in time."""
        sender, at_ns = self.sections[index].sender, time.time_ns()
        body = b"\x7c\x85" + self._random.randbytes(900)
        while True:
            for _ in range(10):
                (packet,) = sender.packets([body], at_ns)
                self._connection.send_rtp(packet[:1] + bytes((packet[1] & 0x7F,)) + packet[2:])
            self._count("endless_picture")
            await asyncio.sleep(0.02)

    # --- packets

    async def wild_times(self, index: int) -> None:
        """RTP time and sequence numbers that jump with each frame, by any amount."""
        number, at_ns = 0, time.time_ns()
        key, *rest = still(320, 180)
        sender = self.sections[index].sender
        while True:
            at_ns += self._random.choice([66_000_000, -3 * S, 4 * S, 3600 * S, 47721 * S, -47721 * S, 0])
            parts = payloads("vp8", key if number % 5 == 0 else rest[number % 3], picture_id=number)
            self._send(index, parts if is_video(self.sections[index].codec) else [OPUS_SILENCE], at_ns)
            sender.skip(self._random.choice([0, 0, 1, 50, 300, 2500]))
            number += 1
            self._count("wild_times")
            await asyncio.sleep(0.03)

    async def flood(self, index: int, per_s: int, noise_bytes: int = 0) -> None:
        """A flood of silence, or of meaningless packets."""
        payload = bytes(noise_bytes) or OPUS_SILENCE
        while True:
            for _ in range(per_s // 20):
                self._send(index, [payload])
            self._count("flood")
            await asyncio.sleep(0.02)

    # --- the room

    async def renames(self, per_s: int) -> None:
        """Renames with metadata, most of it in every tenth update: a server sends them to everybody."""
        number = 0
        while True:
            name = ODD_NAMES[number % len(ODD_NAMES)] + str(number)
            metadata = "m" * (30_000 if number % 10 == 0 else 100)
            update = UpdateParticipantMetadata(
                name=name, metadata=metadata, attributes={f"a{number % 30}": "v" * 500}
            )
            await self._connection.signal(update_metadata=update)
            number += 1
            self._count("renames")
            await asyncio.sleep(1 / per_s)

    async def mutes(self, index: int, per_s: int) -> None:
        muted = False
        while True:
            muted = not muted
            await self._connection.signal(mute=MuteTrackRequest(sid=self.sids[index], muted=muted))
            self._send(index, [OPUS_SILENCE])
            self._count("mutes")
            await asyncio.sleep(1 / per_s)

    async def publications(self, codec: RawCodec, most: int) -> None:
        """Tracks that are announced and never sent."""
        for _ in range(most):
            await self._announce(codec)
            self._count("publications")
            await asyncio.sleep(0.02)
        await asyncio.Event().wait()

    async def churn(self, codec: RawCodec) -> None:
        """A track that is published, sends, and disappears, again and again."""
        while True:
            index = len(self.sections)
            await self._announce(codec)
            await self._connection.negotiate()
            for _ in range(5):
                self._send(index, [OPUS_SILENCE])
                await asyncio.sleep(0.01)
            self.sections[index].active = False
            await self._connection.negotiate()
            self._count("churn")

    async def flapping(self, per_s: float = math.inf) -> None:
        """Somebody joins and leaves, again and again."""
        identity = f"{self._identity} flaps"
        token = self._server.token(self._room, identity, grants=send_only(self._room))
        while True:
            async with Signalling(self._server.ws_url) as signalling:
                await signalling.open(token)
                await signalling.leave()
            self._count("flapping")
            await asyncio.sleep(1 / per_s)

    async def crowd(self, most: int) -> None:
        """This many people come together, stay, and say nothing."""
        there: list[Signalling] = []
        try:
            for number in range(most):
                identity = f"{self._identity} {number}"
                there.append(Signalling(self._server.ws_url))
                await there[-1].open(self._server.token(self._room, identity, grants=send_only(self._room)))
                self._count("crowd")
            await asyncio.Event().wait()
        finally:
            await asyncio.gather(*(each.close() for each in there))

    async def texts(self, per_s: int) -> None:
        """Text streams that begin and never end, one piece of each, chat, and calls to nobody."""
        room = await self._speaker("writes")
        while True:
            for topic in ("lk.chat", "lk.transcription", "\u202e\x00" * 100):
                writer = await room.local_participant.stream_text(
                    topic=topic, attributes={"lk.segment_id": "s" * 5000}
                )
                await writer.write("\u0301" * 700)
                self._count("texts")
            await asyncio.sleep(3 / per_s)

    async def data(self, per_s: int) -> None:
        """Messages over both data channels, each to everybody."""
        room = await self._speaker("tells")
        while True:
            for _ in range(per_s // 20):
                await room.local_participant.publish_data(bytes(1000), reliable=False)
            await room.local_participant.publish_data(bytes(14_000), reliable=True, topic="\x1b[31m\n" * 20)
            self._count("data")
            await asyncio.sleep(0.05)

    async def _speaker(self, what: str) -> rtc.Room:
        if what not in self._speaking:
            self._speaking[what] = asyncio.create_task(self._join(f"{self._identity} {what}"))
        return await asyncio.shield(self._speaking[what])

    async def _join(self, identity: str) -> rtc.Room:
        room = rtc.Room()
        token = self._server.token(self._room, identity)
        await room.connect(self._server.ws_url, token, rtc.RoomOptions(auto_subscribe=False))
        return room
