"""The dashboard on a running service: what a person starts there is recorded, seen, stopped and played."""

from datetime import timedelta
from pathlib import Path

import pytest

from openegress.core.tokens import egress_token
from testkit.browser_tab import open_tab
from testkit.livekit_server import LivekitServer
from testkit.page_server import PageServer
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.probe import probe
from testkit.service import Service, location

WITHIN_S = 30.0


async def test_started_watched_stopped_and_played(tmp_path: Path) -> None:
    async with PageServer() as pages, Service(tmp_path) as service, open_tab(1360, 900) as tab:
        token = egress_token(service.api_key, service.api_secret, timedelta(hours=1))
        await tab.open(f"{service.url}/dashboard/#token={token}")
        await tab.sees("live", "#connection")
        await tab.click("#new")
        form = "document.querySelector('#start-form')"
        await tab.run(
            f"{form}.kind.value = 'web', {form}.url.value = '{pages.url('pattern.html?tone=1')}', "
            f"{form}.filepath.value = 'seen.mp4', {form}.dispatchEvent(new Event('change'))"
        )
        await tab.click("#start-form [type=submit]")
        card = "#running .card"
        picture = f"document.querySelector('{card} img')?.naturalWidth"
        await tab.becomes(picture, 480, WITHIN_S)
        points = f"document.querySelector('{card} polyline')?.getAttribute('points')?.split(' ').length >= 2"
        await tab.becomes(points, True, WITHIN_S)
        await tab.click(f"{card} .danger")
        await tab.click("#stop-confirm")
        await tab.becomes("document.querySelectorAll('#history .card').length", 1, WITHIN_S)
        await tab.click("#history .title")
        for text in (
            "Requested",
            "Recording",
            "Ending: StopEgress API",
            "Stored seen.mp4",
            "Complete",
        ):
            await tab.sees(text, "#details-timeline")
        await tab.becomes("document.querySelector('#details video')?.readyState >= 1", True, WITHIN_S)
        played_s = await tab.run("document.querySelector('#details video').duration")
        (info,) = (await service.call("ListEgress"))["items"]
        assert played_s == pytest.approx(probe(location(info)).duration_s, abs=0.2)
        assert [line for line in tab.said if line[0] in ("error", "exception")] == []


async def test_paused_and_resumed(tmp_path: Path) -> None:
    async with (
        LivekitServer() as livekit,
        Service(tmp_path, livekit) as service,
        Publisher(livekit, "room", "ann", VideoSpec(width=640, height=360), AudioSpec()),
        open_tab(1360, 900) as tab,
    ):
        files = [{"filepath": "paused.mp4"}]
        started = await service.call("StartRoomCompositeEgress", room_name="room", file_outputs=files)
        await service.active(started["egress_id"])
        token = egress_token(service.api_key, service.api_secret, timedelta(hours=1))
        await tab.open(f"{service.url}/dashboard/#token={token}")
        button = "#running .card [aria-label='Pause EG_']".replace("EG_", started["egress_id"])
        await tab.becomes(f"document.querySelector({button!r})?.textContent", "Pause", WITHIN_S)
        await tab.click(button)
        await tab.sees("paused", "#running .card .badge.busy")
        assert (await service.info(started["egress_id"]))["details"] == "Paused"
        resume = button.replace("Pause", "Resume")
        await tab.becomes(f"document.querySelector({resume!r}).disabled", False, WITHIN_S)
        await tab.click(resume)
        await tab.becomes("document.querySelector('#running .card .badge.busy').hidden", True, WITHIN_S)
        await tab.click("#running .title")
        marker = "document.querySelector('#details-marker')"
        await tab.run(f"{marker}.elements.name.value = 'Budget'")
        await tab.click("#details-marker [type=submit]")
        await tab.sees(": Budget", "#details-timeline")
        await tab.run("document.querySelector('#details-limits').max_duration.value = 'soon'")
        await tab.click("#details-limits [type=submit]")
        await tab.sees('options.max_duration: "soon"', "#details-refused")
        await tab.run("document.querySelector('#details-limits').max_duration.value = '2h'")
        await tab.click("#details-limits [type=submit]")
        await tab.sees("Changed: max_duration=2h", "#details-ordered")
        info = await service.finish(started["egress_id"])
        await tab.sees("Stored paused.chapters.vtt", "#details-timeline")
    assert info["status"] == "EGRESS_COMPLETE"
    # A browser beside it may leave the machine no time for a picture, which is then told.
    assert info["details"].split("; ")[0] == "End reason: StopEgress API"
