"""Who the service is to a cloud: its handlers know it, and neither /proc nor what they start does."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from openegress.core import ipc
from openegress.core.ipc import BrowserSettings, HandlerSettings
from openegress.handler.loop import HandlerLoop
from openegress.source.web.browser import Browser
from openegress.source.web.process import descendants
from openegress.worker.fork_client import ForkClient
from openegress.worker.process import HandlerProcess

IDENTITY = {
    "AWS_ROLE_ARN": "arn:aws:iam::1:role/r",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/run/secrets/token",
    "AZURE_FEDERATED_TOKEN_FILE": "/run/secrets/azure",
    "GOOGLE_APPLICATION_CREDENTIALS": "/run/secrets/gcp.json",
}
SECRET = {"LIVEKIT_API_SECRET": "s3cr3t", "EGRESS_CONFIG_BODY": "s3cr3t", "OPENEGRESS_API_SECRET": "s3cr3t"}


@pytest.fixture
async def forks() -> AsyncIterator[ForkClient]:
    forks = ForkClient()
    yield forks
    await forks.close()


@pytest.fixture(autouse=True)
def ambient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (IDENTITY | SECRET).items():
        monkeypatch.setenv(name, value)


def environment(pid: int) -> str:
    return Path(f"/proc/{pid}/environ").read_bytes().replace(b"\0", b"\n").decode(errors="replace")


def shown(text: str) -> list[str]:
    return [name for name in IDENTITY | SECRET if name in text]


async def test_proc_does_not_show_it(forks: ForkClient, tmp_path: Path) -> None:
    handler = await HandlerProcess.spawn(forks, HandlerSettings(str(tmp_path)))
    try:
        async with asyncio.timeout(20):
            assert isinstance(await anext(handler.messages()), ipc.Ready)
        assert shown(environment(handler.pid)) == []
    finally:
        handler.kill()
        await handler.reap()


async def test_a_handler_has_it_from_its_worker(forks: ForkClient, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[ipc.ToHandler] = []

    class Channel:
        async def messages(self) -> AsyncIterator[ipc.ToHandler]:
            for message in sent:
                yield message

        def send(self, message: ipc.ToWorker) -> None:
            """Nobody listens."""

    monkeypatch.setattr(HandlerProcess, "send", lambda self, message: sent.append(message))
    handler = await HandlerProcess.spawn(forks, HandlerSettings("/nowhere"))
    handler.kill()
    await handler.reap()
    told = sent[0]
    assert isinstance(told, ipc.Environment)
    assert told.variables.items() >= IDENTITY.items()
    assert not set(told.variables) & set(SECRET)
    for name in IDENTITY:
        monkeypatch.delenv(name)
    del sent[1:]
    await HandlerLoop(Channel()).run()  # type: ignore[arg-type]
    assert {name: os.environ.get(name) for name in IDENTITY} == IDENTITY


async def test_what_a_handler_starts_does_not_inherit_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = await Browser.start(BrowserSettings(), 320, 180, 15, tmp_path / "browser", audio=True)
    try:
        started = {pid: environment(pid) for pid in descendants(os.getpid())}
        names = {Path(f"/proc/{pid}/comm").read_text().strip() for pid in started}
    finally:
        await browser.close()
    assert {"Xvfb", "pulseaudio"} <= names and any("chrom" in name for name in names)
    assert [found for text in started.values() if (found := shown(text))] == []
