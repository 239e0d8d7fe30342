"""Records a LiveKit room with three drawn people who talk in turns, the way an application would.

A livekit-server, three publishers and `openegress serve` are started on loopback; then plain HTTP does the
rest: StartRoomCompositeEgress, ListEgress for the progress line, UpdateLayout half-way, StopEgress.
"""

import asyncio
import contextlib
import logging
import time
from pathlib import Path
from typing import Any

from examples.people import CAST, Person
from testkit.livekit_server import LivekitServer
from testkit.probe import contact_sheet, probe
from testkit.service import Service, location

ROOM = "demo"
SECONDS = 15
OUT = Path(__file__).resolve().parent.parent / "demo-out"


async def demo() -> None:
    # The publishers' SDK reports an error when they leave while it negotiates.
    logging.getLogger("livekit").setLevel(logging.CRITICAL)
    async with contextlib.AsyncExitStack() as stack:
        say(f"starting livekit-server, {len(CAST)} participants and openegress")
        server = await stack.enter_async_context(LivekitServer())
        began = time.monotonic()
        for person in [Person(server, ROOM, place, began) for place in range(len(CAST))]:
            await stack.enter_async_context(person)
        service = await stack.enter_async_context(Service(OUT, server))
        info = await record(service)
    report(info)


async def record(service: Service) -> dict[str, Any]:
    asked = time.monotonic()
    info = await service.call(
        "StartRoomCompositeEgress",
        room_name=ROOM,
        layout="grid",
        file_outputs=[{"filepath": "{room_name}-{time}.mp4"}],
    )
    egress_id = info["egress_id"]
    say(f"StartRoomCompositeEgress -> {egress_id} {info['status']}")
    await service.active(egress_id)
    active = time.monotonic()
    say(f"recording, {active - asked:.2f} s after the request")
    layout = "grid"
    while (elapsed := time.monotonic() - active) < SECONDS:
        if layout == "grid" and elapsed > SECONDS / 2:
            layout = "speaker"
            await service.call("UpdateLayout", egress_id=egress_id, layout=layout)
        info = await service.info(egress_id)
        if info["status"] != "EGRESS_ACTIVE":
            raise SystemExit(f"{info['status']}: {info['error']}")
        progress(elapsed)
        await asyncio.sleep(0.5)
    progress(SECONDS)
    print()
    asked = time.monotonic()
    info = await service.finish(egress_id)
    say(f"{info['status']}, {time.monotonic() - asked:.2f} s after StopEgress")
    if info["status"] != "EGRESS_COMPLETE":
        raise SystemExit(info["error"])
    return info


def progress(seconds: float) -> None:
    done = round(seconds / SECONDS * 30)
    print(f"\r    [{'#' * done:<30}] {seconds:4.1f} s", end="", flush=True)


def report(info: dict[str, Any]) -> None:
    path = location(info)
    facts = probe(path)
    sheet = path.with_suffix(".png")
    contact_sheet(path, sheet)
    print(f"    file      {path}")
    print(f"    duration  {facts.duration_s:.2f} s")
    print(f"    size      {path.stat().st_size / 1e6:.2f} MB")
    if facts.video is not None:
        size = "x".join(map(str, facts.video.sizes[0]))
        print(f"    video     {facts.video.codec} {size} at {facts.video.fps:.2f} fps")
    if facts.audio is not None:
        print(f"    audio     {facts.audio.codec} {facts.audio.sample_rate} Hz")
    print(f"    pictures  {sheet}")


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


if __name__ == "__main__":
    asyncio.run(demo())
