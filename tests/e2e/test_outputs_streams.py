"""Live streams through the API: added, removed, refused, lost and found again; a file beside them is none the
worse."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from testkit.livekit_server import free_port
from testkit.page_server import PageServer
from testkit.probe import counters, probe
from testkit.service import Info, Refused, Service, end_reason, location
from testkit.stream_servers import RtmpServer, SrtListener

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "a-key-nobody-may-see"
SHOWN = "{a-k...see}"
SMALL = {"width": 320, "height": 180, "framerate": 15, "video_bitrate": 500, "key_frame_interval": 1}
BUSY = {"width": 640, "height": 360, "framerate": 15, "video_bitrate": 2000, "key_frame_interval": 1}
"""A peer that stops reading is noticed when the buffers between are full: with this, after a second."""
NO_STREAM = "UpdateStream called on non-streaming egress"


@dataclass(frozen=True, slots=True)
class Web:
    url: str
    service: Service

    async def start(self, **request: Any) -> str:
        request = {"url": self.url, "advanced": SMALL, **request}
        info = await self.service.call("StartWebEgress", **request)
        await self.service.active(info["egress_id"])
        return str(info["egress_id"])

    async def stream(self, egress_id: str, wanted: Callable[[Info], bool], index: int = 0) -> Info:
        """The result of one URL once it is as wanted."""
        seen: list[Info] = []
        try:
            async with asyncio.timeout(25):
                while True:
                    seen = (await self.service.info(egress_id))["stream_results"]
                    if len(seen) > index and wanted(seen[index]):
                        return seen[index]
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(seen) from None

    async def update(self, egress_id: str, add: tuple[str, ...] = (), remove: tuple[str, ...] = ()) -> Info:
        return await self.service.call(
            "UpdateStream", egress_id=egress_id, add_output_urls=add, remove_output_urls=remove
        )

    async def refused(self, egress_id: str, **urls: tuple[str, ...]) -> tuple[int, str, str]:
        with pytest.raises(Refused) as caught:
            await self.update(egress_id, **urls)
        return caught.value.status, caught.value.code, caught.value.message


def flows(stream: Info) -> bool:
    """Media got through to it: it has been active, and is not being retried."""
    return stream["status"] == "ACTIVE" and int(stream["started_at"]) > 0 and not stream["error"]


def lost(stream: Info) -> bool:
    assert stream["status"] == "ACTIVE", stream
    return bool(stream["error"])


def found_again(stream: Info) -> bool:
    return flows(stream) and int(stream["retries"]) > 0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def web(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Web]:
    config = {"retries": {"stream_for": "20s"}}
    async with PageServer() as pages, Service(tmp_path_factory.mktemp("streams"), config=config) as service:
        yield Web(pages.url("pattern.html?tone=1"), service)


@pytest.fixture
def rtmp() -> Iterator[RtmpServer]:
    with RtmpServer() as server:
        yield server


def redacted(url: str) -> str:
    return url.replace(KEY, SHOWN)


async def test_streams_are_added_and_removed_until_none_is_left(web: Web, rtmp: RtmpServer) -> None:
    first, second = rtmp.rtmp_url(f"live/1{KEY}"), rtmp.rtmp_url(f"live/2{KEY}")
    shown = ["{1a-...see}", "{2a-...see}"]
    egress_id = await web.start(stream_outputs=[{"urls": [first]}])
    await web.stream(egress_id, flows)
    await asyncio.sleep(2)
    info = await web.update(egress_id, add=(second,))
    assert [stream["url"].rpartition("/")[2] for stream in info["stream_results"]] == shown
    await web.stream(egress_id, flows, 1)
    assert await web.refused(egress_id, add=(second,)) == (
        409,
        "already_exists",
        f"stream {rtmp.rtmp_url('live/' + shown[1])} is already being sent",
    )
    unknown = rtmp.rtmp_url(f"live/{KEY}")
    assert await web.refused(egress_id, add=("srt://h:1", "rtmp://h/nokey"), remove=(unknown, first)) == (
        400,
        "invalid_argument",
        "invalid url srt://h:1: invalid scheme\n"
        "invalid url rtmp://h/{n...y}: rtmp urls must be of format "
        "rtmp(s)://{host}(/{path})/{app}/{stream_key}( live=1)\n"
        f"stream {redacted(unknown)} not found",
    )
    # What worked of that was done.
    ended = await web.stream(egress_id, lambda stream: stream["status"] == "FINISHED")
    assert int(ended["ended_at"]) > int(ended["started_at"]) > 0
    assert int(ended["duration"]) > 1e9
    assert flows((await web.service.info(egress_id))["stream_results"][1])
    await asyncio.sleep(1)
    await web.update(egress_id, remove=(rtmp.rtmp_url(f"live/{shown[1]}"),))
    info = await web.service.wait(egress_id)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    assert end_reason(info) == "End reason: All streams stopped"
    assert [stream["status"] for stream in info["stream_results"]] == ["FINISHED", "FINISHED"]
    assert KEY not in json.dumps(info) and KEY not in web.service.log
    assert await web.refused(egress_id, add=(first,)) == (
        412,
        "failed_precondition",
        "egress with status EGRESS_COMPLETE cannot be updated",
    )
    assert len(rtmp.recordings()) == 2
    for recording in rtmp.recordings():
        assert counters(recording).in_order


async def test_a_stream_that_is_added_before_the_recording_has_begun(web: Web, rtmp: RtmpServer) -> None:
    outputs = {"stream_outputs": [{"protocol": "RTMP"}], "file_outputs": [{"filepath": "early.mp4"}]}
    info = await web.service.call("StartWebEgress", url=web.url, advanced=SMALL, **outputs)
    egress_id = str(info["egress_id"])
    try:
        await web.update(egress_id, add=(rtmp.rtmp_url(f"live/{KEY}"),))
    except Refused as late:  # on a machine that takes its time
        assert (late.code, late.message) == (
            "deadline_exceeded",
            "the recording has not begun yet: its streams change when it does",
        )
    await web.stream(egress_id, flows)
    await asyncio.sleep(1)
    info = await web.service.finish(egress_id)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    (recording,) = rtmp.recordings()
    assert counters(recording).in_order


async def test_only_egresses_with_streams_can_be_updated(web: Web, rtmp: RtmpServer) -> None:
    egress_id = await web.start(file_outputs=[{"filepath": "no-stream.mp4"}])
    url = rtmp.rtmp_url(f"live/{KEY}")
    assert await web.refused(egress_id, add=(url,)) == (400, "invalid_argument", NO_STREAM)
    assert await web.refused("EG_unknown", add=(url,)) == (404, "not_found", "egress does not exist")
    info = await web.service.finish(egress_id)
    assert (info["status"], info["stream_results"]) == ("EGRESS_COMPLETE", [])
    egress_id = await web.start(
        file_outputs=[{"filepath": "later.mp4"}], stream_outputs=[{"protocol": "RTMP"}]
    )
    await web.update(egress_id, add=(url,))
    await web.stream(egress_id, flows)
    await web.update(egress_id, remove=(url,))
    await web.stream(egress_id, lambda stream: stream["status"] == "FINISHED")
    # The file goes on without its streams.
    assert (await web.service.info(egress_id))["status"] == "EGRESS_ACTIVE"
    assert (await web.service.finish(egress_id))["status"] == "EGRESS_COMPLETE"


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("mux://", "invalid url mux://{...}: rtmp urls must be of format"),
        ("twitch://", "invalid url twitch://{...}: rtmp urls must be of format"),
        ("http://host/app/key", "invalid url http://host/{...}: invalid protocol"),
        (f"rtmp://host/{KEY}", f"invalid url rtmp://host/{SHOWN}: rtmp urls must be of format"),
    ],
)
async def test_urls_that_are_none_are_refused(web: Web, url: str, error: str) -> None:
    with pytest.raises(Refused) as caught:
        await web.service.call("StartWebEgress", url=web.url, stream_outputs=[{"urls": [url]}])
    assert caught.value.code == "invalid_argument"
    assert error in caught.value.message and KEY not in caught.value.message


async def test_shorthands_dial_the_services_they_name(web: Web) -> None:
    """Which are out of reach here: what is shown is where they would have gone."""
    egress_id = await web.start(
        file_outputs=[{"filepath": "short.mp4"}],
        stream_outputs=[{"protocol": "RTMP", "urls": [f"mux://{KEY}", f"twitch://{KEY}"]}],
    )
    mux, twitch = [
        await web.stream(egress_id, lambda stream: stream["status"] == "FAILED", index) for index in (0, 1)
    ]
    assert mux["url"] == f"rtmps://global-live.mux.com:443/app/{SHOWN}"
    assert twitch["url"] == f"rtmps://ingest.global-contribute.live-video.net:443/app/{SHOWN}"
    assert mux["url"] in mux["error"]
    info = await web.service.finish(egress_id)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    assert KEY not in json.dumps(info)


async def test_an_egress_whose_only_stream_is_refused_fails_with_the_reason(
    web: Web, rtmp: RtmpServer
) -> None:
    url = rtmp.rtmp_url(f"denied/{KEY}")
    info = await web.service.call(
        "StartWebEgress", url=web.url, advanced=SMALL, stream_outputs=[{"urls": [url]}]
    )
    info = await web.service.wait(info["egress_id"])
    assert info["status"] == "EGRESS_FAILED"
    assert "check application and stream key" in info["error"] and redacted(url) in info["error"]
    [stream] = info["stream_results"]
    assert stream["status"] == "FAILED" and "check application and stream key" in stream["error"]


async def test_streams_that_fail_hurt_neither_the_file_nor_each_other(web: Web, rtmp: RtmpServer) -> None:
    """One server is killed and started again, one stalls, one refuses, one does not exist, one is well."""
    with RtmpServer() as killed, RtmpServer() as stalled:
        urls = [
            killed.rtmp_url(f"live/{KEY}"),
            stalled.rtmp_url(f"live/{KEY}"),
            rtmp.rtmp_url(f"live/{KEY}"),
            rtmp.rtmp_url(f"denied/{KEY}"),
            f"rtmp://no-such-host.invalid/app/{KEY}",
            f"rtmp://127.0.0.1:{free_port()}/app/{KEY}",
        ]
        egress_id = await web.start(
            url=web.url + "&busy=1",
            advanced=BUSY,
            file_outputs=[{"filepath": "beside.mp4"}],
            stream_outputs=[{"protocol": "RTMP", "urls": urls}],
        )
        for index in (0, 1, 2):
            await web.stream(egress_id, flows, index)
        for index, words in (
            (3, "check application and stream key"),
            (4, "cannot be resolved"),
            (5, "refused"),
        ):
            failed = await web.stream(egress_id, lambda stream: stream["status"] == "FAILED", index)
            assert words in failed["error"]
        await asyncio.sleep(2)
        killed_s = time.monotonic()
        await asyncio.to_thread(killed.kill)
        stalled.signal(signal.SIGSTOP)
        await web.stream(egress_id, lost, 0)
        await asyncio.to_thread(killed.start)
        back = await web.stream(egress_id, found_again, 0)
        assert int(back["last_retry_at"]) > 0
        assert time.monotonic() - killed_s < 12
        await web.stream(egress_id, lost, 1)
        stalled.signal(signal.SIGCONT)
        await web.stream(egress_id, found_again, 1)
        await asyncio.sleep(2)
        info = await web.service.finish(egress_id)
        await asyncio.to_thread(check_after_faults, info, rtmp, killed, stalled)
    statuses = [stream["status"] for stream in info["stream_results"]]
    assert statuses == ["FINISHED"] * 3 + ["FAILED"] * 3
    assert KEY not in json.dumps(info) and KEY not in web.service.log


def check_after_faults(info: Info, well: RtmpServer, killed: RtmpServer, stalled: RtmpServer) -> None:
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    file = counters(location(info))
    facts = probe(location(info))
    assert facts.video is not None and facts.audio is not None
    assert file.in_order and file.unreadable == 0
    assert facts.video.rising and facts.audio.contiguous
    assert facts.video.duration_s == pytest.approx(int(info["file_results"][0]["duration"]) / 1e9, abs=0.2)
    assert len(well.recordings()) == 1
    assert len(counters(well.recordings()[0]).read) > 0.8 * len(file.read)
    for server in (killed, stalled):
        *_, last = server.recordings()
        assert len(server.recordings()) >= 2
        check_goes_on(last, file.values)


def check_goes_on(recording: Path, whole: list[int]) -> None:
    """It begins with a picture that decodes, and holds what the file holds from there on."""
    read = counters(recording)
    assert read.unreadable == 0 and read.in_order
    assert set(read.values) <= set(whole)
    assert probe(recording).duration_s > 1


async def test_a_lost_stream_is_given_up_after_the_configured_time(tmp_path: Path) -> None:
    config = {"retries": {"stream_for": "2s"}}
    async with PageServer() as pages, Service(tmp_path, config=config) as service:
        web = Web(pages.url("pattern.html"), service)
        with RtmpServer() as server:
            egress_id = await web.start(
                file_outputs=[{"filepath": "x.mp4"}],
                stream_outputs=[{"protocol": "RTMP", "urls": [server.rtmp_url(f"live/{KEY}")]}],
            )
            await web.stream(egress_id, flows)
            await asyncio.sleep(2)
            await asyncio.to_thread(server.kill)
            lost_s = time.monotonic()
            stream = await web.stream(egress_id, lambda stream: stream["status"] == "FAILED")
            assert 1 < time.monotonic() - lost_s < 12
            assert stream["retries"] >= 1 and "refused" in stream["error"]
        info = await service.finish(egress_id)
        assert info["status"] == "EGRESS_COMPLETE"


async def test_srt_comes_back(web: Web) -> None:
    with SrtListener() as server:
        url = f"srt://127.0.0.1:{server.port}?streamid={KEY}"
        egress_id = await web.start(stream_outputs=[{"urls": [url]}])
        await web.stream(egress_id, flows)
        await asyncio.sleep(2)
        server.kill()
        await web.stream(egress_id, lost)
        await asyncio.to_thread(server.start)
        await web.stream(egress_id, found_again)
        await asyncio.sleep(2)
        info = await web.service.finish(egress_id)
        assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
        await asyncio.to_thread(server.wait)
        assert KEY not in json.dumps(info)
        assert counters(server.recordings[-1]).in_order
        assert probe(server.recordings[-1]).duration_s > 1
