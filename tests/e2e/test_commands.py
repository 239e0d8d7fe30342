"""The `openegress` command as its users run it: record, start, list, stop, update-layout, doctor, serve."""

import asyncio
import contextlib
import json
import os
import re
import resource
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from testkit.livekit_server import LivekitServer, free_port
from testkit.page_server import PageServer
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.pattern import COLOURS
from testkit.probe import Rect, counters, has_tone, mean_colour, probe, tones
from testkit.service import Refused, Service, end_reason, location

pytestmark = pytest.mark.asyncio(loop_scope="module")

WITHIN_S = 60.0
PATTERN = "pattern.html?tone=1"


@dataclass(frozen=True, slots=True)
class Outcome:
    status: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Shell:
    """Runs `openegress` with the environment that its users are told to set."""

    folder: Path
    environment: dict[str, str]

    async def begin(
        self, *arguments: str, stderr: int = asyncio.subprocess.PIPE
    ) -> asyncio.subprocess.Process:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("LIVEKIT_", "EGRESS_", "OPEN"))}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "openegress.cli", *arguments),
            cwd=self.folder,
            env=inherited | {"XDG_DATA_HOME": str(self.folder / "data")} | self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
        )

    async def run(self, *arguments: str) -> Outcome:
        return await outcome(await self.begin(*arguments))


async def outcome(process: asyncio.subprocess.Process) -> Outcome:
    async with asyncio.timeout(WITHIN_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Outcome(process.returncode, out.decode(), (err or b"").decode())


@pytest.fixture
def shell(tmp_path: Path, livekit: LivekitServer) -> Shell:
    keys = {
        "LIVEKIT_URL": livekit.ws_url,
        "LIVEKIT_API_KEY": livekit.api_key,
        "LIVEKIT_API_SECRET": livekit.api_secret,
    }
    return Shell(tmp_path, keys)


# --- record


async def test_record_a_page_for_so_long(shell: Shell, pages: PageServer) -> None:
    ran = await shell.run("record", pages.url(PATTERN), "page.mp4", "--duration", "3s")
    assert (ran.status, ran.err) == (0, "")
    path = shell.folder / "page.mp4"
    facts = probe(path)
    assert facts.video is not None and facts.audio is not None
    assert facts.video.duration_s == pytest.approx(3.2, abs=0.8)
    assert counters(path).unreadable == 0
    assert has_tone(tones(path), 300)
    assert re.fullmatch(rf"{re.escape(str(path))}  [234]s  [\d.]+ [kM]B\n", ran.out)
    assert [each.name for each in shell.folder.glob("*.*")] == ["page.mp4"]
    assert list((shell.folder / "data" / "openegress" / "spool").iterdir()) == []


async def test_what_a_killed_one_left_is_finished_by_the_next(shell: Shell, pages: PageServer) -> None:
    killed = await shell.begin("record", pages.url(PATTERN), "killed.mp4")
    spool = shell.folder / "data" / "openegress" / "spool"
    async with asyncio.timeout(WITHIN_S):
        while sum(path.stat().st_size for path in spool.glob("EG_*/*/*.mp4")) < 100_000:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    family = [psutil.Process(killed.pid), *psutil.Process(killed.pid).children(recursive=True)]
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):  # a browser's go with it
            process.kill()
    await killed.wait()
    assert not (shell.folder / "killed.mp4").exists()
    ran = await shell.run("record", pages.url(PATTERN), "next.mp4", "--duration", "5s")
    assert ran.status == 0, ran.err
    assert counters(shell.folder / "killed.mp4").unreadable == 0
    assert list(spool.glob("EG_*")) == []


@pytest.mark.parametrize(
    ("name", "codec"), [("sound.ogg", "opus"), ("sound.mp3", "mp3float"), ("sound.webm", "opus")]
)
async def test_sound_goes_into_the_file_that_was_named(
    shell: Shell, pages: PageServer, name: str, codec: str
) -> None:
    flags = ["--audio-only"] if name.endswith(".webm") else []
    ran = await shell.run("record", pages.url(PATTERN), name, "--duration", "1s", *flags)
    assert (ran.status, ran.err) == (0, "")
    facts = probe(shell.folder / name)
    assert facts.video is None and facts.audio is not None
    assert facts.audio.codec == codec
    assert [each.name for each in shell.folder.glob("*.*")] == [name]


async def test_ctrl_c_finishes_the_file_of_a_room(shell: Shell, livekit: LivekitServer) -> None:
    camera = VideoSpec(width=640, height=360, colour=COLOURS[2])
    async with Publisher(livekit, "taped", "ann", camera, AudioSpec(tone_hz=440)):
        process = await shell.begin("record", "room:taped", "room.mp4", "--layout", "single-speaker")
        await recording(shell.folder / "data" / "openegress" / "spool")
        recorders = [process.pid, *(child.pid for child in psutil.Process(process.pid).children())]
        limits = [resource.prlimit(pid, resource.RLIMIT_CORE) for pid in recorders]
        assert limits == [(0, 0)] * len(recorders), "a core file would hold secrets"
        await asyncio.sleep(2.0)
        process.send_signal(signal.SIGINT)
        ran = await outcome(process)
    assert (ran.status, ran.err) == (0, "")
    path = shell.folder / "room.mp4"
    assert probe(path).duration_s > 1.5
    seen = mean_colour(path, 1.0, Rect(100, 300, 200, 60))
    assert seen == pytest.approx(COLOURS[2], abs=25)
    assert has_tone(tones(path), 440)


async def recording(spool: Path) -> None:
    """Returns when a recording's file has begun."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            if list(spool.glob("EG_*/file-0/*")):
                return
            await asyncio.sleep(0.05)


async def test_a_terminal_shows_how_it_goes(shell: Shell, pages: PageServer) -> None:
    ours, theirs = os.openpty()
    try:
        process = await shell.begin("record", pages.url(PATTERN), "t.mp4", "--duration", "2s", stderr=theirs)
        assert (await outcome(process)).status == 0
        shown = os.read(ours, 65_536).decode()
    finally:
        os.close(theirs)
        os.close(ours)
    lines = [line.removeprefix("\x1b[K") for line in shown.split("\r")]
    assert "starting" in lines
    assert any(re.fullmatch(r" +[0-3]s +[\d.]+ [kM]?B +\d+\.\d fps  \d+ dropped", line) for line in lines)


async def test_what_cannot_be_recorded_is_said(shell: Shell, pages: PageServer) -> None:
    for source, said in (
        (pages.url("status/404"), "page load error: "),
        ("page.html", '"page.html" is neither a URL nor a room: write https://... or room:NAME'),
        ("room:TYPO", "requested room does not exist: 'TYPO' is not on ws://127.0.0.1:"),
    ):
        ran = await shell.run("record", source, "bad.mp4", "--duration", "2s")
        assert ran.status == 1
        assert ran.err.startswith("openegress: ") and said in ran.err
        assert "Traceback" not in ran.err
    ran = await shell.run("record", pages.url("blank"), "bad.mp4", "--duration", "soon")
    assert (ran.status, ran.out) == (1, "")
    assert '"soon" is not a duration: write 30s, 1m30s or a number of seconds' in ran.err


# --- a client of a server


async def test_start_list_update_layout_stop(
    tmp_path: Path, shell: Shell, livekit: LivekitServer, pages: PageServer
) -> None:
    async with Service(tmp_path / "serve", livekit) as service:
        shell.environment["OPENEGRESS_URL"] = service.url
        request = tmp_path / "request.json"
        request.write_text(json.dumps({"url": pages.url("blank"), "file": {"filepath": "web.mp4"}}))
        started = await shell.run("start", "--type", "web", str(request), "--json")
        assert started.status == 0, started.err
        egress_id = json.loads(started.out)["egress_id"]
        await service.active(egress_id)
        listed = await shell.run("list", "--active")
        header, row = listed.out.splitlines()
        assert header.split()[:4] == ["EGRESS", "KIND", "SOURCE", "STATUS"]
        assert row.split()[:4] == [egress_id, "web", pages.url("blank"), "active"]
        unchanged = await shell.run("update-layout", "--id", egress_id, "--layout", "speaker")
        assert unchanged.status == 0, unchanged.err
        assert "the layout has no effect: this is a web" in unchanged.out
        stopped = await shell.run("stop", "--id", egress_id)
        assert stopped.out == f"{egress_id}  ending  web of {pages.url('blank')}\n"
        info = await service.wait(egress_id)
        assert info["status"] == "EGRESS_COMPLETE" and location(info).is_file()

        async with Publisher(livekit, "laid", "ann", VideoSpec(width=320, height=180, kbps=200)):
            request.write_text(json.dumps({"room_name": "laid", "file": {"filepath": "room.mp4"}}))
            started = await shell.run("start", "--type", "room-composite", str(request), "--json")
            page_id = egress_id
            egress_id = json.loads(started.out)["egress_id"]
            await service.active(egress_id)
            layout = ("--layout", "speaker-light", "--json")
            changed = await shell.run("update-layout", "--id", egress_id, *layout)
            assert json.loads(changed.out)["room_composite"]["layout"] == "speaker-light"
            listed = await shell.run("list", "--room", "laid", "--json")
            assert [each["egress_id"] for each in json.loads(listed.out)] == [egress_id]
            both = await shell.run("list", "--id", page_id, "--id", egress_id)
            assert [line.split()[0] for line in both.out.splitlines()] == ["EGRESS", page_id, egress_id]
            await service.finish(egress_id)
        again = await shell.run("stop", "--id", egress_id)
        assert again.status == 1
        assert "egress with status EGRESS_COMPLETE cannot be stopped" in again.err
        assert (await shell.run("list", "--active")).out == ""


async def test_a_server_that_is_not_there(shell: Shell) -> None:
    ran = await shell.run("list", "--url", f"http://127.0.0.1:{free_port()}")
    assert ran.status == 1
    assert "is openegress serving there?" in ran.err and "Traceback" not in ran.err


# --- doctor


async def test_doctor_finds_nothing_wrong(shell: Shell) -> None:
    ran = await shell.run("doctor")
    assert ran.status == 0, ran.out + ran.err
    lines = ran.out.splitlines()
    assert lines and all(line.startswith(("[  ok]", "[ ok ]", "[ok]")) for line in lines)
    for part in ("browser, display and sound", "LiveKit server and key", "template page", "storage", "spool"):
        assert any(f"] {part}: " in line for line in lines), part


async def test_doctor_says_how_to_mend(shell: Shell, tmp_path: Path) -> None:
    shell.environment["LIVEKIT_API_SECRET"] = "another-secret-of-at-least-32-characters"
    blocked = tmp_path / "blocked"
    blocked.write_text("no folder")
    ran = await shell.run("doctor", "--output-root", str(blocked))
    assert ran.status == 1
    failed = {line.split("] ")[1].split(":")[0]: line for line in ran.out.splitlines() if "[FAIL]" in line}
    assert failed.keys() == {"LiveKit server and key", "storage"}
    assert "LIVEKIT_API_KEY" in failed["LiveKit server and key"]
    assert "LIVEKIT_API_SECRET" in failed["LiveKit server and key"]
    assert str(blocked) in failed["storage"]
    assert shell.environment["LIVEKIT_API_SECRET"] not in ran.out + ran.err


# --- serve, told to end


async def test_a_drained_service_records_on_until_it_is_stopped(tmp_path: Path, pages: PageServer) -> None:
    async with Service(tmp_path) as service:
        request = {"url": pages.url(PATTERN), "file_outputs": [{"filepath": "drained.mp4"}]}
        egress_id = (await service.call("StartWebEgress", **request))["egress_id"]
        await service.active(egress_id)
        ending = asyncio.create_task(service.stop(signal.SIGTERM))
        async with asyncio.timeout(5):
            while True:
                try:
                    await service.call("StartWebEgress", **(request | {"url": "http://127.0.0.1:1/"}))
                except Refused as refused:
                    if refused.code == "unavailable":
                        assert "shut" in refused.message
                        break
                await asyncio.sleep(0.05)
        await asyncio.sleep(1.5)
        assert (await service.info(egress_id))["status"] == "EGRESS_ACTIVE"
        assert not ending.done()
        await service.call("StopEgress", egress_id=egress_id)
        assert await asyncio.wait_for(ending, 20) == 0
        await service.start()
        info = await service.info(egress_id)
        assert (info["status"], info["details"]) == ("EGRESS_COMPLETE", "End reason: StopEgress API")
        assert probe(location(info)).duration_s > 1.5


async def test_an_interrupted_service_finishes_what_it_records(tmp_path: Path, pages: PageServer) -> None:
    async with Service(tmp_path) as service:
        request = {"url": pages.url(PATTERN), "file_outputs": [{"filepath": "interrupted.mp4"}]}
        egress_id = (await service.call("StartWebEgress", **request))["egress_id"]
        await service.active(egress_id)
        await asyncio.sleep(2.0)
        assert await asyncio.wait_for(service.stop(signal.SIGINT), 20) == 0
        await service.start()
        info = await service.info(egress_id)
        assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
        assert end_reason(info) == "End reason: Process killed"
        assert probe(location(info)).duration_s > 1.5
        assert counters(location(info)).in_order
