"""LiveKit's own clients against a running Egress API, each with the same script: start each kind, list,
update, stop, errors.

Go's knows the fields of protocol v1.54.0. Python's carries fields that it does not know. Node's and Java's do
neither: those requests are sent as JSON, with a token of theirs.
"""

import asyncio
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from livekit import api as livekit_api
from livekit import rtc
from livekit.protocol.egress import EgressInfo

from testkit.egress_api import EgressApi, egress_api
from testkit.livekit_server import LivekitServer
from testkit.node_packages import install

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools"
CACHE = ROOT / ".cache"
PATH = f"{os.environ.get('PATH', '')}:{CACHE / 'bin'}"
ROOM = "conformance"
STEPS = [
    "StartWebEgress",
    "StartRoomCompositeEgress",
    "StartRoomCompositeEgress of sound",
    "StartParticipantEgress",
    "StartTrackCompositeEgress",
    "StartTrackEgress to a file",
    "StartTrackEgress to a websocket",
    "StartEgress",
    "StartEgress of routes",
    "StartEgress into an MCAP file",
    "ListEgress",
    "UpdateStream",
    "UpdateLayout",
    "UpdateLayout to an unknown layout",
    "UpdateLayout of a web page",
    "no such room",
    "no output",
    "bad page",
    "bad stream",
    "no such egress",
    *["StopEgress"] * 10,
    "stopped twice",
    "wrong secret",
]
STEPS_WITHOUT_V2 = [step for step in STEPS if step not in ("StartEgress", "StopEgress")]
STEPS_WITHOUT_V2[-2:-2] = ["StopEgress"] * 9


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[EgressApi]:
    async with LivekitServer() as livekit:
        await livekit.room_service().create_room(livekit_api.CreateRoomRequest(name=ROOM))
        async with egress_api(tmp_path, livekit, prompt=True) as running, AsyncExitStack() as recorders:

            async def join(info: EgressInfo) -> None:
                """As the recorder does whose layout can be changed."""
                if info.room_composite.layout:
                    recorder = rtc.Room()
                    await recorder.connect(livekit.ws_url, livekit.recorder_token(ROOM, info.egress_id))
                    recorders.push_async_callback(recorder.disconnect)

            running.worker.on_start = join
            yield running


def program(name: str) -> str:
    found = shutil.which(name, path=PATH)
    assert found, f"{name} is neither on PATH nor in .cache/bin: run `make setup`"
    return found


def build(folder: Path, product: Path, *command: str) -> None:
    """Builds a client unless its product is newer than its sources; one at a time."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sources = [path for path in folder.rglob("*") if "target" not in path.relative_to(folder).parts]
        newest = max(path.stat().st_mtime for path in sources if path.is_file())
        if not product.exists() or product.stat().st_mtime < newest:
            done = subprocess.run(
                [program(command[0]), *command[1:]],
                cwd=folder,
                # As livekit-server was built, whose packages the Go client then need not compile again.
                env=os.environ | {"CGO_ENABLED": "0"},
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            if product.exists():
                os.utime(product)


async def drive(api: EgressApi, *command: str | Path, cwd: Path) -> list[str]:
    """The steps a client went through, without ids."""
    process = await asyncio.create_subprocess_exec(
        *command,
        api.url,
        ROOM,
        env=os.environ | {"LIVEKIT_API_KEY": api.api_key, "LIVEKIT_API_SECRET": api.api_secret},
        cwd=cwd,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    text = output.decode()
    assert process.returncode == 0, text
    steps = [line.removeprefix("ok ") for line in text.splitlines() if line.startswith("ok ")]
    return [step.partition(" EG_")[0] for step in steps]


async def test_python(api: EgressApi) -> None:
    folder = TOOLS / "conformance-python"
    assert await drive(api, sys.executable, "conformance.py", cwd=folder) == STEPS


async def test_curl(api: EgressApi) -> None:
    folder = TOOLS / "conformance-curl"
    program("curl")
    assert await drive(api, program("bash"), "conformance.sh", cwd=folder) == STEPS


async def test_node(api: EgressApi) -> None:
    folder = TOOLS / "conformance-node"
    await asyncio.to_thread(install, folder, "livekit-server-sdk")
    assert await drive(api, program("node"), "conformance.js", cwd=folder) == STEPS


@pytest.mark.timeout(600)
async def test_go(api: EgressApi) -> None:
    folder = TOOLS / "conformance-go"
    client = CACHE / "bin" / "conformance-go"
    await asyncio.to_thread(build, folder, client, "go", "build", "-mod=readonly", "-o", str(client), ".")
    assert await drive(api, client, cwd=folder) == STEPS


@pytest.mark.timeout(600)
async def test_java(api: EgressApi) -> None:
    folder = TOOLS / "conformance-java"
    classes = folder / "target" / "classes"
    await asyncio.to_thread(build, folder, classes / "Conformance.class", "mvn", "-q", "-B", "compile")
    classpath = f"{classes}:{classes.parent / 'lib'}/*"
    assert await drive(api, program("java"), "-cp", classpath, "Conformance", cwd=folder) == STEPS_WITHOUT_V2
