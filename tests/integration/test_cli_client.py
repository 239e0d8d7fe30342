"""The command as a client of a running Egress API: what people see, what programs get, how it fails."""

import asyncio
import json
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from openegress.cli import main
from openegress.core.events import Active, StreamStatus, StreamUpdate
from testkit.egress_api import EgressApi, egress_api
from testkit.livekit_server import free_port
from testkit.local_app import serving

WITHIN_S = 20.0
KEY_URL = "rtmp://host/app/abcSECRETxyz"


@dataclass(frozen=True, slots=True)
class Ran:
    status: int
    out: str
    err: str


Run = Callable[..., Coroutine[Any, Any, Ran]]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[EgressApi]:
    async with egress_api(tmp_path) as running:
        yield running


@pytest.fixture
def run(api: EgressApi, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("OPENEGRESS_URL", api.url)
    monkeypatch.setenv("LIVEKIT_API_KEY", api.api_key)
    monkeypatch.setenv("LIVEKIT_API_SECRET", api.api_secret)

    async def ran(*arguments: str) -> Ran:
        """In a thread: the server has this one."""
        try:
            status = await asyncio.to_thread(main, arguments)
        except SystemExit as ended:
            status = int(ended.code or 0)
        read = capsys.readouterr()
        return Ran(status, read.out, read.err)

    return ran


@pytest.fixture
def page(tmp_path: Path) -> str:
    path = tmp_path / "request.json"
    path.write_text(json.dumps({"url": "https://host/?t=1", "stream_outputs": [{"urls": [KEY_URL]}]}))
    return str(path)


async def test_start_list_stop(run: Run, api: EgressApi, page: str) -> None:
    started = await run("start", "--type", "web", page)
    egress_id = next(iter(api.worker.infos))
    assert started == Ran(0, f"{egress_id}  starting  web of https://host/?…\n", "")
    listed = await run("list")
    header, row = listed.out.splitlines()
    assert header.split() == ["EGRESS", "KIND", "SOURCE", "STATUS", "STARTED", "LASTED", "SIZE", "OUTPUT"]
    assert row.split()[:4] == [egress_id, "web", "https://host/?…", "starting"]
    assert "SECRET" not in started.out + listed.out and "\x1b" not in listed.out
    await api.worker.tell(egress_id, Active(1))
    stopped = await run("stop", egress_id)
    assert stopped == Ran(0, f"{egress_id}  ending  web of https://host/?…\n", "")


async def test_programs_get_whole_records(run: Run, page: str) -> None:
    started = json.loads((await run("start", "--type", "web", page, "--json")).out)
    (listed,) = json.loads((await run("list", "--json")).out)
    assert started["status"] == listed["status"] == "EGRESS_STARTING"
    assert started["egress_id"] == listed["egress_id"]
    assert (await run("list", "--json", "--room", "other")) == Ran(0, "[]\n", "")


async def test_nothing_to_list(run: Run) -> None:
    assert await run("list") == Ran(0, "", "no egress matches\n")


async def test_streams(run: Run, api: EgressApi, page: str) -> None:
    egress_id = json.loads((await run("start", "--type", "web", page, "--json")).out)["egress_id"]
    await api.worker.tell(
        egress_id, StreamUpdate(0, "rtmp://host/", StreamStatus.FAILED, error="refused", retries=2)
    )
    ran = await run("update-stream", "--id", egress_id, "--add-urls", "rtmp://host/app/second-SECRET-key")
    lines = [line.split() for line in ran.out.splitlines()]
    assert lines[0] == ["STREAM", "STATUS", "RETRIES", "ERROR"]
    assert lines[1][1:] == ["failed", "2", "refused"]
    assert len(lines) == 3 and "SECRET" not in ran.out
    nothing = await run("update-stream", "--id", egress_id)
    assert nothing.status == 1 and "--add-urls or --remove-urls" in nothing.err


async def test_all_are_stopped_that_can_be(run: Run, api: EgressApi, page: str) -> None:
    await run("start", "--type", "web", page)
    egress_id = next(iter(api.worker.infos))
    await api.worker.tell(egress_id, Active(1))
    ran = await run("stop", "--id", "EG_unknown", "--id", egress_id)
    assert ran.status == 1
    assert ran.err == "openegress: EG_unknown: not_found: egress does not exist\n"
    assert ran.out.startswith(f"{egress_id}  ending")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["list", "--nope"], 2, "openegress: unrecognized arguments: --nope; see openegress --help"),
        (["stop"], 2, "openegress stop: one of the arguments ID --id is required; see"),
        (["start", "/nowhere.json"], 1, "openegress: /nowhere.json: No such file or directory"),
        (["list", "--watch"], 1, "openegress: --watch needs a terminal"),
        (["list", "--api-secret", "wrong" * 8], 1, "check LIVEKIT_API_KEY and LIVEKIT_API_SECRET"),
        (["list", "--url", f"http://127.0.0.1:{free_port()}"], 1, "is openegress serving there?"),
    ],
)
async def test_errors_are_one_line(run: Run, arguments: list[str], status: int, said: str) -> None:
    ran = await run(*arguments)
    assert (ran.status, ran.out) == (status, "")
    assert said in ran.err
    assert ran.err.count("\n") == 1 and "wrongwrong" not in ran.err


async def test_something_else_answers(run: Run) -> None:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", _html)
    async with serving(app) as port:
        ran = await run("list", "--url", f"http://127.0.0.1:{port}")
    assert ran.status == 1 and "not as an Egress API does" in ran.err


async def _html(request: web.Request) -> web.Response:
    return web.Response(text="<p>It works!")


async def test_help_tells_the_exit_statuses(run: Run) -> None:
    for arguments in (["--help"], ["list", "--help"], ["config", "check", "--help"]):
        ran = await run(*arguments)
        assert ran.status == 0
        assert "exit status: 0 done, 1 failed" in " ".join(ran.out.split())


def listen_to_ctrl_c() -> None:
    """As a terminal's programs do; those of a background job ignore it, and so would their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


async def test_a_terminal_has_colours_and_can_watch(run: Run, page: str) -> None:
    await run("start", "--type", "web", page)
    ours, theirs = pty.openpty()
    try:
        command = (sys.executable, "-m", "openegress.cli", "list", "--watch")
        environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {"TERM": "xterm"}
        watching = await asyncio.create_subprocess_exec(
            *command, stdout=theirs, env=environment, preexec_fn=listen_to_ctrl_c
        )
        shown = ""
        async with asyncio.timeout(WITHIN_S):
            while shown.count("\x1b[H\x1b[2J") < 2:
                shown += (await asyncio.to_thread(os.read, ours, 65_536)).decode()
        watching.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(watching.wait(), WITHIN_S) == 0
    finally:
        os.close(theirs)
        os.close(ours)
    assert "\x1b[1mEGRESS" in shown and "\x1b[33mstarting\x1b[0m" in shown
