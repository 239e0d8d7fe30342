"""LiveKit's own SDKs, unchanged, choose who is recorded and how it looks, set markers, split, pause and limit
a recording: at our API, and through a stock livekit-server."""

import asyncio
import json
import os
import shutil
import sys
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path

import pytest

from testkit.livekit_server import LivekitServer
from testkit.node_packages import install
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.probe import Rect, counters, has_tone, mean_colour, probe, tones
from testkit.redis_server import RedisServer
from testkit.service import EgressClient, Info, Service

TOOLS = Path(__file__).resolve().parents[2] / "tools"
ANN_HZ, BOB_HZ, STAFF_HZ = 440, 880, 1320
EDGE_S = 0.9
"""Around a change, which goes by way of two servers."""
PART_S = 10.0
FPS = 15
CORNER = Rect(450, 280, 150, 55)
"""Where the text is."""


async def steer(livekit: LivekitServer, url: str, room: str, *command: str | Path) -> str:
    """The id of the egress."""
    keys = {"LIVEKIT_API_KEY": livekit.api_key, "LIVEKIT_API_SECRET": livekit.api_secret}
    process = await asyncio.create_subprocess_exec(
        *command,
        url,
        livekit.http_url,
        room,
        env=os.environ | keys,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode().strip()


def heard(path: Path, start_s: float, end_s: float) -> list[int]:
    found = tones(path, start_s=start_s, end_s=end_s)
    return [hz for hz in (ANN_HZ, BOB_HZ, STAFF_HZ) if has_tone(found, hz)]


def check(info: Info) -> None:
    assert (info["status"], info["error"]) == ("EGRESS_LIMIT_REACHED", "Session limit reached")
    assert info["details"].startswith("End reason: max_duration reached")
    first, second = (Path(each["location"]) for each in info["file_results"])
    manifest = json.loads(Path(info["manifest_location"]).read_text())
    left, bare = manifest["markers"]
    assert (left["name"], bare["name"]) == ("Bob leaves", "No text")
    left_s, bare_s = (each["position"] / 1e9 for each in (left, bare))
    assert first.with_suffix(".chapters.vtt").read_text().count(" --> ") == 2

    (pause,) = manifest["pauses"]
    paused_s = (pause["resumed_at"] - pause["paused_at"]) / 1e9
    assert paused_s > 2
    lengths_s = [probe(path).duration_s for path in (first, second)]
    # A part ends with a picture, which is left out where the machine has no time for it.
    assert PART_S - 0.1 < lengths_s[0] < PART_S + 1
    # Ann is alone by then, and fills the picture.
    shown = [
        value for time_s, value in counters(first).read if time_s > left_s + EDGE_S and value is not None
    ]
    jumped = max(after - before for before, after in pairwise([*shown, *counters(second).values]))
    assert (jumped - 1) / FPS == pytest.approx(paused_s, abs=0.2)

    assert heard(first, 0.3, left_s) == [ANN_HZ, BOB_HZ]
    assert heard(first, left_s + EDGE_S, lengths_s[0]) == [ANN_HZ]
    assert heard(second, 0.1, lengths_s[1]) == [ANN_HZ]
    with_text, without = (mean_colour(first, at_s, CORNER)[0] for at_s in (left_s - 0.3, bare_s + EDGE_S))
    assert with_text > without + 20, (with_text, without)


@pytest.mark.parametrize("way", ["our API", "stock livekit-server"])
async def test_python_and_node_steer_a_recording(tmp_path: Path, way: str) -> None:
    node = shutil.which("node", path=f"{os.environ['PATH']}:{TOOLS.parent / '.cache' / 'bin'}")
    assert node, "node is neither on PATH nor in .cache/bin: run `make setup`"
    node_home = await asyncio.to_thread(install, TOOLS / "conformance-node", "livekit-server-sdk")
    commands = {
        "python": (sys.executable, TOOLS / "conformance-python" / "control.py"),
        "node": (node, node_home / "control.js"),
    }
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        if way == "our API":
            livekit = await enter(LivekitServer())
            service = await enter(Service(tmp_path, livekit))
            url = service.url
        else:
            redis = await enter(RedisServer())
            livekit = await enter(LivekitServer(redis_url=redis.url))
            config = {"redis": {"address": redis.address}}
            await enter(Service(tmp_path, livekit, config, "worker"))
            url = livekit.http_url
        client = await enter(EgressClient(url, livekit.api_key, livekit.api_secret))
        camera = VideoSpec(width=320, height=180, fps=FPS, kbps=200, encoded=True)
        for room in commands:
            await enter(Publisher(livekit, room, "ann", camera, AudioSpec(tone_hz=ANN_HZ)))
            await enter(Publisher(livekit, room, "bob", None, AudioSpec(tone_hz=BOB_HZ)))
            await enter(Publisher(livekit, room, "staff-1", None, AudioSpec(tone_hz=STAFF_HZ)))
        ids = await asyncio.gather(
            *(steer(livekit, url, room, *command) for room, command in commands.items())
        )
        infos = [await client.info(egress_id) for egress_id in ids]
    for info in infos:
        check(info)
