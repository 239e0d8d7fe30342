"""A recording of a page that is paused and resumed: the page goes on, and nothing of it is captured."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import m3u8
import numpy as np
import pytest
import pytest_asyncio
from livekit.protocol.room import UpdateParticipantRequest

from testkit import hls_rules
from testkit.livekit_server import LivekitServer, free_port
from testkit.page_server import PageServer
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.probe import counters, frames, probe, sound
from testkit.service import POLL_S, Info, Service, location

pytestmark = pytest.mark.asyncio(loop_scope="module")

FPS = 30
PAGE = f"pattern.html?tone=1&wall={FPS}"
SMALL = {"width": 640, "height": 360, "framerate": FPS}
KEPT_S = 2.0
PAUSE_S = 1.5
NEAR_S = 0.04
SLOT_S = 1 / FPS
LATE_S = 0.15
"""A picture that a page draws late on a busy machine."""
Pauses = list[tuple[float, float]]
"""(begin, end) of each, in s since media time zero."""


@dataclass(frozen=True, slots=True)
class Web:
    pages: PageServer
    service: Service

    async def record(self, options: str, **request: Any) -> Info:
        """Paused twice: by the API of our own, and by UpdateLayout."""
        started = await self.service.call_with(options, "StartWebEgress", url=self.pages.url(PAGE), **request)
        return await pause_twice(self.service, started["egress_id"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def web(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Web]:
    async with PageServer() as pages, Service(tmp_path_factory.mktemp("paused-pages")) as service:
        yield Web(pages, service)


async def pause_twice(
    service: Service, egress_id: str, steer: Callable[[str], Awaitable[None]] | None = None
) -> Info:
    """`steer`: how the second time is asked for, where it is not UpdateLayout."""
    await service.active(egress_id)
    await asyncio.sleep(KEPT_S)
    assert (await service.control("PauseEgress", egress_id))["details"] == "Paused"
    await asyncio.sleep(PAUSE_S)
    assert (await service.control("ResumeEgress", egress_id))["details"] == ""
    await asyncio.sleep(KEPT_S)
    for layout, details in (("@pause", "Paused"), ("@resume", "")):
        if steer is None:
            info = await service.call("UpdateLayout", egress_id=egress_id, layout=layout)
            assert info["details"] == details
        else:
            await steer(layout)
            async with asyncio.timeout(1):
                while (await service.info(egress_id))["details"] != details:  # noqa: ASYNC110
                    await asyncio.sleep(POLL_S)
        await asyncio.sleep(PAUSE_S if details else KEPT_S)
    info = await service.finish(egress_id)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    return info


def told(info: Info) -> tuple[float, Pauses]:
    """What the manifest says: how long it took, and (begin, end) of each pause, in s since it began."""
    manifest = json.loads(Path(info["manifest_location"]).read_text())
    began = manifest["started_at"]
    pauses = [
        ((each["paused_at"] - began) / 1e9, (each["resumed_at"] - began) / 1e9) for each in manifest["pauses"]
    ]
    assert len(pauses) == 2
    assert all(PAUSE_S <= to_s - from_s < PAUSE_S + 1 for from_s, to_s in pauses), pauses
    return (manifest["ended_at"] - began) / 1e9, pauses


def silences_s(path: Path) -> list[tuple[float, float]]:
    """(begin, end) of stretches of more than 40 ms without sound, but for what comes before it begins."""
    heard = sound(path)
    window = heard.sample_rate // 200
    wave = heard.samples.mean(axis=0)
    blocks = wave[: len(wave) // window * window].reshape(-1, window)
    loud = np.flatnonzero(np.sqrt((blocks**2).mean(axis=1)) > 0.01)
    holes = np.flatnonzero(np.diff(loud) * 5 > 40)
    return [(float(loud[hole] + 1) / 200, float(loud[hole + 1]) / 200) for hole in holes]


def lost_of(info: Info) -> int:
    manifest = json.loads(Path(info["manifest_location"]).read_text())
    return int(manifest.get("left_out", {}).get("pictures", 0))


def cuts_s(pauses: Pauses) -> tuple[float, float]:
    """Where in the recording the pauses were that it leaves out."""
    (first_s, resumed_s), (second_s, _) = pauses
    return first_s, second_s - (resumed_s - first_s)


def check_no_hole(path: Path, pauses: Pauses) -> None:
    """Sound goes on where pauses were. Elsewhere a page on a busy machine may miss a beat."""
    holes = silences_s(path)
    near = [hole for hole in holes if any(hole[0] - 0.1 < cut_s < hole[1] + 0.1 for cut_s in cuts_s(pauses))]
    assert not near, holes


def check_picture(path: Path, pauses: Pauses, whole_s: float, lost: int) -> None:
    """The counters jump by the pauses, and by nothing else. `lost`: pictures that a busy machine left out."""
    lengths_s = [to_s - from_s for from_s, to_s in pauses]
    facts, read = probe(path), counters(path)
    assert facts.video is not None and facts.audio is not None
    assert facts.audio.contiguous and facts.video.rising
    assert facts.audio.duration_s == pytest.approx(whole_s - sum(lengths_s), abs=0.3)
    if not lost:
        assert facts.video.longest_gap_s < 1.5 * SLOT_S
        assert abs(facts.video.duration_s - facts.audio.duration_s) < 0.06
    edges_s = (0.0, *cuts_s(pauses), math.inf)
    # When each picture was drawn by the page's clock: a busy machine draws some late, most in time.
    ahead_s = [
        median(
            counter / FPS - at_s
            for at_s, counter in read.read
            if counter is not None and from_s + 2 * SLOT_S < at_s < to_s - 2 * SLOT_S
        )
        for from_s, to_s in pairwise(edges_s)
    ]
    assert np.diff(ahead_s) == pytest.approx(lengths_s, abs=NEAR_S)
    if not lost:  # at the pauses themselves, but for pictures that were drawn late
        jumps_s = (np.sort(np.diff(read.values))[-2:] - 1) / FPS
        assert jumps_s == pytest.approx(sorted(lengths_s), abs=LATE_S)


@pytest.mark.quiet
async def test_pauses_of_a_page_are_left_out(web: Web) -> None:
    info = await web.record(
        "",
        advanced=SMALL,
        file_outputs=[{"filepath": "cut.mp4"}],
        segment_outputs=[{"filename_prefix": "hls/cut", "segment_duration": 5}],
    )
    whole_s, pauses = told(info)
    check_picture(location(info), pauses, whole_s, lost_of(info))
    check_no_hole(location(info), pauses)
    playlist = web.service.out / info["segment_results"][0]["playlist_name"]
    hls_rules.check(playlist)
    broken = [each for each in m3u8.load(str(playlist)).segments if each.discontinuity]
    began_s = int(info["segment_results"][0]["started_at"]) / 1e9
    resumed_s = [each.program_date_time.timestamp() - began_s for each in broken if each.program_date_time]
    near_s = LATE_S if lost_of(info) else NEAR_S + SLOT_S
    assert resumed_s == pytest.approx([to_s for _, to_s in pauses], abs=near_s)


@pytest.mark.quiet
async def test_a_held_pause_of_a_page_is_a_card_and_silence(web: Web) -> None:
    info = await web.record("on_pause=hold", advanced=SMALL, file_outputs=[{"filepath": "held.mp4"}])
    whole_s, pauses = told(info)
    facts = probe(location(info))
    assert facts.video is not None and facts.audio is not None
    assert facts.audio.contiguous and facts.video.rising
    assert facts.audio.duration_s == pytest.approx(whole_s, abs=0.3)
    lost = lost_of(info)
    assert lost or facts.video.longest_gap_s < 1.5 * SLOT_S
    silences = silences_s(location(info))
    assert np.array(silences) == pytest.approx(np.array(pauses), abs=NEAR_S)
    for from_s, to_s in pauses:
        cards = [frame for at_s, frame in frames(location(info)) if from_s + SLOT_S < at_s < to_s - SLOT_S]
        assert len(cards) >= (PAUSE_S - 0.1) * FPS - lost
    read = counters(location(info)).read
    shown = [at_s for at_s, counter in read if counter is not None]
    assert [at_s for at_s in shown if any(a + SLOT_S < at_s < b - 2 * SLOT_S for a, b in pauses)] == []
    back_s = min(at_s for at_s in shown if at_s > pauses[0][0] + 1)
    assert back_s == pytest.approx(pauses[0][1], abs=LATE_S if lost else 2 * SLOT_S)


@pytest.mark.quiet
async def test_a_page_that_is_heard_alone(web: Web) -> None:
    info = await web.record("", audio_only=True, file_outputs=[{"filepath": "heard.ogg"}])
    whole_s, pauses = told(info)
    facts = probe(location(info))
    assert facts.audio is not None and facts.audio.contiguous
    lengths_s = [to_s - from_s for from_s, to_s in pauses]
    assert facts.audio.duration_s == pytest.approx(whole_s - sum(lengths_s), abs=0.1)
    check_no_hole(location(info), pauses)


@pytest.mark.quiet
async def test_a_template_with_the_sound_of_its_room(tmp_path: Path) -> None:
    """Both are left out for as long, so sound and picture are as near behind the pauses as before. It is
    steered by its API, and as a livekit-server does it: by the metadata of the page's participant."""
    port = free_port()
    camera, steady = VideoSpec(width=640, height=360, encoded=True), AudioSpec(tone_hz=440, level=0.3)
    async with (
        LivekitServer() as livekit,
        Service(tmp_path, livekit, {"port": port, "template_port": port}) as service,
        Publisher(livekit, "beside", "ann", camera, steady),
    ):
        service.url = f"http://127.0.0.1:{port}"
        started = await service.call(
            "StartRoomCompositeEgress",
            room_name="beside",
            layout="single-speaker",
            custom_base_url=service.url,
            audio_mixing="DUAL_CHANNEL_AGENT",
            file_outputs=[{"filepath": "beside.mp4"}],
        )
        egress_id = started["egress_id"]

        async def steer(layout: str) -> None:
            asked = {"room": "beside", "identity": egress_id, "metadata": json.dumps({"layout": layout})}
            await livekit.room_service().update_participant(UpdateParticipantRequest(**asked))

        info = await pause_twice(service, egress_id, steer)
    whole_s, pauses = told(info)
    facts = probe(location(info))
    assert facts.video is not None and facts.audio is not None and facts.audio.contiguous
    lengths_s = [to_s - from_s for from_s, to_s in pauses]
    assert facts.audio.duration_s == pytest.approx(whole_s - sum(lengths_s), abs=0.3)
    assert lost_of(info) or abs(facts.video.duration_s - facts.audio.duration_s) < 0.06
    check_no_hole(location(info), pauses)
