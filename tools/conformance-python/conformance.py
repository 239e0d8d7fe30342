"""Drives a running Egress API with LiveKit's Python SDK. Prints "ok <step>" for each step.

LIVEKIT_API_KEY=... LIVEKIT_API_SECRET=... python conformance.py URL ROOM
The room must exist; nothing need be published in it.
"""

import asyncio
import os
import re
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.message import Message
from livekit import api
from livekit.protocol.egress import AudioChannel, EgressInfo, EgressStatus
from livekit.protocol.models import ParticipantInfo

EXCLUDE, MUSIC = b"\x30\x01", b"\x2a\x05music"
"""Fields of AudioRoute: exclude, and track_name."""
ALL_VIDEOS, MCAP = b"\x2a\x02\x08\x01", b"\x08\x04"
"""MediaSource.videos with capture_all; FileOutput.file_type."""


def newer(message: Message, fields: bytes) -> Any:
    """With fields of protocol v1.54.0, which the SDK does not know (1.2.2), and sends as they are."""
    message.MergeFromString(fields)
    return message


def routed(room: str) -> api.StartEgressRequest:
    request = api.StartEgressRequest(
        room_name=room, outputs=[api.Output(file=api.FileOutput(filepath="conformance/routes-{time}"))]
    )
    audio = request.media.audio
    audio.capture_all = True
    newer(audio.routes.add(participant_kind=ParticipantInfo.AGENT), EXCLUDE)
    newer(audio.routes.add(participant_identity="ann", channel=AudioChannel.AUDIO_CHANNEL_LEFT), MUSIC)
    return request


class Script:
    """The steps, and the egresses they started."""

    def __init__(self, client: api.LiveKitAPI, url: str, room: str, api_key: str) -> None:
        self.egress = client.egress
        self.url = url
        self.room = room
        self.api_key = api_key
        self.started: list[EgressInfo] = []

    async def start(self, name: str, call: Awaitable[EgressInfo]) -> None:
        info = await call
        assert re.fullmatch("EG_[0-9A-Za-z]{12}", info.egress_id)
        assert info.status == EgressStatus.EGRESS_STARTING
        assert info.started_at > 0
        assert "SECRET" not in str(info), "a secret came back"
        self.started.append(info)
        done(name)

    async def refused(self, name: str, code: str, status: int, message: str, call: Awaitable[object]) -> None:
        try:
            await call
        except api.TwirpError as error:
            assert (error.code, error.status) == (code, status), error
            assert message in error.message, error
            done(name)
        else:
            raise AssertionError(f"{name} was not refused")

    async def until(self, egress_id: str, reached: Callable[[EgressInfo], bool]) -> None:
        async with asyncio.timeout(15):
            while True:
                found = await self.egress.list_egress(api.ListEgressRequest(egress_id=egress_id))
                if reached(found.items[0]):
                    return
                await asyncio.sleep(0.1)

    async def run(self) -> None:
        await self.starts()
        await self.running()
        await self.refusals()
        await self.stops()

    async def starts(self) -> None:
        await self.start(
            "StartWebEgress",
            self.egress.start_web_egress(
                api.WebEgressRequest(
                    url="http://127.0.0.1:1/",
                    file_outputs=[file()],
                    stream_outputs=[stream()],
                    preset=api.EncodingOptionsPreset.H264_720P_30,
                    webhooks=[api.WebhookConfig(url="http://127.0.0.1:1/", signing_key=self.api_key)],
                )
            ),
        )
        await self.start(
            "StartRoomCompositeEgress",
            self.egress.start_room_composite_egress(
                api.RoomCompositeEgressRequest(
                    room_name=self.room,
                    layout="grid",
                    file_outputs=[file(file_type=api.EncodedFileType.MP4)],
                    stream_outputs=[stream()],
                    segment_outputs=[
                        api.SegmentedFileOutput(
                            filename_prefix="conformance/s", live_playlist_name="live.m3u8"
                        )
                    ],
                    image_outputs=[api.ImageOutput(capture_interval=5, width=320)],
                    advanced=api.EncodingOptions(width=640, height=360, framerate=15),
                )
            ),
        )
        await self.start(
            "StartRoomCompositeEgress of sound",
            self.egress.start_room_composite_egress(
                api.RoomCompositeEgressRequest(
                    room_name=self.room,
                    audio_only=True,
                    audio_mixing=api.AudioMixing.DUAL_CHANNEL_AGENT,
                    file_outputs=[file(s3=s3())],
                )
            ),
        )
        await self.start(
            "StartParticipantEgress",
            self.egress.start_participant_egress(
                api.ParticipantEgressRequest(room_name=self.room, identity="nobody", file_outputs=[file()])
            ),
        )
        await self.start(
            "StartTrackCompositeEgress",
            self.egress.start_track_composite_egress(
                api.TrackCompositeEgressRequest(
                    room_name=self.room,
                    audio_track_id="TR_a",
                    video_track_id="TR_v",
                    file_outputs=[file()],
                )
            ),
        )
        await self.start(
            "StartTrackEgress to a file",
            self.egress.start_track_egress(
                api.TrackEgressRequest(
                    room_name=self.room,
                    track_id="TR_x",
                    file=api.DirectFileOutput(filepath="conformance/{track_id}"),
                )
            ),
        )
        await self.start(
            "StartTrackEgress to a websocket",
            self.egress.start_track_egress(
                api.TrackEgressRequest(
                    room_name=self.room, track_id="TR_x", websocket_url="ws://127.0.0.1:1/?token=SECRET"
                )
            ),
        )

        await self.start(
            "StartEgress",
            self.egress.start_egress(
                api.StartEgressRequest(
                    room_name=self.room,
                    template=api.TemplateSource(layout="speaker"),
                    preset=api.EncodingOptionsPreset.H264_720P_30,
                    outputs=[api.Output(file=api.FileOutput(filepath="conformance/v2-{time}"))],
                    storage=api.StorageConfig(s3=s3()),
                )
            ),
        )
        await self.start("StartEgress of routes", self.egress.start_egress(routed(self.room)))
        mcap = api.StartEgressRequest(
            room_name=self.room, outputs=[api.Output(file=newer(api.FileOutput(), MCAP))]
        )
        newer(mcap.media, ALL_VIDEOS)
        await self.start("StartEgress into an MCAP file", self.egress.start_egress(mcap))

    async def running(self) -> None:
        web, composite = self.started[:2]

        async def ids(request: api.ListEgressRequest) -> list[str]:
            return [item.egress_id for item in (await self.egress.list_egress(request)).items]

        assert await ids(api.ListEgressRequest(egress_id=web.egress_id)) == [web.egress_id]
        in_room = await ids(api.ListEgressRequest(room_name=self.room))
        assert composite.egress_id in in_room and web.egress_id not in in_room
        assert await ids(api.ListEgressRequest(room_name="no such room")) == []
        every = await ids(api.ListEgressRequest())
        assert {info.egress_id for info in self.started} <= set(every)
        done("ListEgress")
        info = await self.egress.update_stream(
            api.UpdateStreamRequest(
                egress_id=composite.egress_id, add_output_urls=["rtmp://127.0.0.1:1/app/bbbSECRETbbb"]
            )
        )
        assert "rtmp://127.0.0.1:1/app/{bbb...bbb}" in [result.url for result in info.stream_results]
        done("UpdateStream")
        info = await self.egress.update_layout(
            api.UpdateLayoutRequest(egress_id=composite.egress_id, layout="single-speaker-light")
        )
        assert info.room_composite.layout == "single-speaker-light"
        done("UpdateLayout")
        info = await self.egress.update_layout(
            api.UpdateLayoutRequest(egress_id=composite.egress_id, layout="mosaic")
        )
        assert info.room_composite.layout == "mosaic" and "taken for grid" in info.details
        done("UpdateLayout to an unknown layout")
        info = await self.egress.update_layout(
            api.UpdateLayoutRequest(egress_id=web.egress_id, layout="grid")
        )
        assert info.web.url and "the layout has no effect" in info.details
        done("UpdateLayout of a web page")

    async def refusals(self) -> None:
        await self.refused(
            "no such room",
            "not_found",
            404,
            "requested room does not exist",
            self.egress.start_room_composite_egress(
                api.RoomCompositeEgressRequest(room_name="no such room", file_outputs=[file()])
            ),
        )
        field = "request has missing or invalid field:"
        for name, message, request in (
            ("no output", f"{field} output", api.WebEgressRequest(url="http://127.0.0.1:1/")),
            (
                "bad page",
                f"{field} web url",
                api.WebEgressRequest(url="ftp://127.0.0.1/", file_outputs=[file()]),
            ),
            (
                "bad stream",
                "rtmp urls must be of format",
                api.WebEgressRequest(
                    url="http://127.0.0.1:1/",
                    stream_outputs=[
                        api.StreamOutput(protocol=api.StreamProtocol.RTMP, urls=["rtmp://host/key"])
                    ],
                ),
            ),
        ):
            await self.refused(name, "invalid_argument", 400, message, self.egress.start_web_egress(request))
        await self.refused(
            "no such egress",
            "not_found",
            404,
            "egress does not exist",
            self.egress.list_egress(api.ListEgressRequest(egress_id="EG_none")),
        )

    async def stops(self) -> None:
        for info in self.started:
            found = await self.egress.list_egress(api.ListEgressRequest(egress_id=info.egress_id))
            if found.items[0].status < EgressStatus.EGRESS_COMPLETE:
                await self.egress.stop_egress(api.StopEgressRequest(egress_id=info.egress_id))
            await self.until(info.egress_id, lambda now: now.status >= EgressStatus.EGRESS_COMPLETE)
            done(f"StopEgress {info.egress_id}")
        await self.refused(
            "stopped twice",
            "failed_precondition",
            412,
            "cannot be stopped",
            self.egress.stop_egress(api.StopEgressRequest(egress_id=self.started[0].egress_id)),
        )
        async with api.LiveKitAPI(self.url, self.api_key, "0" * 32) as stranger:
            await self.refused(
                "wrong secret", "unknown", 401, "", stranger.egress.list_egress(api.ListEgressRequest())
            )


def done(step: str) -> None:
    sys.stdout.write(f"ok {step}\n")


def s3() -> api.S3Upload:
    return api.S3Upload(bucket="conformance", access_key="KEYSECRET", secret="SECRET", region="eu-west-1")


def file(**fields: object) -> api.EncodedFileOutput:
    return api.EncodedFileOutput(filepath="conformance/{room_name}-{time}", **fields)


def stream() -> api.StreamOutput:
    return api.StreamOutput(protocol=api.StreamProtocol.RTMP, urls=["rtmp://127.0.0.1:1/app/aaaSECRETaaa"])


async def main(url: str, room: str) -> None:
    api_key, api_secret = os.environ["LIVEKIT_API_KEY"], os.environ["LIVEKIT_API_SECRET"]
    async with api.LiveKitAPI(url, api_key, api_secret) as client:
        await Script(client, url, room, api_key).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
