"""What users install: the built wheel in an environment of its own, without this repository."""

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from testkit.livekit_server import LivekitServer
from testkit.page_server import PageServer
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.probe import counters, probe

ROOT = Path(__file__).parents[2]
UV = shutil.which("uv") or str(ROOT / ".cache" / "bin" / "uv")


def run(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """With none of this repository's paths and settings."""
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("LIVEKIT_", "EGRESS_", "PYTHON", "VIRTUAL"))
    }
    env = kept | {"XDG_DATA_HOME": str(cwd / "data")} | environment
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=110, check=False)


def access(livekit: LivekitServer) -> dict[str, str]:
    return {
        "LIVEKIT_URL": livekit.ws_url,
        "LIVEKIT_API_KEY": livekit.api_key,
        "LIVEKIT_API_SECRET": livekit.api_secret,
    }


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `openegress` command of a clean environment."""
    folder = tmp_path_factory.mktemp("installed")
    for command in (
        (UV, "build", "--quiet", "--wheel", "--out-dir", str(folder), str(ROOT)),
        (UV, "venv", "--quiet", "--python", sys.executable, str(folder / "venv")),
    ):
        done = run(*command, cwd=folder)
        assert done.returncode == 0, done.stderr
    [wheel] = folder.glob("*.whl")
    python = str(folder / "venv" / "bin" / "python")
    done = run(UV, "pip", "install", "--quiet", "--python", python, str(wheel), cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "venv" / "bin" / "openegress"


def test_it_comes_with_its_pages(installed: Path) -> None:
    [package] = installed.parents[1].glob("lib/python*/site-packages/openegress")
    for page in ("template/index.html", "dashboard/index.html"):
        assert (package / "api" / "static" / page).is_file()
    assert (package / "config" / "reference.yaml").is_file()


async def test_doctor_finds_nothing_wrong(installed: Path, tmp_path: Path) -> None:
    async with LivekitServer() as livekit:
        done = await asyncio.to_thread(run, str(installed), "doctor", cwd=tmp_path, **access(livekit))
    assert done.returncode == 0, done.stdout + done.stderr


async def test_a_page_is_recorded(installed: Path, tmp_path: Path) -> None:
    async with PageServer() as pages:
        page = pages.url("pattern.html?tone=1")
        command = (str(installed), "record", page, "page.mp4", "--duration", "2s")
        done = await asyncio.to_thread(run, *command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    facts = probe(tmp_path / "page.mp4")
    assert facts.audio is not None and facts.duration_s > 1.5
    assert counters(tmp_path / "page.mp4").unreadable == 0


async def test_a_room_is_recorded(installed: Path, tmp_path: Path) -> None:
    async with (
        LivekitServer() as livekit,
        Publisher(livekit, "demo", "ann", VideoSpec(), AudioSpec(tone_hz=440)),
    ):
        command = (str(installed), "record", "room:demo", "room.mp4", "--duration", "2s")
        done = await asyncio.to_thread(run, *command, cwd=tmp_path, **access(livekit))
    assert done.returncode == 0, done.stderr
    facts = probe(tmp_path / "room.mp4")
    assert facts.video is not None and facts.audio is not None
