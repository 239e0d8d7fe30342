"""Where a service stops recordings by itself, and where it refuses to begin one."""

import asyncio
import time
from pathlib import Path

import pytest

from testkit.page_server import PageServer
from testkit.probe import counters, probe
from testkit.service import Info, Refused, Service, end_reason, location

PATTERN = "pattern.html?tone=1&busy=1"


async def until_limit(service: Service, pages: PageServer) -> Info:
    started = await service.call(
        "StartWebEgress", url=pages.url(PATTERN), file_outputs=[{"filepath": "limited.mp4"}]
    )
    await service.active(started["egress_id"])
    info = await service.wait(started["egress_id"], timeout_s=30)
    assert (info["status"], info["error"]) == ("EGRESS_LIMIT_REACHED", "Session limit reached")
    assert info["error_code"] == 413
    assert end_reason(info) == "End reason: Session limit reached"
    facts = probe(location(info))
    assert facts.video is not None and facts.audio is not None and facts.audio.contiguous
    assert counters(location(info)).in_order
    assert int(info["file_results"][0]["size"]) == location(info).stat().st_size
    assert Path(info["manifest_location"]).is_file()
    return info


async def test_the_longest_file(tmp_path: Path) -> None:
    config = {"session_limits": {"file_output_max_duration": "4s", "stream_output_max_duration": "1s"}}
    async with PageServer() as pages, Service(tmp_path, config=config) as service:
        info = await until_limit(service, pages)
        assert probe(location(info)).duration_s == pytest.approx(4.0, abs=0.4)


async def test_the_largest_file(tmp_path: Path) -> None:
    limit = 400_000
    config = {"session_limits": {"file_output_max_size": limit}}
    async with PageServer() as pages, Service(tmp_path, config=config) as service:
        info = await until_limit(service, pages)
        # It ends early enough that what the encoder still gives fits.
        assert 0.5 * limit < location(info).stat().st_size <= limit


async def test_what_there_is_no_room_for_is_refused_at_once(tmp_path: Path) -> None:
    config = {"cpu_cost": {"web_cpu_cost": 64}}
    async with PageServer() as pages, Service(tmp_path, config=config) as service:
        request = {"url": pages.url("blank"), "file_outputs": [{"filepath": "{time}.mp4"}]}
        first = await service.call("StartWebEgress", **request)
        await service.active(first["egress_id"])
        begun_s = time.monotonic()
        with pytest.raises(Refused) as caught:
            await service.call("StartWebEgress", **request)
        assert time.monotonic() - begun_s < 5.0
        assert (caught.value.status, caught.value.code) == (503, "unavailable")
        assert "not enough CPU: web needs about 64.00 cores, " in caught.value.message
        assert " are free with 1 running; try again later" in caught.value.message
        info = await service.finish(first["egress_id"])
        assert info["status"] == "EGRESS_COMPLETE", info["error"]
        # An egress that is over makes room at once.
        second = await service.call("StartWebEgress", **request)
        await service.active(second["egress_id"])
        assert (await service.finish(second["egress_id"]))["status"] == "EGRESS_COMPLETE"


async def test_as_many_browsers_as_the_configuration_allows(tmp_path: Path) -> None:
    config = {"cpu_cost": {"max_concurrent_web": 1, "web_cpu_cost": 0.01, "audio_web_cpu_cost": 0.01}}
    async with PageServer() as pages, Service(tmp_path, config=config) as service:
        request = {"url": pages.url("blank"), "file_outputs": [{"filepath": "{time}"}], "audio_only": True}
        starts = await asyncio.gather(
            *(service.call("StartWebEgress", **request) for _ in range(2)), return_exceptions=True
        )
        refused = [each for each in starts if isinstance(each, Refused)]
        assert [each.code for each in refused] == ["unavailable"]
        assert "1 browsers are running here, and max_concurrent_web is 1" in refused[0].message
