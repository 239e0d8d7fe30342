"""`python -m bench.soak [--rounds 10] [--recordings 50]`: does a service grow that starts and stops all day?

Each recording is a track of sound, stopped as soon as it is active: what a start and an end leave behind is
the same for long ones. One line a round; no column but the first should rise.
"""

import argparse
import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from testkit.holdings import Holdings, settled
from testkit.livekit_server import LivekitServer
from testkit.participants import AudioSpec, Publisher
from testkit.service import Service


class Soak:
    """Short recordings, one after the other."""

    def __init__(self, service: Service, alice: Publisher) -> None:
        self.recorded = 0
        self._service = service
        self._alice = alice

    async def rounds(self, count: int) -> Holdings:
        """What the service holds after that many more."""
        for _ in range(count):
            await self._record()
        return await settled(self._service)

    async def _record(self) -> None:
        info = await self._service.call(
            "StartTrackEgress",
            room_name=self._alice.room_name,
            track_id=self._alice.sid("microphone"),
            file={"filepath": f"track-{self.recorded}"},
        )
        await self._service.active(info["egress_id"])
        info = await self._service.finish(info["egress_id"])
        if info["status"] != "EGRESS_COMPLETE":
            raise AssertionError(info["error"])
        await asyncio.to_thread(Path(info["file_results"][0]["location"]).unlink)
        self.recorded += 1


@asynccontextmanager
async def soaked(folder: Path) -> AsyncIterator[Soak]:
    config = {"queue": {"size": 4, "max_wait": "60s"}}  # for room on a busy machine
    async with (
        LivekitServer() as livekit,
        Service(folder, livekit, config) as service,
        Publisher(livekit, "r", "alice", None, AudioSpec()) as alice,
    ):
        yield Soak(service, alice)


async def run(rounds: int, recordings: int) -> None:
    print("recordings  MiB  files  threads  children  listening  temporary")
    with tempfile.TemporaryDirectory(prefix="oe-") as temporary, tempfile.TemporaryDirectory() as folder:
        os.environ["TMPDIR"] = tempfile.tempdir = temporary
        async with soaked(Path(folder)) as soak:
            for _ in range(rounds):
                held = await soak.rounds(recordings)
                print(
                    f"{soak.recorded:10} {held.rss_bytes / 2**20:4.0f} {held.files:6} {held.threads:8}"
                    f" {held.children:9} {held.listening:10} {len(held.temporary):10}",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.soak")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--recordings", type=int, default=50)
    arguments = parser.parse_args()
    asyncio.run(run(arguments.rounds, arguments.recordings))


if __name__ == "__main__":
    main()
