"""Steers a recording with LiveKit's Python SDK as it is: people, looks, markers, parts, a pause and a limit.

LIVEKIT_API_KEY=... LIVEKIT_API_SECRET=... python control.py URL LIVEKIT_URL ROOM
URL is that of the Egress API. In the room, bob and somebody else must publish. Prints the egress id.
"""

import asyncio
import sys
from collections.abc import Callable

from livekit import api
from livekit.protocol.egress import EgressInfo, EgressStatus

EVERY_S, WITHIN_S = 0.1, 30.0
LONG_S = 2.5
"""Enough to be seen and heard in the recording."""
LAYOUT = "grid?leave_out=staff-*&split_every=10s&max_duration=1h&text=MMMMMMMM&text_corner=bottom-right"


async def main(url: str, livekit_url: str, room: str) -> None:
    async with api.LiveKitAPI(url) as livekit, api.LiveKitAPI(livekit_url) as rooms:
        egress = livekit.egress

        async def until(is_so: Callable[[EgressInfo], bool]) -> None:
            async with asyncio.timeout(WITHIN_S):
                while True:
                    listed = await egress.list_egress(api.ListEgressRequest(egress_id=started.egress_id))
                    if is_so(listed.items[0]):
                        return
                    await asyncio.sleep(EVERY_S)

        async def order(layout: str) -> None:
            await egress.update_layout(api.UpdateLayoutRequest(egress_id=started.egress_id, layout=layout))

        started = await egress.start_room_composite_egress(
            api.RoomCompositeEgressRequest(
                room_name=room,
                layout=f"{LAYOUT}&text_size=20%25",
                advanced=api.EncodingOptions(width=640, height=360, framerate=15),
                file_outputs=[api.EncodedFileOutput(filepath=f"{room}.mp4")],
            )
        )
        await until(lambda info: info.status == EgressStatus.EGRESS_ACTIVE)
        await asyncio.sleep(LONG_S)
        await order("@marker=Bob%20leaves")
        await rooms.room.update_participant(
            api.UpdateParticipantRequest(room=room, identity="bob", attributes={"egress.exclude": "true"})
        )
        await asyncio.sleep(LONG_S)
        await order("@pause")
        await until(lambda info: "Paused" in info.details.split("; "))
        await asyncio.sleep(LONG_S)
        await order("@resume")
        await until(lambda info: "Paused" not in info.details.split("; "))
        await order("?text=")
        await order("@marker=No%20text&ago=0s")
        await until(lambda info: len(info.file_results) == 2)
        await asyncio.sleep(LONG_S)
        await order("speaker?max_duration=1s")
        await until(lambda info: info.status > EgressStatus.EGRESS_ENDING)
        print(started.egress_id)  # noqa: T201


asyncio.run(main(*sys.argv[1:4]))
