"""LiveKit's own SDKs, unchanged, set options and pause: at our API, and through a stock livekit-server."""

import asyncio
import os
import shutil
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from testkit.livekit_server import LivekitServer
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.redis_server import RedisServer
from testkit.service import Service

TOOLS = Path(__file__).resolve().parents[2] / "tools"
ROOM = "steered"


def node_client() -> Path:
    folder = TOOLS / "conformance-node"
    if not (folder / "node_modules").exists():
        command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "control.js"


async def steer(livekit: LivekitServer, url: str, *command: str | Path) -> str:
    keys = {"LIVEKIT_API_KEY": livekit.api_key, "LIVEKIT_API_SECRET": livekit.api_secret}
    process = await asyncio.create_subprocess_exec(
        *command,
        url,
        ROOM,
        env=os.environ | keys,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return output.decode().strip()


@pytest.mark.parametrize("way", ["our API", "stock livekit-server"])
async def test_python_and_node_steer_a_recording(tmp_path: Path, way: str) -> None:
    node = shutil.which("node", path=f"{os.environ['PATH']}:{TOOLS.parent / '.cache' / 'bin'}")
    assert node, "node is neither on PATH nor in .cache/bin: run `make setup`"
    script = await asyncio.to_thread(node_client)
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
        camera = VideoSpec(width=320, height=180, fps=15, kbps=200)
        await enter(Publisher(livekit, ROOM, "ann", camera, AudioSpec(level=0.3)))
        said = await asyncio.gather(
            steer(livekit, url, sys.executable, TOOLS / "conformance-python" / "control.py"),
            steer(livekit, url, node, script),
        )
    assert said == ["EGRESS_LIMIT_REACHED End reason: max_duration reached"] * 2, "\n".join(said)
