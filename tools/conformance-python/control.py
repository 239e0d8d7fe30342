"""Steers a recording with LiveKit's Python SDK as it is. Prints the status it ends with, and its details.

LIVEKIT_API_KEY=... LIVEKIT_API_SECRET=... python control.py URL ROOM
Somebody must publish in the room.
"""

import asyncio
import sys
from collections.abc import Callable

from livekit import api
from livekit.protocol.egress import EgressInfo, EgressStatus

EVERY_S, WITHIN_S = 0.1, 20.0


async def main(url: str, room: str) -> None:
    async with api.LiveKitAPI(url) as livekit:
        egress = livekit.egress

        async def until(egress_id: str, is_so: Callable[[EgressInfo], bool]) -> EgressInfo:
            async with asyncio.timeout(WITHIN_S):
                while True:
                    listed = await egress.list_egress(api.ListEgressRequest(egress_id=egress_id))
                    if is_so(listed.items[0]):
                        return listed.items[0]
                    await asyncio.sleep(EVERY_S)

        async def order(layout: str) -> None:
            await egress.update_layout(api.UpdateLayoutRequest(egress_id=egress_id, layout=layout))

        started = await egress.start_room_composite_egress(
            api.RoomCompositeEgressRequest(
                room_name=room,
                layout="grid?max_duration=1h&stop_when_silent=10m",
                file_outputs=[api.EncodedFileOutput(filepath=f"{room}-python.mp4")],
            )
        )
        egress_id = started.egress_id
        await until(egress_id, lambda info: info.status == EgressStatus.EGRESS_ACTIVE)
        await order("@pause")
        await until(egress_id, lambda info: "Paused" in info.details.split("; "))
        await order("@resume")
        await until(egress_id, lambda info: "Paused" not in info.details.split("; "))
        await order("speaker?max_duration=1s")
        ended = await until(egress_id, lambda info: info.status > EgressStatus.EGRESS_ENDING)
        print(EgressStatus.Name(ended.status), ended.details)  # noqa: T201


asyncio.run(main(*sys.argv[1:3]))
