"""Requests that cannot work, and processes that die: a clear error in seconds, and nothing is left behind."""

import asyncio
import re
import signal
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from testkit.footprint import Footprint
from testkit.livekit_server import free_port
from testkit.page_server import PageServer
from testkit.probe import counters, probe
from testkit.service import Info, Refused, Service, end_reason, location

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECONDS = 10.0
"""Within which each failure is told, on a machine that does other work too."""
PAGE_LOAD_S = START_SIGNAL_S = 2.0
PATTERN = "pattern.html?tone=1"
MEMORY_GIB = 1.5


@dataclass(frozen=True, slots=True)
class Parts:
    pages: PageServer
    service: Service

    async def ended(self, url: str, **request: Any) -> Info:
        """The record of a recording that ends by itself, of which nothing is left."""
        footprint = Footprint(self.service)
        begun_s = time.monotonic()
        started = await self.service.call("StartWebEgress", url=url, **{**output(), **request})
        ending = asyncio.ensure_future(self.service.wait(started["egress_id"], timeout_s=SECONDS))
        while not ending.done():
            footprint.note()
            await asyncio.wait([ending], timeout=0.1)
        info = await ending
        assert time.monotonic() - begun_s < SECONDS
        await footprint.check_gone()
        return info

    async def refusal(self, method: str = "StartWebEgress", **request: Any) -> tuple[int, str, str]:
        """(HTTP status, Twirp code, message) of a request that is refused at once."""
        begun_s = time.monotonic()
        with pytest.raises(Refused) as caught:
            await self.service.call(method, **request)
        assert time.monotonic() - begun_s < SECONDS / 2
        return caught.value.status, caught.value.code, caught.value.message


def output(path: str = "bad.mp4") -> dict[str, Any]:
    return {"file_outputs": [{"filepath": path}]}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def parts(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Parts]:
    timeouts = {"page_load": f"{PAGE_LOAD_S:g}s", "start_signal": f"{START_SIGNAL_S:g}s"}
    folder = tmp_path_factory.mktemp("bad")
    config = {"timeouts": timeouts, "page_max_memory": MEMORY_GIB}
    async with PageServer() as pages, Service(folder, config=config) as service:
        yield Parts(pages, service)


# --- pages


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("status/404", "answered HTTP 404"),
        ("status/500", "answered HTTP 500"),
        ("hang", f"had not loaded after {PAGE_LOAD_S:g} s"),
        ("hanging-image", "unfinished requests: http://127.0.0.1"),
    ],
)
async def test_a_page_that_does_not_load(parts: Parts, path: str, said: str) -> None:
    check_not_loaded(await parts.ended(parts.pages.url(path)), said)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:CLOSED/", "nothing listens at its address"),
        ("http://no-such-host.invalid/", "its host name is not known to DNS"),
    ],
)
async def test_an_address_that_is_not_there(parts: Parts, url: str, said: str) -> None:
    check_not_loaded(await parts.ended(url.replace("CLOSED", str(free_port()))), said)


async def test_a_certificate_nobody_signed(parts: Parts, tmp_path: Path) -> None:
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
    options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=127.0.0.1"]
    making = await asyncio.create_subprocess_exec(
        *("openssl", "req", "-x509", *options, "-keyout", key, "-out", certificate),
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await making.wait() == 0
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    async with PageServer(context) as secure:
        info = await parts.ended(secure.url("blank"))
    check_not_loaded(info, "its TLS certificate is not valid (net::ERR_CERT_AUTHORITY_INVALID)")


async def test_a_page_that_takes_all_the_memory_there_is(parts: Parts) -> None:
    """Half a gigabyte a second: it is ended before it takes much more than it may, and its file is kept."""
    info = await parts.ended(parts.pages.url("hungry"), **output("hungry.mp4"))
    assert (info["status"], info["error_code"]) == ("EGRESS_FAILED", 429)
    found = re.search(r"the page takes (\d+) MiB of memory, and one may take 1536", info["error"])
    assert found is not None, info["error"]
    assert int(found[1]) < 1.3 * 1536
    facts = probe(location(info))
    assert facts.video is not None and facts.audio is not None and facts.audio.contiguous


def check_not_loaded(info: Info, said: str) -> None:
    assert info["status"] == "EGRESS_FAILED"
    assert info["error"].startswith("page load error: ")
    assert said in info["error"]
    assert info["error_code"] == 400
    assert end_reason(info) == "End reason: Failure"
    check_nothing_recorded(info)


def check_nothing_recorded(info: Info) -> None:
    [result] = info["file_results"]
    assert (result["location"], result["size"], result["duration"]) == ("", "0", "0")


async def test_a_page_that_never_starts(parts: Parts) -> None:
    info = await parts.ended(parts.pages.url("silent-template"), await_start_signal=True)
    assert (info["status"], info["error_code"]) == ("EGRESS_ABORTED", 412)
    assert "start signal not received" in info["error"]
    assert f"did not log START_RECORDING on its console within {START_SIGNAL_S:g} s" in info["error"]
    assert "no room for" in info["error"] and "/status/503 (HTTP 503)" in info["error"]
    check_nothing_recorded(info)


@pytest.mark.parametrize(
    ("loaded", "error"),
    [(False, "Stop called before pipeline could start"), (True, "Start signal not received")],
)
async def test_a_stop_before_the_page_starts(parts: Parts, loaded: bool, error: str) -> None:
    parts.pages.asked.clear()
    started = await parts.service.call(
        "StartWebEgress", url=parts.pages.url("silent-template"), await_start_signal=True, **output()
    )
    if loaded:
        await parts.pages.asked.wait()
        await asyncio.sleep(START_SIGNAL_S / 2)
    stopped = await parts.service.call("StopEgress", egress_id=started["egress_id"])
    info = await parts.service.wait(started["egress_id"], timeout_s=SECONDS)
    for each in (stopped, info):
        assert (each["status"], each["error_code"]) == ("EGRESS_ABORTED", 412)
        assert each["error"] == error
        assert end_reason(each) == "End reason: StopEgress API"


# --- processes that die

DEATHS = [
    ("chromium", "the browser ended unexpectedly (killed by signal 9)"),
    ("renderer", "the page crashed its renderer"),
    ("Xvfb", "the display ended unexpectedly (Xvfb: killed by signal 9)"),
    ("handler", "the recording process ended (killed by SIGKILL)"),
]


@pytest.mark.parametrize(("victim", "said"), DEATHS)
async def test_what_a_death_leaves_while_recording(parts: Parts, victim: str, said: str) -> None:
    footprint = Footprint(parts.service)
    started = await parts.service.call(
        "StartWebEgress", url=parts.pages.url(PATTERN), **output(f"{victim}.mp4")
    )
    await parts.service.active(started["egress_id"])
    await asyncio.sleep(3.0)
    assert {"chromium", "Xvfb", "pulseaudio"} <= footprint.note()
    find(parts.service, victim).kill()
    killed_s = time.monotonic()
    info = await parts.service.wait(started["egress_id"], timeout_s=SECONDS)
    assert time.monotonic() - killed_s < SECONDS
    assert (info["status"], info["error_code"]) == ("EGRESS_FAILED", 500)
    assert info["error"].startswith("recording: ") and said in info["error"]
    facts = probe(location(info))
    assert facts.video is not None and facts.audio is not None
    assert facts.video.duration_s > 1.0
    assert counters(location(info)).in_order
    assert int(info["file_results"][0]["size"]) == location(info).stat().st_size
    await footprint.check_gone()


@pytest.mark.parametrize("victim", ["chromium", "Xvfb", "handler"])
async def test_what_a_death_leaves_before_recording(parts: Parts, victim: str) -> None:
    footprint = Footprint(parts.service)
    parts.pages.asked.clear()
    started = await parts.service.call("StartWebEgress", url=parts.pages.url("hang"), **output())
    await asyncio.wait_for(parts.pages.asked.wait(), SECONDS)
    footprint.note()
    find(parts.service, victim).kill()
    info = await parts.service.wait(started["egress_id"], timeout_s=SECONDS)
    assert info["status"] == "EGRESS_FAILED"
    assert "ended" in info["error"] and info["error"].startswith(("page load", "recording: "))
    check_nothing_recorded(info)
    await footprint.check_gone()


async def test_sound_that_dies_leaves_the_picture(parts: Parts) -> None:
    footprint = Footprint(parts.service)
    started = await parts.service.call(
        "StartWebEgress", url=parts.pages.url(PATTERN), **output("no-sound.mp4")
    )
    await parts.service.active(started["egress_id"])
    await asyncio.sleep(1.5)
    footprint.note()
    find(parts.service, "pulseaudio").kill()
    await asyncio.sleep(1.5)
    info = await parts.service.finish(started["egress_id"])
    assert info["status"] == "EGRESS_COMPLETE", info["error"]
    facts = probe(location(info))
    assert facts.video is not None and facts.audio is not None
    assert facts.audio.contiguous
    assert facts.audio.duration_s == pytest.approx(facts.video.duration_s, abs=0.15)
    assert "sound lost, the recording continues in silence" in parts.service.log
    await footprint.check_gone()


def find(service: Service, name: str) -> psutil.Process:
    """The handler, one of its children by name, or the renderer of its page."""
    handlers = map(psutil.Process, service.handlers())
    handler, family = next((h, h.children(recursive=True)) for h in handlers if h.children())
    if name == "handler":
        return handler
    for process in family:
        if process.name() == name and not process.cmdline()[1].startswith("--type="):
            return process
        if "--type=renderer" in process.cmdline() and name == "renderer":
            return process
    raise AssertionError(f"no {name} runs")


# --- requests

REFUSED = [
    ({"advanced": {"width": 8000, "height": 4500}}, "width (8000x4500 has more than 33177600 pixels)"),
    ({"advanced": {"width": 1281, "height": 720}}, "width"),
    ({"advanced": {"width": 1280, "height": 719}}, "height"),
    ({"advanced": {"width": 14, "height": 16}}, "width"),
    ({"advanced": {"width": -2}}, "width"),
    ({"advanced": {"depth": 15}}, "depth"),
    ({"advanced": {"framerate": 1000}}, "framerate (1000 is outside 1..240)"),
    ({"advanced": {"audio_frequency": 1}}, "audio_frequency (1 Hz is not one of"),
    ({"advanced": {"key_frame_interval": -1}}, "key_frame_interval (-1.0 s is outside"),
    ({"preset": 99}, "preset"),
    ({"url": "file:///etc/passwd"}, "web url"),
    ({"url": ""}, "web url"),
    ({"audio_only": True, "video_only": True}, "audio_only and video_only"),
    ({"file_outputs": []}, "output"),
]


@pytest.mark.parametrize(("wrong", "field"), REFUSED)
async def test_fields_that_are_wrong(parts: Parts, wrong: dict[str, Any], field: str) -> None:
    request = {"url": parts.pages.url("blank"), **output(), **wrong}
    status, code, message = await parts.refusal(**request)
    assert (status, code) == (400, "invalid_argument")
    assert message.startswith(f"request has missing or invalid field: {field}")


async def test_an_output_root_that_takes_no_file(parts: Parts) -> None:
    occupied = parts.service.out / "occupied"
    occupied.parent.mkdir(parents=True, exist_ok=True)
    occupied.write_text("a file where a folder is wanted")
    status, code, message = await parts.refusal(url=parts.pages.url("blank"), **output("occupied/out.mp4"))
    assert status >= 400 and code
    assert "cannot write 'occupied/out.mp4' below" in message and "Not a directory" in message


async def test_ids_that_nobody_knows_and_stops_that_come_twice(parts: Parts) -> None:
    for method in ("StopEgress", "ListEgress", "UpdateStream"):
        refused = await parts.refusal(method, egress_id="EG_unknown")
        assert refused == (404, "not_found", "egress does not exist")
    info = await parts.service.record("StartWebEgress", 0.3, url=parts.pages.url("blank"), **output())
    assert await parts.refusal("StopEgress", egress_id=info["egress_id"]) == (
        412,
        "failed_precondition",
        "egress with status EGRESS_COMPLETE cannot be stopped",
    )
    assert await parts.refusal("StartRoomCompositeEgress", room_name="r", **output()) == (
        412,
        "failed_precondition",
        "no LiveKit server is configured, so only web pages can be recorded: set LIVEKIT_URL, "
        "LIVEKIT_API_KEY and LIVEKIT_API_SECRET",
    )


async def test_a_service_told_to_end_leaves_nothing_of_a_page_that_hangs(
    tmp_path: Path, parts: Parts
) -> None:
    async with Service(tmp_path) as service:
        footprint = Footprint(service)
        parts.pages.asked.clear()
        await service.call("StartWebEgress", url=parts.pages.url("hang"), **output())
        await asyncio.wait_for(parts.pages.asked.wait(), SECONDS)
        assert "Xvfb" in footprint.note()
        await service.stop(signal.SIGINT)
        await footprint.check_gone()
