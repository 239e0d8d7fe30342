"""Speech of a participant that hands over sound only while it speaks: every turn is whole and at its time.

Between turns the SDK's `AudioSource(queue_size_ms=0)` lets RTP time stand still, while the server's sender
reports run on. The truth is the wall clock at which a block of sound was handed over: a listener in the room
hears it a path and a jitter buffer later.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Any, Self

import numpy as np
import pytest
import pytest_asyncio
from livekit import rtc
from numpy.typing import NDArray

from campaigns.account import heard, out_of_step_ms, pictures
from campaigns.kinds import where
from openegress.core.units import S
from testkit.livekit_server import LivekitServer
from testkit.pattern import SAMPLE_RATE
from testkit.probe import sound
from testkit.raw_publisher import RawPublisher, RawTrack
from testkit.service import Info, Service, location
from testkit.websocket_receiver import WebsocketReceiver

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.quiet, pytest.mark.timeout(300)]

BLOCK_S = 0.01
WINDOW_S = 0.01
LOUD_RMS = 0.05
LEVEL = 0.4
OFF_S = 0.1
"""How far from its time on the wall clock a turn may begin and end."""
LOST_S = 0.05
"""Of a turn, between its begin and its end: two packets and the edges of two windows."""
WEBSOCKET_RATE = 16_000

Turn = tuple[float, float]
"""Begin and end, in seconds of the wall clock, or from the first turn on."""

PAUSES: tuple[Turn, ...] = ((0, 3), (3.5, 7), (12, 16), (17, 20), (30, 36))
SPEECH: dict[str, tuple[Turn, ...]] = {
    "silence": PAUSES,
    "pauses": PAUSES,
    "one stall": ((0, 5), (5.8, 36)),
    "stalls": tuple((at_s, at_s + 4.7) for at_s in range(0, 35, 5)),
}
"""A microphone that stalls loses what was said meanwhile, and goes on with what is said then. "silence" is
handed over between turns, as most senders do."""
OUTPUTS = ("room ogg", "participant mp4", "track", "hls", "websocket")


class Speaker:
    """Joins on entry, publishes a microphone, and speaks when it is told to."""

    def __init__(self, server: LivekitServer, room: str, hands_over_silence: bool) -> None:
        self._hands_over_silence = hands_over_silence
        self._server = server
        self._room_name = room
        self._room = rtc.Room()
        self._source = rtc.AudioSource(SAMPLE_RATE, 1, queue_size_ms=0)
        self.sid = ""

    async def __aenter__(self) -> Self:
        token = self._server.token(self._room_name, "ann", kind="agent")
        await self._room.connect(self._server.ws_url, token, rtc.RoomOptions(auto_subscribe=False))
        track = rtc.LocalAudioTrack.create_audio_track("microphone", self._source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        options.dtx = options.red = False
        self.sid = (await self._room.local_participant.publish_track(track, options)).sid
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._room.disconnect()

    async def say(self, turns: Sequence[Turn]) -> None:
        """Each of `turns` (unix time) as it comes."""
        size = round(SAMPLE_RATE * BLOCK_S)
        tone = np.sin(2 * np.pi * 400 * np.arange(size) / SAMPLE_RATE)  # whole periods: blocks join on
        block = (tone * LEVEL * 32767).astype("<i2").tobytes()
        silent_s = time.time()
        for begin_s, end_s in turns:
            if self._hands_over_silence:
                await self._hand_over(bytes(len(block)), silent_s, begin_s)
            await self._hand_over(block, begin_s, end_s)
            silent_s = end_s

    async def _hand_over(self, block: bytes, begin_s: float, end_s: float) -> None:
        for number in range(round((end_s - begin_s) / BLOCK_S)):
            await asyncio.sleep(max(0.0, begin_s + number * BLOCK_S - time.time()))
            await self._source.capture_frame(rtc.AudioFrame(block, SAMPLE_RATE, 1, len(block) // 2))


@dataclass(frozen=True, slots=True)
class Wave:
    samples: NDArray[np.float32]
    rate: int
    begin_s: float
    """Unix time of the first sample."""

    def loud(self) -> list[float]:
        """Unix times of the windows in which somebody speaks."""
        size = round(self.rate * WINDOW_S)
        count = len(self.samples) // size
        windows = self.samples[: count * size].reshape(count, size).astype(np.float64)
        (where,) = np.nonzero(np.sqrt((windows**2).mean(axis=1)) > LOUD_RMS)
        return [self.begin_s + int(each) * WINDOW_S for each in where]


@dataclass(frozen=True, slots=True)
class Recorded:
    turns: tuple[Turn, ...]
    """Unix time."""
    waves: dict[str, Wave]
    """By output."""


async def record(livekit: LivekitServer, service: Service, room: str, spoken: Sequence[Turn]) -> Recorded:
    """What each output has of one participant's speech."""
    async with (
        Speaker(livekit, room, room == "silence") as ann,
        WebsocketReceiver() as receiver,
    ):
        # Recorders begin while somebody speaks, so that the first pause is within the recordings.
        receiver.bytes_per_s = 2 * WEBSOCKET_RATE
        talking = asyncio.create_task(ann.say([(time.time(), time.time() + 60)]))
        whole = {"room_name": room, "audio_only": True}
        ogg = [{"filepath": f"{room}.ogg"}]
        track = {"room_name": room, "track_id": ann.sid}
        requests: dict[str, tuple[str, dict[str, Any]]] = {
            "room ogg": (
                "StartRoomCompositeEgress",
                {**whole, "file_outputs": ogg},
            ),
            "participant mp4": (
                "StartParticipantEgress",
                {"room_name": room, "identity": "ann", "file_outputs": [{"filepath": f"{room}.mp4"}]},
            ),
            "track": ("StartTrackEgress", {**track, "file": {"filepath": f"{room}-track"}}),
            "hls": ("StartRoomCompositeEgress", {**whole, "segment_outputs": [{"filename_prefix": room}]}),
            "websocket": (
                "StartTrackEgress",
                {
                    **track,
                    "websocket_url": f"ws://127.0.0.1:{receiver.port}/in?rate={WEBSOCKET_RATE}&channels=1",
                },
            ),
        }
        ids = {
            name: (await service.call(method, **request))["egress_id"]
            for name, (method, request) in requests.items()
        }
        for egress_id in ids.values():
            await service.active(egress_id)
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
        begin_s = time.time() + 2.0
        turns = tuple((begin_s + a, begin_s + b) for a, b in spoken)
        await ann.say(turns)
        await asyncio.sleep(1.0)  # for what is on its way
        infos = {name: await service.finish(egress_id) for name, egress_id in ids.items()}
        waves = {}
        for name, info in infos.items():
            assert info["status"] == "EGRESS_COMPLETE", (name, info["error"])
            waves[name] = await asyncio.to_thread(wave_of, info, receiver)
    return Recorded(turns, waves)


def wave_of(info: Info, receiver: WebsocketReceiver) -> Wave:
    if info["stream_results"]:
        samples = np.frombuffer(receiver.sound, "<i2").astype(np.float32) / np.float32(32768)
        return Wave(samples, WEBSOCKET_RATE, receiver.begin_s)
    path, zero_ns = where(info)
    whole = sound(path)
    return Wave(whole.samples.mean(axis=0), whole.sample_rate, zero_ns / S + whole.start_s)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def spoken(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Recorded]]:
    """All kinds of speech, each in a room of its own, recorded at the same time."""
    config = {"queue": {"size": 32, "max_wait": "80s"}}
    folder = tmp_path_factory.mktemp("speech")
    async with LivekitServer() as livekit, Service(folder, livekit, config) as service:
        rooms = {name: name.replace(" ", "-") for name in SPEECH}
        found = await asyncio.gather(
            *(record(livekit, service, rooms[name], turns) for name, turns in SPEECH.items())
        )
        yield dict(zip(SPEECH, found, strict=True))


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("speech", SPEECH)
async def test_every_turn_is_whole_and_at_its_time(
    spoken: dict[str, Recorded], speech: str, output: str
) -> None:
    recorded = spoken[speech]
    loud = recorded.waves[output].loud()
    turns = recorded.turns
    # Half the shortest pause on either side belongs to a turn; whatever is louder outside is nobody's.
    wide_s = min(b - a for (_, a), (b, _) in pairwise(turns)) / 2
    faults = []
    for begin_s, end_s in turns:
        mine = [at_s for at_s in loud if begin_s - wide_s <= at_s < end_s + wide_s]
        name = f"the turn at {begin_s - turns[0][0]:.1f} s"
        if not mine:
            faults.append(f"{name} is not heard")
            continue
        begins_s, ends_s = mine[0] - begin_s, mine[-1] + WINDOW_S - end_s
        lost_s = (mine[-1] + WINDOW_S - mine[0]) - len(mine) * WINDOW_S
        length_s = len(mine) * WINDOW_S - (end_s - begin_s)
        if abs(begins_s) > OFF_S or abs(ends_s) > OFF_S:
            faults.append(f"{name} begins {begins_s:+.2f} s and ends {ends_s:+.2f} s off")
        if lost_s > LOST_S or abs(length_s) > LOST_S:
            faults.append(f"{name} has {lost_s:.2f} s of silence in it and is {length_s:+.2f} s long")
    assert not faults, faults


REPORTS: dict[str, dict[str, float]] = {
    "as they should be": {},
    "sound 30 s behind": {"microphone": -30.0},
    "sound 30 s ahead": {"microphone": 30.0},
    "picture 30 s behind": {"camera": -30.0},
}
RECORDED_S = 18.0
STEADY_S = 8.0
"""After ACTIVE: the first report comes within six seconds, and may be learnt from slowly."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def disagreeing(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[dict[tuple[str, str], tuple[Info, RawPublisher, float, float]]]:
    """By reports and request: the record, who published, when it became active and was stopped (unix, s)."""
    config = {"queue": {"size": 32, "max_wait": "80s"}}
    folder = tmp_path_factory.mktemp("reports")
    async with (
        LivekitServer() as livekit,
        Service(folder, livekit, config) as service,
        AsyncExitStack() as people,
    ):
        ids, published = {}, {}
        for number, (name, off_s) in enumerate(REPORTS.items()):
            room = f"reports-{number}"
            camera = RawTrack("h264", fps=20, reports_off_s=off_s.get("camera", 0.0))
            microphone = RawTrack("pcmu", reports_off_s=off_s.get("microphone", 0.0))
            ann = await people.enter_async_context(RawPublisher(livekit, room, "ann", camera, microphone))
            small = {"width": 320, "height": 180, "framerate": 20}
            tracks = {"audio_track_id": ann.sid("microphone"), "video_track_id": ann.sid("camera")}
            for method, request in (
                ("StartRoomCompositeEgress", {"advanced": small}),
                ("StartTrackCompositeEgress", tracks),
            ):
                path = f"{room}-{method}.mp4"
                info = await service.call(
                    method, room_name=room, file_outputs=[{"filepath": path}], **request
                )
                ids[name, method], published[name, method] = info["egress_id"], ann
        for egress_id in ids.values():
            await service.active(egress_id)
        active_s = time.time()
        await asyncio.sleep(RECORDED_S)
        stopped_s = time.time()
        infos = dict(zip(ids, await asyncio.gather(*map(service.finish, ids.values())), strict=True))
        yield {key: (infos[key], published[key], active_s, stopped_s) for key in ids}


@pytest.mark.parametrize("method", ["StartRoomCompositeEgress", "StartTrackCompositeEgress"])
@pytest.mark.parametrize("reports", REPORTS)
async def test_reports_that_no_path_explains_are_not_believed(
    disagreeing: dict[tuple[str, str], tuple[Info, RawPublisher, float, float]], reports: str, method: str
) -> None:
    info, ann, active_s, stopped_s = disagreeing[reports, method]
    assert info["status"] == "EGRESS_COMPLETE", info["error"]
    path, zero_ns = location(info), int(info["file_results"][0]["started_at"])
    sent_ns = {picture.counter: picture.at_ns for picture in ann.sent["camera"]}
    seen, listened = pictures(path, zero_ns, sent_ns, as_sent=False), heard(path, zero_ns)
    assert listened.begin_s < active_s + 1.0 and listened.end_s > stopped_s - 0.5
    assert seen.shown[0].wall_s < active_s + 1.0 and seen.end_s > stopped_s - 0.5
    assert listened.silent_s < 0.1 and seen.frozen_s < 0.5
    assert all(abs(ms) < OFF_S * 1000 for ms in listened.late_ms()), listened.late_ms()
    steps = [ms for at_s, ms in out_of_step_ms(seen, listened, sent_ns) if at_s > active_s + STEADY_S]
    assert len(steps) > 5 and max(map(abs, steps)) < 40, steps
