"""The dashboard on a running service: what a person starts there is recorded, seen, stopped and played."""

from datetime import timedelta
from pathlib import Path

import pytest

from openegress.core.tokens import egress_token
from testkit.browser_tab import open_tab
from testkit.page_server import PageServer
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
            "Ending: End reason: StopEgress API",
            "Stored seen.mp4",
            "Complete",
        ):
            await tab.sees(text, "#details-timeline")
        await tab.becomes("document.querySelector('#details video')?.readyState >= 1", True, WITHIN_S)
        played_s = await tab.run("document.querySelector('#details video').duration")
        (info,) = (await service.call("ListEgress"))["items"]
        assert played_s == pytest.approx(probe(location(info)).duration_s, abs=0.2)
        assert [line for line in tab.said if line[0] in ("error", "exception")] == []
