"""A track's sound over a websocket, to a real server: header, form, tone, mute, a receiver that is lost."""

import json
from pathlib import Path

import numpy as np
import pytest

from testkit.livekit_server import LivekitServer
from testkit.participants import AudioSpec, Publisher
from testkit.probe import has_tone, tones_of
from testkit.service import Service
from testkit.websocket_receiver import WebsocketReceiver

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOM = "calls"
TONE_HZ = 440.0


async def test_a_tracks_sound_as_asked_with_its_mutes(livekit: LivekitServer, tmp_path: Path) -> None:
    audio = AudioSpec(tone_hz=TONE_HZ, level=0.3, beep_level=0.0)
    async with (
        WebsocketReceiver() as receiver,
        Publisher(livekit, ROOM, "caller", video=None, audio=audio) as caller,
        Service(tmp_path, livekit) as service,
    ):
        url = f"ws://127.0.0.1:{receiver.port}/in?rate=16000&channels=1&token=nobody-may-see-this"
        info = await service.call(
            "StartTrackEgress", room_name=ROOM, track_id=caller.sid("microphone"), websocket_url=url
        )
        egress_id = info["egress_id"]
        await service.active(egress_id)
        await receiver.has(sound_bytes=2 * 32_000)
        caller.mute("microphone")
        await receiver.has(texts=1)
        muted_at = receiver.texts[0][0]
        await receiver.has(sound_bytes=muted_at + 32_000)
        caller.unmute("microphone")
        await receiver.has(texts=2)
        await receiver.has(sound_bytes=receiver.texts[1][0] + 2 * 32_000)
        await receiver.drop()
        before = len(receiver.sound)
        await receiver.has(sound_bytes=before + 2 * 32_000)
        info = await service.finish(egress_id)
        assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
        [stream] = info["stream_results"]
        assert (stream["status"], stream["error"], stream["retries"]) == ("FINISHED", "", 1)
        assert int(stream["last_retry_at"]) > 0
        assert (
            stream["url"]
            == f"ws://127.0.0.1:{receiver.port}/{{...}}?rate={{...}}&channels={{...}}&token={{...}}"
        )
        assert "nobody-may-see-this" not in json.dumps(info) + service.log
        check(receiver, muted_at)
        assert receiver.closed_properly


def check(receiver: WebsocketReceiver, muted_at: int) -> None:
    assert len(receiver.headers) == 2
    for headers in receiver.headers:
        assert headers["Content-Type"] == "audio/x-raw"
        form = (headers["X-Audio-Format"], headers["X-Audio-Rate"], headers["X-Audio-Channels"])
        assert form == ("s16le", "16000", "1")
    assert [text for _, text in receiver.texts] == [{"muted": True}, {"muted": False}]
    wave = np.frombuffer(receiver.sound, "<i2").astype(np.float32) / np.float32(32768)
    heard = tones_of(wave[8_000 : muted_at // 2 - 8_000], 16_000)
    assert has_tone(heard, TONE_HZ)
    assert heard[0].level == pytest.approx(0.3, abs=0.1)
    # To 200 ms: the word and the sound take different ways here.
    silent = wave[muted_at // 2 + 3200 : receiver.texts[1][0] // 2 - 3200]
    assert len(silent) > 3200 and float(np.abs(silent).max()) < 0.01
    assert has_tone(tones_of(wave[-24_000:-1600], 16_000), TONE_HZ)


async def test_a_receiver_that_is_not_there_fails_the_egress(livekit: LivekitServer, tmp_path: Path) -> None:
    async with (
        WebsocketReceiver() as receiver,
        Publisher(livekit, ROOM, "caller", video=None, audio=AudioSpec()) as caller,
        Service(tmp_path, livekit) as service,
    ):
        info = await service.call(
            "StartTrackEgress",
            room_name=ROOM,
            track_id=caller.sid("microphone"),
            websocket_url=f"ws://127.0.0.1:{receiver.port}/elsewhere",
        )
        info = await service.wait(info["egress_id"])
        assert info["status"] == "EGRESS_FAILED"
        assert "the receiver answered HTTP 404 to the websocket handshake" in info["error"]
        assert info["stream_results"][0]["status"] == "FAILED"


async def test_a_receiver_that_is_not_there_hurts_nothing_beside_it(
    livekit: LivekitServer, tmp_path: Path
) -> None:
    """Like a stream: its own result says that it failed."""
    async with (
        WebsocketReceiver() as receiver,
        Publisher(livekit, ROOM, "caller", video=None, audio=AudioSpec()),
        Service(tmp_path, livekit) as service,
    ):
        urls = [f"ws://127.0.0.1:{receiver.port}/{path}" for path in ("in", "elsewhere")]
        info = await service.call(
            "StartEgress",
            room_name=ROOM,
            media={"audio": {"capture_all": True}},
            outputs=[{"stream": {"protocol": "WEBSOCKET", "urls": urls}}, {"file": {"filepath": "call"}}],
        )
        await service.active(info["egress_id"])
        await receiver.has(sound_bytes=2 * 48_000)
        info = await service.finish(info["egress_id"])
        assert (info["status"], info["error"], info["error_code"]) == ("EGRESS_COMPLETE", "", 0)
        assert [stream["status"] for stream in info["stream_results"]] == ["FINISHED", "FAILED"]
        assert "HTTP 404" in info["stream_results"][1]["error"]
        assert int(info["file_results"][0]["size"]) > 0
