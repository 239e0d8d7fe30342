"""Options of a recording: each ends it at its time, whichever way it came, with a file that is whole."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from livekit.api import UpdateRoomMetadataRequest

from testkit.page_server import PageServer
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.parts import Parts
from testkit.probe import counters, probe
from testkit.service import Info, Refused, Service, end_reason, location

pytestmark = pytest.mark.asyncio(loop_scope="module")

CAMERA = VideoSpec(width=640, height=360, encoded=True)
STEADY = AudioSpec(tone_hz=440, level=0.3)
LIMIT_S = 3.0
STALL_S = 1.5
"""A machine that has other work may stop a recording so much later."""
CONFIG = {"options": {"by_room": [{"rooms": ["configured-*"], "max_duration": "3s"}]}}


@pytest.fixture(scope="module")
def service_config() -> dict[str, Any]:
    return CONFIG


async def start_room(service: Service, room: str, header: str = "", **request: Any) -> str:
    """The id of an egress that is active."""
    outputs = {"file_outputs": [{"filepath": f"{room}.mp4"}]}
    started = await service.call_with(header, "StartRoomCompositeEgress", room_name=room, **outputs | request)
    egress_id = str(started["egress_id"])
    await service.active(egress_id)
    return egress_id


def check_whole(info: Info) -> float:
    """The length of its file in s, in which nothing is missing between its ends."""
    path = location(info)
    facts = probe(path)
    assert facts.video is not None and facts.audio is not None
    assert facts.audio.contiguous and facts.video.rising
    assert abs(facts.video.duration_s - facts.audio.duration_s) < 0.1
    assert counters(path).in_order
    assert int(info["file_results"][0]["size"]) == path.stat().st_size
    return facts.video.duration_s


def check_limit(info: Info, reason: str) -> float:
    assert (info["status"], info["error_code"]) == ("EGRESS_LIMIT_REACHED", 413)
    assert info["error"] == "Session limit reached"
    assert end_reason(info).partition("; ")[0] == f"End reason: {reason}"
    return check_whole(info)


WAYS: dict[str, dict[str, Any]] = {
    "metadata": {},
    "header": {"header": "max_duration=3s"},
    "body": {"openegress": {"max_duration": "3s"}},
    "layout": {"layout": "speaker?max_duration=3s"},
    "configured-1": {},
}


@pytest.mark.parametrize("way", WAYS)
async def test_the_longest_recording(parts: Parts, way: str) -> None:
    async with Publisher(parts.livekit, way, "ann", CAMERA, STEADY):
        if way == "metadata":
            metadata = json.dumps({"egress": {"max_duration": "3s", "max_size": "much"}})
            asked = UpdateRoomMetadataRequest(room=way, metadata=metadata)
            await parts.livekit.room_service().update_room_metadata(asked)
        egress_id = await start_room(parts.service, way, **WAYS[way])
        info = await parts.service.wait(egress_id)
    assert ("max_size" in info["details"]) is (way == "metadata"), info["details"]
    assert LIMIT_S - 0.1 < check_limit(info, "max_duration reached") < LIMIT_S + STALL_S


async def test_a_pause_does_not_count(parts: Parts) -> None:
    async with Publisher(parts.livekit, "paused", "ann", CAMERA, STEADY):
        egress_id = await start_room(parts.service, "paused", "max_duration=3s")
        await parts.service.control("PauseEgress", egress_id)
        await asyncio.sleep(LIMIT_S + 0.5)  # a timer that went on would end it meanwhile
        assert (await parts.service.control("ResumeEgress", egress_id))["status"] == "EGRESS_ACTIVE"
        info = await parts.service.wait(egress_id)
    assert LIMIT_S - 0.1 < check_limit(info, "max_duration reached") < LIMIT_S + STALL_S


async def test_the_largest_file(parts: Parts) -> None:
    async with Publisher(parts.livekit, "large", "ann", CAMERA, STEADY):
        egress_id = await start_room(parts.service, "large", layout="grid?max_size=600kB")
        info = await parts.service.wait(egress_id)
    assert check_limit(info, "max_size reached") > 0.5
    assert 200_000 < location(info).stat().st_size <= 600_000


async def test_the_largest_segments(parts: Parts) -> None:
    outputs = {
        "segment_outputs": [{"filename_prefix": "hls/large", "segment_duration": 1}],
        "file_outputs": [],
    }
    async with Publisher(parts.livekit, "pieces", "ann", CAMERA, STEADY):
        egress_id = await start_room(parts.service, "pieces", "max_size=600kB", **outputs)
        info = await parts.service.wait(egress_id)
    assert (info["status"], info["error_code"]) == ("EGRESS_LIMIT_REACHED", 413)
    assert end_reason(info) == "End reason: max_size reached"
    segments = list((parts.service.out / "hls").glob("*.ts"))
    assert len(segments) == int(info["segment_results"][0]["segment_count"])
    assert 200_000 < sum(each.stat().st_size for each in segments) <= 600_000


async def test_tracks_as_they_come(parts: Parts) -> None:
    """Nothing is encoded between, and a limit ends it all the same."""
    async with Publisher(parts.livekit, "passed", "ann", CAMERA, STEADY) as ann:
        request = {"room_name": "passed", "track_id": ann.sid("camera"), "file": {"filepath": "passed"}}
        lengths = []
        for header in ("max_duration=3s", "max_size=200kB"):
            started = await parts.service.call_with(header, "StartTrackEgress", **request)
            info = await parts.service.wait(started["egress_id"])
            assert (info["status"], info["error_code"]) == ("EGRESS_LIMIT_REACHED", 413)
            assert end_reason(info) == f"End reason: {header.partition('=')[0]} reached"
            facts = probe(location(info))
            assert facts.video is not None and facts.video.rising
            assert counters(location(info)).in_order
            lengths.append(facts.video.duration_s)
    # A track has its last picture when the next one would have come.
    assert LIMIT_S - 0.2 < lengths[0] < LIMIT_S + STALL_S
    assert 50_000 < location(info).stat().st_size <= 200_000


async def test_a_page(parts: Parts) -> None:
    async with PageServer() as pages:
        started = await parts.service.call_with(
            "max_duration=3s",
            "StartWebEgress",
            url=pages.url("pattern.html?tone=1&busy=1"),
            file_outputs=[{"filepath": "page.mp4"}],
        )
        info = await parts.service.wait(started["egress_id"])
    assert LIMIT_S - 0.1 < check_limit(info, "max_duration reached") < LIMIT_S + STALL_S


CHANGES: dict[str, Callable[[Service, str], Awaitable[Info]]] = {
    "control": lambda service, egress_id: service.control(
        "SetOptions", egress_id, options={"max_duration": "3s"}
    ),
    "layout-changed": lambda service, egress_id: service.call(
        "UpdateLayout", egress_id=egress_id, layout="speaker?max_duration=3s"
    ),
    "size": lambda service, egress_id: service.control(
        "SetOptions", egress_id, options={"max_size": "600kB"}
    ),
}


@pytest.mark.parametrize("way", CHANGES)
async def test_what_runs_goes_by_other_options(parts: Parts, way: str) -> None:
    async with Publisher(parts.livekit, way, "ann", CAMERA, STEADY):
        egress_id = await start_room(parts.service, way, "max_duration=1m")
        with pytest.raises(Refused) as refused:
            await parts.service.control("SetOptions", egress_id, options={"leave_out": "bob"})
        assert (refused.value.code, "leave_out" in refused.value.message) == ("unimplemented", True)
        changed = await CHANGES[way](parts.service, egress_id)
        assert changed["status"] == "EGRESS_ACTIVE"
        info = await parts.service.wait(egress_id)
    if way == "size":
        check_limit(info, "max_size reached")
        assert 200_000 < location(info).stat().st_size <= 600_000
        return
    assert LIMIT_S - 0.1 < check_limit(info, "max_duration reached") < LIMIT_S + STALL_S
    assert info["room_composite"]["layout"] == ("speaker" if way == "layout-changed" else "")


async def test_a_recording_ends_in_silence(parts: Parts) -> None:
    """One that is composed and one of tracks as they come; who is heard begins it anew."""
    service = parts.service
    async with Publisher(parts.livekit, "silent", "ann", CAMERA, STEADY) as ann:
        passed = await service.call_with(
            "stop_when_silent=3s",
            "StartTrackEgress",
            room_name="silent",
            track_id=ann.sid("microphone"),
            file={"filepath": "silent-track"},
        )
        composed = await start_room(service, "silent", "stop_when_silent=2s")
        await service.control("SetOptions", composed, options={"stop_when_silent": "3s"})
        await service.active(passed["egress_id"])
        await asyncio.sleep(3.5)
        assert (await service.info(composed))["status"] == "EGRESS_ACTIVE"
        muted_s = time.time()
        ann.mute("microphone")
        infos = [await service.wait(each) for each in (composed, passed["egress_id"])]
    for info in infos:
        assert 2.8 < completed_s(info, "Nobody heard (stop_when_silent)") - muted_s < 4.5 + 2 * STALL_S


async def test_a_silent_page_ends(parts: Parts) -> None:
    async with PageServer() as pages:
        started = await parts.service.call_with(
            "stop_when_silent=2s",
            "StartWebEgress",
            url=pages.url("pattern.html?sound=0"),
            file_outputs=[{"filepath": "silent-page.mp4"}],
        )
        info = await parts.service.wait(started["egress_id"])
    completed_s(info, "Nobody heard (stop_when_silent)")


async def test_a_slip_is_refused_and_says_where_it_is(parts: Parts) -> None:
    said = "unknown key; did you mean max_duration?"
    slips: dict[str, dict[str, Any]] = {
        f"X-Openegress-Options.max_duratoin: {said}": {"header": "max_duratoin=1h"},
        f"openegress.max_duratoin: {said}": {"openegress": {"max_duratoin": "1h"}},
        f"layout.max_duratoin: {said}": {"layout": "grid?max_duratoin=1h"},
    }
    async with Publisher(parts.livekit, "slip", "ann", CAMERA, STEADY):
        for message, way in slips.items():
            with pytest.raises(Refused) as refused:
                await start_room(parts.service, "slip", **way)
            assert (refused.value.code, refused.value.message) == ("invalid_argument", message)


async def test_a_start_that_takes_too_long_is_aborted(parts: Parts) -> None:
    """Bob is in the room, and never publishes anything."""
    async with Publisher(parts.livekit, "late", "bob"):
        started = await parts.service.call_with(
            "start_timeout=2s",
            "StartParticipantEgress",
            room_name="late",
            identity="bob",
            file_outputs=[{"filepath": "late.mp4"}],
        )
        info = await parts.service.wait(started["egress_id"])
    assert (info["status"], info["error_code"]) == ("EGRESS_ABORTED", 412)
    assert info["error"] == "start_timeout reached before anything was recorded"
    assert end_reason(info) == "End reason: start_timeout reached"
    spent_s = (int(info["ended_at"]) - int(info["started_at"])) / 1e9
    assert 1.9 < spent_s < 2.0 + 2 * STALL_S


def completed_s(info: Info, reason: str) -> float:
    """The unix time at which it did, in s."""
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    assert end_reason(info) == f"End reason: {reason}"
    return int(info["ended_at"]) / 1e9


EMPTY, IDLE = "Room empty (stop_when_empty)", "Nobody publishes (stop_when_idle)"


async def test_a_room_may_be_empty_for_a_while(parts: Parts) -> None:
    """An agent who stays is nobody. Without the option the recording ends with the last who leaves."""
    service = parts.service
    async with Publisher(parts.livekit, "empty", "bot", kind="agent"):
        async with Publisher(parts.livekit, "empty", "ann", CAMERA, STEADY):
            egress_id = await start_room(service, "empty", layout="speaker?stop_when_empty=3s")
        await asyncio.sleep(1.0)
        async with Publisher(parts.livekit, "empty", "ann", CAMERA, STEADY):
            await asyncio.sleep(3.0)  # she is back: what was counted before counts no more
            assert (await service.info(egress_id))["status"] == "EGRESS_ACTIVE"
            left_s = time.time()
        info = await service.wait(egress_id)
    assert 2.9 < completed_s(info, EMPTY) - left_s < 3.0 + 2 * STALL_S
    facts = probe(location(info))
    assert facts.video is not None and facts.audio is not None
    assert facts.audio.contiguous and facts.video.rising
    assert facts.video.duration_s > 7.0 - 0.5


async def test_sound_alone_ends_when_the_room_is_empty(parts: Parts) -> None:
    async with Publisher(parts.livekit, "quiet", "bot", kind="agent"):
        async with Publisher(parts.livekit, "quiet", "ann", audio=STEADY):
            egress_id = await start_room(
                parts.service,
                "quiet",
                "stop_when_empty=2s",
                audio_only=True,
                file_outputs=[{"filepath": "quiet.ogg"}],
            )
            left_s = time.time()
        info = await parts.service.wait(egress_id)
    assert 1.9 < completed_s(info, EMPTY) - left_s < 2.0 + 2 * STALL_S
    facts = probe(location(info))
    assert facts.audio is not None and facts.audio.contiguous


async def test_a_room_where_nobody_publishes(parts: Parts) -> None:
    """Bob stays, and is silent; an agent who speaks does not count. What is muted is not published."""
    body: dict[str, Any] = {"openegress": {"stop_when_idle": "3s"}}
    async with (
        Publisher(parts.livekit, "idle", "bob"),
        Publisher(parts.livekit, "idle", "bot", audio=STEADY, kind="agent"),
        Publisher(parts.livekit, "idle", "ann", CAMERA, STEADY) as ann,
    ):
        egress_id = await start_room(parts.service, "idle", **body)
        await asyncio.sleep(1.0)
        ann.mute("camera")
        await asyncio.sleep(3.5)  # she is still heard
        assert (await parts.service.info(egress_id))["status"] == "EGRESS_ACTIVE"
        muted_s = time.time()
        ann.mute("microphone")
        info = await parts.service.wait(egress_id)
    assert 2.9 < completed_s(info, IDLE) - muted_s < 3.0 + 2 * STALL_S
    facts = probe(location(info))
    assert facts.video is not None and facts.video.rising


async def test_a_page_says_that_it_does_not_know_its_room(parts: Parts) -> None:
    with pytest.raises(Refused) as refused:
        await parts.service.call_with(
            "stop_when_empty=1m",
            "StartWebEgress",
            url="http://127.0.0.1:9/",
            file_outputs=[{"filepath": "page.mp4"}],
        )
    assert refused.value.code == "unimplemented"
