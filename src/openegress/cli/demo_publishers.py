"""Participants that send a test picture and a tone, so that a template has something to show.

They need LiveKit's SDK, which the extra `test-template` installs.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import numpy as np
from livekit import rtc
from numpy.typing import NDArray

from openegress.core.errors import Code, EgressError
from openegress.core.tasks import cancelled

WIDTH, HEIGHT, FPS = 640, 360, 15
SAMPLE_RATE, BLOCK_S = 48_000, 0.1
TURN_S = 3.0
"""How long each one speaks before the next one does."""
LEVEL = 0.2
LOWEST_HZ = 220.0
COLOURS = ((90, 110, 170), (150, 170, 90), (110, 60, 150), (70, 160, 160), (170, 120, 70), (130, 90, 200))
"""Y, Cb, Cr."""

Frame = NDArray[np.uint8]


@contextlib.asynccontextmanager
async def publishing(ws_url: str, token_of: Callable[[str], str], count: int) -> AsyncIterator[None]:
    """Publishers 0 to `count` - 1 are in the room and speak in turn. `token_of` makes the token of an
    identity. Raises EgressError (UNAVAILABLE) when one cannot join."""
    async with contextlib.AsyncExitStack() as leaving:
        for number in range(count):
            room = rtc.Room()
            identity = f"demo-publisher_{number}"
            try:
                await room.connect(ws_url, token_of(identity))
            except rtc.ConnectError as error:
                raise EgressError(Code.UNAVAILABLE, f"{identity} could not join: {error}") from None
            leaving.push_async_callback(room.disconnect)
            for work in await _publish(room, number, count):
                leaving.push_async_callback(cancelled, work)
        yield


async def _publish(room: rtc.Room, number: int, count: int) -> list[asyncio.Task[None]]:
    camera, microphone = rtc.VideoSource(WIDTH, HEIGHT), rtc.AudioSource(SAMPLE_RATE, 1)
    simulcast = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_CAMERA, simulcast=True)
    await room.local_participant.publish_track(
        rtc.LocalVideoTrack.create_video_track("demo-video", camera), simulcast
    )
    await room.local_participant.publish_track(
        rtc.LocalAudioTrack.create_audio_track("demo-audio", microphone),
        rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE),
    )
    return [
        asyncio.create_task(_show(camera, number), name=f"pictures {number}"),
        asyncio.create_task(_speak(microphone, number, count), name=f"sound {number}"),
    ]


async def _show(camera: rtc.VideoSource, number: int) -> None:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    for index in range(2**62):
        await asyncio.sleep(began_s + index / FPS - loop.time())
        data = picture(number, index).tobytes()
        camera.capture_frame(rtc.VideoFrame(WIDTH, HEIGHT, rtc.VideoBufferType.I420, data))


async def _speak(microphone: rtc.AudioSource, number: int, count: int) -> None:
    samples = round(SAMPLE_RATE * BLOCK_S)
    for index in range(2**62):
        data = sound(number, count, index).tobytes()
        # Returns when there is room for the next block.
        await microphone.capture_frame(rtc.AudioFrame(data, SAMPLE_RATE, 1, samples))


def picture(number: int, index: int) -> Frame:
    """I420: a colour for each publisher, and a bar that moves once across it in four seconds."""
    luma, cb, cr = COLOURS[number % len(COLOURS)]
    y = np.full((HEIGHT, WIDTH), luma, np.uint8)
    left = index * WIDTH // (4 * FPS) % WIDTH
    y[HEIGHT // 3 : HEIGHT * 2 // 3, left : left + WIDTH // 16] = 235
    chroma = [np.full(HEIGHT * WIDTH // 4, value, np.uint8) for value in (cb, cr)]
    return np.concatenate((y.ravel(), *chroma))


def sound(number: int, count: int, index: int) -> NDArray[np.int16]:
    """Block `index`: a tone for each publisher while it is their turn, else silence."""
    samples = round(SAMPLE_RATE * BLOCK_S)
    if int(index * BLOCK_S / TURN_S) % count != number:
        return np.zeros(samples, np.int16)
    at_s = (np.arange(samples) + index * samples) / SAMPLE_RATE
    wave = np.sin(2 * np.pi * LOWEST_HZ * (1 + number % 8 / 4) * at_s)
    return (wave * LEVEL * 32767).astype(np.int16)
