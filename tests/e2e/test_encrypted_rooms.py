"""Rooms that are encrypted end to end by LiveKit's own SDK, recorded with configured keys."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import pytest
import pytest_asyncio

from openegress.core.units import S
from openegress.source.room.composite.rectangles import Size, grid_rects
from testkit.browser_publisher import publishing
from testkit.livekit_server import LivekitServer
from testkit.page_server import PageServer
from testkit.participants import AudioSpec, Codec, VideoSpec, places
from testkit.parts import Parts
from testkit.probe import Rect, beep_onsets, counters, frames, has_tone, probe, sound, tones
from testkit.raw_publisher import RawPublisher, RawTrack
from testkit.rtp_sender import nal_units
from testkit.service import Info, Service, location
from testkit.written import holding, written

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECONDS = 3.0
LEAST = 20
"""Different pictures that are seen of a track, however busy the machine is."""
PASSPHRASE = "correct horse battery staple"
LATER = "second of the passphrases"
RANDOM = bytes(range(100, 132))
SLICES: dict[str, Callable[[int], bool]] = {
    "h264": lambda first: first & 0x1F in (1, 5),
    "h265": lambda first: first >> 1 & 0x3F < 32,
}
"""What pictures are made of, by the first byte of a NAL unit."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Parts]:
    held = tmp_path_factory.mktemp("keys") / "passphrase"
    held.write_text(f"{PASSPHRASE}\n")
    keys: list[dict[str, Any]] = [
        {"rooms": ["secret-*", "both"], "key_file": str(held)},
        *({"rooms": ["secret-*"], "key": LATER, "index": index} for index in (1, 3)),
        {"rooms": ["random"], "key": base64.b64encode(RANDOM).decode(), "derivation": "hkdf"},
    ]
    config = {"room_keys": keys, "logging": {"level": "debug"}}
    folder = tmp_path_factory.mktemp("encrypted")
    async with LivekitServer() as livekit, Service(folder, livekit, config) as service:
        yield Parts(livekit, service, secret=PASSPHRASE.encode())


def camera(codec: Codec = "vp8", **more: Any) -> VideoSpec:
    return VideoSpec(codec, width=320, height=180, kbps=400, **more)


async def recorded(parts: Parts, method: str, room: str, **request: Any) -> Info:
    info = await parts.service.record(method, SECONDS, room_name=room, **request)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", ""), parts.service.log[-2000:]
    return info


def pictures(path: Path, codec: str) -> list[Sequence[bytes]]:
    """What an encoder made of each, without what containers and senders put between."""
    found: list[Sequence[bytes]] = []
    with av.open(str(path)) as container:
        for packet in container.demux(container.streams.video[0]):
            data, units = bytes(packet), []
            while codec in SLICES and data:
                size = int.from_bytes(data[:4])
                units.append(data[4 : 4 + size].rstrip(b"\0"))
                data = data[4 + size :]
            found.append([each for each in units if SLICES[codec](each[0])] if units else [data])
    return [each for each in found if each and each[0]]


def published(picture: bytes, codec: str) -> Sequence[bytes]:
    if codec not in SLICES:
        return [picture]
    return [each for each in nal_units(picture) if SLICES[codec](each[0])]


@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_a_picture_is_recorded_as_it_was_sent(parts: Parts, codec: Codec) -> None:
    room = f"secret-{codec}"
    ann = await parts.join(room, "ann", camera(codec, encoded=True), None)
    request = {"track_id": ann.sid("camera"), "file": {"filepath": codec}}
    info = await recorded(parts, "StartTrackEgress", room, **request)
    sent = [published(picture.data, codec) for picture in ann.sent["camera"]]
    found = places(pictures(location(info), codec), sent, await ann.dropped())
    read = counters(location(info))
    assert read.values == [ann.sent["camera"][place].counter for place in found]
    assert len(found) > LEAST


@pytest.mark.parametrize("codec", ["vp8", "h264", "vp9"])
async def test_a_browser(parts: Parts, codec: Literal["vp8", "h264", "vp9"]) -> None:
    """client-sdk-js in Chromium, with simulcast or spatial layers: a ball that rolls, and beeps."""
    room = f"secret-browser-{codec}"
    async with PageServer() as pages, publishing(parts.livekit, pages, room, "ada", codec, PASSPHRASE):
        output = {"filepath": f"{room}.mp4"}
        info = await recorded(parts, "StartParticipantEgress", room, identity="ada", file_outputs=[output])
    shown = [frame.to_ndarray(format="gray").astype(int) for _, frame in frames(location(info))]
    assert sum(np.abs(after - before).max() > 50 for before, after in pairwise(shown)) > LEAST, "it rolls"
    assert beep_onsets(sound(location(info)))
    left_out = parts.service.log.partition(room)[2]
    assert "track left out" not in left_out


@pytest.mark.quiet
@pytest.mark.parametrize("codec", ["vp8", "h264", "vp9"])
async def test_a_browser_that_changes_its_key(parts: Parts, codec: Literal["vp8", "h264", "vp9"]) -> None:
    """To another place of the ring, while it is recorded: it goes on rolling, and beeping."""
    room = f"secret-browser-rotated-{codec}"
    async with PageServer() as pages, publishing(parts.livekit, pages, room, "ada", codec, PASSPHRASE) as ada:
        request = {"room_name": room, "identity": "ada", "file_outputs": [{"filepath": f"{room}.mp4"}]}
        info = await parts.service.call("StartParticipantEgress", **request)
        await parts.service.active(info["egress_id"])
        await asyncio.sleep(SECONDS)
        await ada.tab.run(f"changeKey({json.dumps(LATER)}, 1)")
        changed_at_s = time.time()
        await asyncio.sleep(SECONDS)
        info = await parts.service.finish(info["egress_id"])
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    changed_s = changed_at_s - int(info["file_results"][0]["started_at"]) / S
    later = [
        frame.to_ndarray(format="gray").astype(int)
        for at_s, frame in frames(location(info))
        if at_s > changed_s
    ]
    assert sum(np.abs(after - before).max() > 50 for before, after in pairwise(later)) > LEAST, "it rolls"
    assert [each for each in beep_onsets(sound(location(info))) if each > changed_s]
    assert "track left out" not in parts.service.log.partition(room)[2]


async def test_a_browser_sends_no_picture_that_it_cannot_encrypt(parts: Parts) -> None:
    """AV1, at which its worker gives up: the sound is recorded."""
    room = "secret-browser-av1"
    async with PageServer() as pages, publishing(parts.livekit, pages, room, "ada", "av1", PASSPHRASE):
        output = {"filepath": f"{room}.mp4"}
        info = await recorded(parts, "StartParticipantEgress", room, identity="ada", file_outputs=[output])
    assert beep_onsets(sound(location(info)))


async def test_a_browser_with_another_key(parts: Parts) -> None:
    room = "secret-browser-wrong"
    async with (
        PageServer() as pages,
        publishing(parts.livekit, pages, room, "ada", "vp8", "another one") as ada,
    ):
        request = {"track_id": ada.camera, "file": {"filepath": room}}
        info = await parts.service.call("StartTrackEgress", room_name=room, **request)
        await ended_by_another_key(parts, info, "ada")


@pytest.mark.parametrize("aggregate", [True, False])
async def test_an_h265_track(parts: Parts, aggregate: bool) -> None:
    """No SDK publishes it on Linux: it is encrypted here, and sent as it is."""
    room = f"secret-h265-{aggregate}".lower()
    track = RawTrack("h265", aggregate=aggregate, secret=LATER.encode())
    ann = await parts.enter(RawPublisher(parts.livekit, room, "ann", track))
    info = await recorded(
        parts, "StartTrackEgress", room, track_id=ann.sid("camera"), file={"filepath": room}
    )
    read = counters(location(info))
    assert read.in_order and not read.missing and read.unique > LEAST
    sent = [published(picture.data, "h265") for picture in ann.sent["camera"]]
    places(pictures(location(info), "h265"), sent, dropped=0)


async def test_a_picture_whose_headers_are_encrypted(parts: Parts) -> None:
    """VP9, in spatial layers as the SDK makes them."""
    await parts.join("secret-vp9", "ann", camera("vp9"), None)
    output = {"filepath": "vp9.mp4"}
    request = {"layout": "grid", "file_outputs": [output], "video_only": True}
    info = await recorded(parts, "StartRoomCompositeEgress", "secret-vp9", **request)
    read = counters(location(info))
    assert read.in_order and read.unique > LEAST


async def test_a_codec_that_sdks_do_not_encrypt_is_refused(parts: Parts) -> None:
    ann = await parts.join("secret-av1", "ann", camera("av1"), None)
    request = {"room_name": "secret-av1", "track_id": ann.sid("camera"), "file": {"filepath": "av1"}}
    info = await parts.service.call("StartTrackEgress", **request)
    info = await parts.service.wait(info["egress_id"])
    assert (info["status"], info["error_code"]) == ("EGRESS_FAILED", 412)
    assert "of ann is end-to-end encrypted, and frames of its codec cannot be decrypted" in info["error"]


async def test_sound_is_recorded_as_it_was_sent(parts: Parts) -> None:
    ann = await parts.join("secret-opus", "ann", None, AudioSpec(440))
    request = {"track_id": ann.sid("microphone"), "file": {"filepath": "opus"}}
    info = await recorded(parts, "StartTrackEgress", "secret-opus", **request)
    facts = probe(location(info))
    assert facts.audio is not None and facts.audio.codec == "opus" and facts.audio.contiguous
    assert has_tone(tones(location(info)), 440)


async def test_a_key_of_random_bytes(parts: Parts) -> None:
    await parts.join("random", "ann", camera(), AudioSpec(440), RANDOM, by_hkdf=True)
    request = {"identity": "ann", "file_outputs": [{"filepath": "random"}]}
    info = await recorded(parts, "StartParticipantEgress", "random", **request)
    assert counters(location(info)).unique > LEAST
    assert has_tone(tones(location(info)), 440)


async def test_encrypted_and_unencrypted_people_are_in_one_picture(parts: Parts) -> None:
    """The SDK's own encoders, with layers, and with the server's blank pictures at the end of a track."""
    await parts.join("both", "ann", camera("vp8", simulcast=True), AudioSpec(440))
    await parts.join("both", "ben", camera("h264"), AudioSpec(660))
    await parts.join("both", "cho", camera("vp8"), AudioSpec(880), b"")
    await parts.join("both", "dan", camera("vp8"), AudioSpec(1230), b"another one")
    output = {"filepath": "both.mp4"}
    request = {"room_name": "both", "layout": "grid", "file_outputs": [output]}
    egress_id = (await parts.service.call("StartRoomCompositeEgress", **request))["egress_id"]
    await parts.service.active(egress_id)
    await asyncio.sleep(SECONDS)
    await parts.service.logged("encrypted with a key that is not one of its room's keys")
    info = await parts.service.finish(egress_id)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    heard = tones(location(info), min_level=0.003)
    assert [hz for hz in (440, 660, 880, 1230) if has_tone(heard, hz)] == [440, 660, 880]
    tiles = [Rect(each.x, each.y, each.width, each.height) for each in grid_rects(4, Size(1280, 720))]
    shown = [counters(location(info), tile) for tile in tiles]
    assert [read.unique > LEAST for read in shown] == [True, True, True, False]
    assert all(read.in_order for read in shown[:3])


@pytest.mark.parametrize("named", ["microphone", "camera", "participant"])
async def test_another_key_ends_what_was_named(parts: Parts, named: str) -> None:
    room = f"secret-wrong-{named}"
    request: dict[str, Any]
    ann = await parts.join(room, "ann", camera(), AudioSpec(440), b"another one")
    if named == "participant":
        method, request = "StartParticipantEgress", {"identity": "ann", "file_outputs": [{"filepath": room}]}
    else:
        method = "StartTrackEgress"
        track_id = ann.sid("camera" if named == "camera" else "microphone")
        request = {"track_id": track_id, "file": {"filepath": room}}
    info = await parts.service.call(method, room_name=room, **request)
    await ended_by_another_key(parts, info, "ann")


async def ended_by_another_key(parts: Parts, info: Info, identity: str) -> None:
    info = await parts.service.wait(info["egress_id"], timeout_s=30)
    assert (info["status"], info["error_code"]) == ("EGRESS_FAILED", 412), info
    text = f"of {identity} cannot be recorded: it is encrypted with a key that is not one of its room's keys"
    assert text in info["error"]


async def test_what_the_server_puts_in_is_not_taken_for_theirs(parts: Parts) -> None:
    """Silence while a microphone is muted, and blank pictures behind the last one."""
    room = "secret-muted"
    ann = await parts.join(room, "ann", camera("h264"), AudioSpec(440))
    ben = await parts.join(room, "ben", camera("vp8"), AudioSpec(660))
    request = {"room_name": room, "layout": "grid", "file_outputs": [{"filepath": "muted.mp4"}]}
    egress_id = (await parts.service.call("StartRoomCompositeEgress", **request))["egress_id"]
    await parts.service.active(egress_id)
    await asyncio.sleep(1.5)
    for each in (ann, ben):
        each.mute("microphone")
        each.mute("camera")
    await asyncio.sleep(1.5)
    for each in (ann, ben):
        each.unmute("microphone")
        each.unmute("camera")
    await asyncio.sleep(1.5)
    for each in (ann, ben):
        await each.unpublish("camera")
    await asyncio.sleep(1.0)
    info = await parts.service.finish(egress_id)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    heard = tones(location(info), min_level=0.003)
    assert has_tone(heard, 440) and has_tone(heard, 660)
    said = parts.service.log.partition(egress_id)[2]
    assert "does not fit" not in said and "is not encrypted" not in said and "left out" not in said


@pytest.mark.quiet
async def test_keys_change_while_it_records(parts: Parts) -> None:
    """To another one of the ring, and on by a step of the ratchet, twice."""
    ann = await parts.join("secret-rotated", "ann", camera(encoded=True), AudioSpec(440))
    output = {"filepath": "rotated"}
    info = await parts.service.call(
        "StartParticipantEgress", room_name="secret-rotated", identity="ann", file_outputs=[output]
    )
    await parts.service.active(info["egress_id"])
    changed = []
    for step in range(3):
        await asyncio.sleep(1.5)
        changed.append(ann.sent["camera"][-1].counter)
        if step == 1:
            ann.change_key(LATER.encode(), 3)
        else:
            ann.ratchet_key(0 if step == 0 else 3)
    await asyncio.sleep(1.5)
    info = await parts.service.finish(info["egress_id"])
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    read = counters(location(info))
    assert read.in_order and read.values[-1] > changed[-1] + 20
    assert len(read.missing_of(ann.sent_ns())) <= await ann.dropped() + 30, "a moment for each change"
    assert "track left out" not in parts.service.log.partition("secret-rotated")[2]
    facts = probe(location(info))
    assert facts.audio is not None and facts.audio.duration_s > 5
    assert has_tone(tones(location(info)), 440)


async def test_keys_show_nowhere(parts: Parts) -> None:
    """In no journal, record, manifest or log, while it records and after, not even at the level debug."""
    await parts.join("secret-told", "ann", camera(), AudioSpec(440))
    await parts.join("secret-told", "ben", None, AudioSpec(660), b"another one")
    info = await parts.service.call(
        "StartRoomCompositeEgress", room_name="secret-told", file_outputs=[{"filepath": "told.mp4"}]
    )
    await parts.service.active(info["egress_id"])
    await asyncio.sleep(SECONDS)
    found = written(parts.service.folder)
    assert any(name.endswith("/environ") for name in found)
    assert any(b"secret-told" in text for name, text in found.items() if "spool" in name), sorted(found)
    shown = [await parts.service.dashboard(), await parts.service.finish(info["egress_id"])]
    found |= {"answers": json.dumps(shown).encode()}
    found |= {f"{name} at last": text for name, text in written(parts.service.folder).items()}
    assert holding(found, PASSPHRASE.encode()) == []
