"""The deployment page's commands, run with its configurations: what starts is ready, and SIGTERM ends it.

Ports, folders and the address of Redis are this test's. Commands for containers and clusters are parsed by
tests/unit/test_docs_examples.py; the chart's values are rendered by test_deploy_helm.py.
"""

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from testkit.livekit_server import free_port
from testkit.markdown import ROOT, Block, blocks, commands
from testkit.redis_server import RedisServer
from testkit.service import EgressClient

PAGE = ROOT / "docs" / "deployment.md"
OPENEGRESS = Path(sys.executable).parent / "openegress"
READY_WITHIN_S = 30.0
"""A start takes one or two seconds; a busy machine takes longer."""
SERVICES = ("serve", "worker")
LATER = ("doctor",)
"""Needs Chromium and a LiveKit server; tests/e2e/test_commands.py runs it."""


def section(title: str) -> list[Block]:
    lines = PAGE.read_text().splitlines()
    start = lines.index(f"## {title}") + 1
    end = next((n for n, line in enumerate(lines[start:], start) if line.startswith("## ")), len(lines))
    return [block for block in blocks([PAGE]) if start < block.line <= end]


def own_commands(title: str) -> list[list[str]]:
    """What the section says to do with `openegress`, as words behind its name."""
    lines = [line for block in section(title) if block.language == "sh" for line in commands(block)]
    return [words[1:] for words in map(shlex.split, lines) if words[0] == "openegress"]


def adapted(title: str, folder: Path, redis: str) -> dict[str, Any]:
    """The section's configuration, on this machine."""
    (block,) = (block for block in section(title) if block.title == "config.yaml")
    config: dict[str, Any] = yaml.safe_load(block.text)
    if "redis" in config:
        config["redis"]["address"] = redis
    places = {"host": "127.0.0.1", "port": free_port(), "template_port": free_port()}
    places |= {name: free_port() for name in ("health_port", "prometheus_port")}
    places |= {"data_dir": str(folder / "data"), "output_root": str(folder / "out"), "prewarmed_browsers": 0}
    return config | places


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("LIVEKIT_", "EGRESS_"))}


async def run(words: list[str], folder: Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        OPENEGRESS,
        *words,
        cwd=folder,
        env=environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


@asynccontextmanager
async def running(words: list[str], config: dict[str, Any], folder: Path) -> AsyncIterator[None]:
    """Ready, and ended by SIGTERM with status 0."""
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            OPENEGRESS, *words, cwd=folder, env=environment(), stdout=log, stderr=log
        )
    try:
        async with asyncio.timeout(READY_WITHIN_S), aiohttp.ClientSession() as http:
            while not await is_ready(http, config["health_port"]):
                assert process.returncode is None, (folder / "log").read_text()
                await asyncio.sleep(0.05)
        yield
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(READY_WITHIN_S):
            assert await process.wait() == 0, (folder / "log").read_text()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def is_ready(http: aiohttp.ClientSession, port: int) -> bool:
    try:
        async with http.get(f"http://127.0.0.1:{port}/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientConnectionError:
        return False


@pytest.mark.parametrize("title", ["One machine", "Behind a livekit-server", "Own cluster"])
async def test_it_runs_as_it_says(title: str, tmp_path: Path) -> None:
    started = 0
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(RedisServer())
        for number, words in enumerate(own_commands(title)):
            folder = tmp_path / str(number)
            folder.mkdir()
            config = adapted(title, folder, redis.address)
            (folder / "config.yaml").write_text(yaml.safe_dump(config))
            if words[0] in LATER:
                continue
            if words[0] not in SERVICES:
                status, said = await run(words, folder)
                assert status == 0, said
                continue
            await stack.enter_async_context(running(words, config, folder))
            started += 1
            if words[0] == "serve":
                api = f"http://127.0.0.1:{config['port']}"
                async with EgressClient(api, config["api_key"], config["api_secret"]) as client:
                    assert (await client.call("ListEgress"))["items"] == []
    assert started
