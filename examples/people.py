"""Drawn people who talk in turns, as participants of a LiveKit room."""

import asyncio
import contextlib
import threading
import time
from types import TracebackType
from typing import Protocol, Self

from livekit import rtc

from examples.faces import HEIGHT, WIDTH, Face, Look
from examples.voices import RATE, Turn, Voice

FPS = 24
BLOCK = RATE // 50
LATE_BLOCKS = 5
TURN_S = 4.0


class Access(Protocol):
    """What a person needs of a server."""

    @property
    def ws_url(self) -> str: ...

    def token(self, room: str, identity: str, *, kind: str = "") -> str: ...


CAST = (
    (Look("Ada", (241, 205, 178), (74, 44, 32), (176, 58, 72), (205, 216, 222), long_hair=True), 205.0),
    (Look("Grace", (141, 92, 66), (24, 20, 20), (46, 125, 110), (226, 208, 178), glasses=True), 185.0),
    (Look("Alan", (232, 190, 160), (120, 72, 36), (58, 84, 150), (184, 200, 190), beard=True), 118.0),
)
"""Who they are, and the pitch of their voices in Hz."""


class Person:
    """Joins and publishes on entry, leaves on exit."""

    def __init__(self, server: Access, room: str, place: int, began: float) -> None:
        """`place` in CAST says who it is and when they speak; `began` is a monotonic time, the same for all
        who are in one conversation. Draws for a second: make everybody before the first one joins."""
        look, pitch_hz = CAST[place]
        self._server = server
        self._room_name = room
        self._name = look.name
        self._began = began
        self._face = Face(look)
        self._voice = Voice(pitch_hz, Turn(place * TURN_S, TURN_S - 0.2), len(CAST) * TURN_S, seed=place + 1)
        self._room = rtc.Room()
        self._over = threading.Event()
        self._camera: threading.Thread | None = None
        self._microphone: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        token = self._server.token(self._room_name, self._name)
        await self._room.connect(self._server.ws_url, token, rtc.RoomOptions(auto_subscribe=False))
        pictures = rtc.VideoSource(WIDTH, HEIGHT)
        sound = rtc.AudioSource(RATE, 1, queue_size_ms=100)
        camera = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_CAMERA, simulcast=False)
        camera.video_encoding.max_bitrate = 2_000_000
        camera.video_encoding.max_framerate = FPS
        us = self._room.local_participant
        await us.publish_track(rtc.LocalVideoTrack.create_video_track("camera", pictures), camera)
        microphone = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        await us.publish_track(rtc.LocalAudioTrack.create_audio_track("microphone", sound), microphone)
        self._camera = threading.Thread(target=self._show, args=(pictures,), name=self._name)
        self._camera.start()
        self._microphone = asyncio.create_task(self._speak(sound))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._microphone is not None:
            self._microphone.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._microphone
        if self._camera is not None:
            await asyncio.to_thread(self._camera.join)
        await self._room.disconnect()

    def _show(self, pictures: rtc.VideoSource) -> None:
        number = self._next(FPS)
        while not self._over.wait(max(0.0, self._began + number / FPS - time.monotonic())):
            at_s = number / FPS
            picture = self._face.draw(at_s, self._voice.openness(at_s))
            frame = rtc.VideoFrame(WIDTH, HEIGHT, rtc.VideoBufferType.I420, bytearray(picture.tobytes()))
            pictures.capture_frame(frame)
            number = max(number + 1, self._next(FPS))

    async def _speak(self, sound: rtc.AudioSource) -> None:
        """The source takes as much as is due, and lets its caller wait for the rest. Who is late leaves sound
        out: mouths would not wait for it."""
        number = self._next(RATE // BLOCK)
        while True:
            await sound.capture_frame(rtc.AudioFrame(self._voice.block(number, BLOCK), RATE, 1, BLOCK))
            number = max(number + 1, self._next(RATE // BLOCK) - LATE_BLOCKS)

    def _next(self, rate: int) -> int:
        """Of pictures or blocks that are due so many times a second."""
        return int((time.monotonic() - self._began) * rate) + 1
