"""Requests about tracks, from the API to the file: names, containers, manifests, channels, many tracks."""

import asyncio
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from openegress.media.geometry import Rect as Place
from openegress.source.room.composite.rectangles import Size, grid_rects
from testkit import mcap_reader
from testkit.livekit_server import LivekitServer
from testkit.participants import AudioSpec, Codec, Publisher, VideoSpec, places
from testkit.parts import Parts
from testkit.pattern import COLOURS, Rgb
from testkit.probe import Rect, colour_of, counters, frames, has_tone, probe, tones
from testkit.raw_publisher import RawCodec, RawTrack
from testkit.rtp_sender import nal_units
from testkit.service import Info, Service, location
from testkit.udp_relay import RELAY_ADDRESS, Leg, UdpRelay

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECONDS = 3.0


def camera(codec: Codec = "vp8", **more: Any) -> VideoSpec:
    return VideoSpec(codec, width=320, height=180, kbps=400, encoded=True, **more)


def manifest(info: Info) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(info["manifest_location"]).read_text())
    return found


@pytest.mark.parametrize(
    ("name", "codec", "ending", "kind"),
    [
        ("camera", "vp8", ".webm", "video"),
        ("camera", "h264", ".mp4", "video"),
        ("microphone", "vp8", ".ogg", "audio"),
    ],
)
async def test_a_track_is_named_by_what_it_is(
    parts: Parts, name: Any, codec: Codec, ending: str, kind: str
) -> None:
    ann = await parts.join("named", "ann", camera(codec), AudioSpec(tone_hz=440))
    path = "{room_name}/{publisher_identity}-{track_type}-{track_source}-{track_id}"
    track_id = ann.sid(name)
    request = {"room_name": "named", "track_id": track_id, "file": {"filepath": path}}
    info = await parts.service.record("StartTrackEgress", SECONDS, **request)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    assert location(info) == parts.service.out / "named" / f"ann-{kind}-{name}-{track_id}{ending}"
    told = manifest(info)
    assert told["passthrough"] is True
    assert (told["track_id"], told["track_kind"], told["track_source"]) == (track_id, kind, name)
    assert told["publisher_identity"] == "ann"
    assert int(told["started_at"]) == int(info["file_results"][0]["started_at"])
    facts = probe(location(info))
    assert (facts.video is None, facts.audio is None) == (kind != "video", kind != "audio")
    if facts.video is not None:
        read = counters(location(info))
        assert read.in_order and read.unreadable == 0
        assert len(read.missing_of(ann.sent_ns())) <= await ann.dropped(name)


async def test_a_name_that_only_the_room_can_tell_meets_nobody_elses(parts: Parts) -> None:
    ann = await parts.join("meet", "ann", None, AudioSpec(tone_hz=440))
    track_id = ann.sid("microphone")
    first = await parts.service.call(
        "StartTrackCompositeEgress",
        room_name="meet",
        audio_track_id=track_id,
        file_outputs=[{"filepath": "meet/ann.ogg", "file_type": "OGG"}],
    )
    await parts.service.active(first["egress_id"])
    path = "meet/{publisher_identity}"
    second = await parts.service.call(
        "StartTrackEgress", room_name="meet", track_id=track_id, file={"filepath": path}
    )
    second = await parts.service.wait(second["egress_id"], "EGRESS_FAILED")
    assert "another recording is writing to" in second["error"]
    first = await parts.service.finish(first["egress_id"])
    assert first["status"] == "EGRESS_COMPLETE"
    assert location(first) == parts.service.out / "meet" / "ann.ogg"
    assert [path.name for path in location(first).parent.glob("ann*")] == ["ann.ogg"]
    third = await parts.service.record(
        "StartTrackEgress",
        1.0,
        room_name="meet",
        track_id=track_id,
        file={"filepath": f"{path}-2"},
    )
    assert location(third).name == "ann-2.ogg"


async def test_who_joins_under_the_recorders_identity_ends_it_and_it_keeps_its_file(parts: Parts) -> None:
    ann = await parts.join("taken", "ann", None, AudioSpec(tone_hz=440))
    request = {"room_name": "taken", "track_id": ann.sid("microphone"), "file": {"filepath": "taken"}}
    egress_id = (await parts.service.call("StartTrackEgress", **request))["egress_id"]
    await parts.service.active(egress_id)
    await asyncio.sleep(1.0)
    async with Publisher(parts.livekit, "taken", egress_id, None, None):
        info = await parts.service.wait(egress_id, "EGRESS_FAILED")
    assert (info["status"], info["error_code"]) == ("EGRESS_FAILED", 409)
    assert "connection to room failed" in info["error"]
    assert (await asyncio.to_thread(probe, location(info))).duration_s > 0.8


@pytest.mark.parametrize(
    "excluded",
    [
        {"participant_identity": "bob"},
        {"participant_kind": "AGENT"},
        {"participant_identity": "bob", "track_name": "microphone"},
    ],
    ids=["identity", "kind", "identity and name"],
)
async def test_what_is_excluded_is_never_subscribed_to(parts: Parts, excluded: dict[str, str]) -> None:
    ann = await parts.join("private", "ann", None, AudioSpec(tone_hz=440))
    bob = await parts.join("private", "bob", None, AudioSpec(tone_hz=880), kind="agent")
    info = await parts.service.record(
        "StartEgress",
        SECONDS,
        room_name="private",
        media={"audio": {"capture_all": True, "routes": [{**excluded, "exclude": True}]}},
        outputs=[{"file": {"filepath": "private-{utc}.ogg"}}],
    )
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    heard = tones(location(info))
    assert has_tone(heard, 440) and not has_tone(heard, 880)
    subscribed = [line for line in parts.service.log.splitlines() if "track subscribed" in line]
    assert any(ann.sid("microphone") in line for line in subscribed)
    assert not any(bob.sid("microphone") in line for line in subscribed)


@pytest.mark.quiet
async def test_packets_of_what_is_excluded_never_reach_the_recorder(tmp_path: Path) -> None:
    """Seen on the wire, from the first second on, and of tracks that are published later."""
    async with (
        LivekitServer(tcp=False, announced=RELAY_ADDRESS) as livekit,
        UdpRelay(livekit.udp_port) as relay,
        Service(tmp_path, livekit) as service,
        Publisher(livekit, "wire", "ann", None, AudioSpec(tone_hz=440)),
        Publisher(livekit, "wire", "bob", None, AudioSpec(tone_hz=880), kind="agent"),
    ):

        async def record(
            audio: dict[str, Any], file: dict[str, str] | None = None, **more: Any
        ) -> tuple[Info, dict[int, int]]:
            relay.received.clear()
            relay.joining = Leg.RECORDER
            media, outputs = {"audio": audio, **more}, [{"file": file or {"filepath": "wire-{utc}.ogg"}}]
            started = await service.call("StartEgress", room_name="wire", media=media, outputs=outputs)
            await service.active(started["egress_id"])
            relay.joining = Leg.PUBLISHER
            async with (
                Publisher(livekit, "wire", "cat", camera(), AudioSpec(tone_hz=1320)),
                Publisher(livekit, "wire", "dan", camera(), AudioSpec(tone_hz=1760), kind="agent"),
            ):
                await asyncio.sleep(SECONDS)
                # A server probes with a few packets of padding; a track sends 50 a second.
                sounds = {ssrc: count for ssrc, count in relay.received.items() if count > 20}
                # They stay until it has ended: a busy machine takes seconds to let them go.
                return await service.finish(started["egress_id"]), sounds

        agents = {"participant_kind": "AGENT", "exclude": True}
        info, packets = await record({"capture_all": True, "routes": [agents]})
        everything, all_packets = await record({"capture_all": True})
        videos = {"capture_all": True, "selectors": [{"participant_identity": "dan", "exclude": True}]}
        mcap = {"filepath": "wire", "file_type": "MCAP"}
        each, chosen_packets = await record(
            {"capture_all": True, "routes": [agents]}, mcap, videos=videos, data={"capture_all": True}
        )
    heard = tones(location(info), start_s=1.5)
    assert [hz for hz in (440, 880, 1320, 1760) if has_tone(heard, hz)] == [440, 1320], (packets, info)
    assert len(packets) == 2, packets
    # The same room, and everybody recorded: what was not sent would have been seen.
    heard = tones(location(everything), start_s=1.5)
    found = [hz for hz in (440, 880, 1320, 1760) if has_tone(heard, hz)]
    assert found == [440, 880, 1320, 1760], (all_packets, everything, service.log[-5000:])
    assert len(all_packets) == 4, all_packets
    tracks = sorted(track.title for track in mcap_reader.read_by_summary(location(each)))
    assert tracks == ["ann (microphone)", "cat (camera)", "cat (microphone)"]
    assert len(chosen_packets) == 3, chosen_packets


async def test_tracks_are_routed_by_their_names_beside_all_others(parts: Parts) -> None:
    await parts.join("names", "ann", None, AudioSpec(tone_hz=440))
    await parts.join("names", "bob", None, AudioSpec(tone_hz=880))
    routes = [{"participant_identity": "ann", "track_name": "microphone", "channel": "AUDIO_CHANNEL_LEFT"}]
    info = await parts.service.record(
        "StartEgress",
        SECONDS,
        room_name="names",
        media={"audio": {"capture_all": True, "routes": routes}},
        outputs=[{"file": {"filepath": "names.ogg"}}],
    )
    left, right = (tones(location(info), channel=channel) for channel in (0, 1))
    assert has_tone(left, 440) and has_tone(left, 880)
    assert has_tone(right, 880) and not has_tone(right, 440)


@pytest.mark.parametrize(("codec", "passed"), [("h264", True), ("vp8", False)])
async def test_a_composite_tells_whether_it_was_passed_through(
    parts: Parts, codec: Codec, passed: bool
) -> None:
    ann = await parts.join("composite", "ann", camera(codec), AudioSpec(tone_hz=440))
    info = await parts.service.record(
        "StartTrackCompositeEgress",
        SECONDS,
        room_name="composite",
        audio_track_id=ann.sid("microphone"),
        video_track_id=ann.sid("camera"),
        file_outputs=[{"filepath": f"{codec}.mp4"}],
    )
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    told = manifest(info)
    assert told.get("passthrough", False) is passed
    assert told["audio_track_id"] == ann.sid("microphone")
    assert told["video_track_id"] == ann.sid("camera")
    facts = probe(location(info))
    assert facts.video is not None and facts.audio is not None
    assert facts.video.sizes == (((320, 180) if passed else (1280, 720)),)
    assert facts.audio.codec == ("opus" if passed else "aac")


async def test_a_websocket_of_pictures_is_refused_with_the_reason(parts: Parts) -> None:
    ann = await parts.join("socket", "ann", camera(), None)
    info = await parts.service.call(
        "StartTrackEgress",
        room_name="socket",
        track_id=ann.sid("camera"),
        websocket_url="ws://127.0.0.1:9/",
    )
    info = await parts.service.wait(info["egress_id"])
    assert info["status"] == "EGRESS_FAILED"
    assert "is video; websocket_url takes audio tracks only" in info["error"]


async def test_what_is_encrypted_end_to_end_is_refused_by_name_and_left_out_of_a_room(parts: Parts) -> None:
    ann = await parts.join("secret", "ann", camera("vp8"), AudioSpec(440), secret=b"known to ann")
    await parts.join("secret", "bob", None, AudioSpec(660))
    request: dict[str, Any]
    track = {"room_name": "secret", "file": {"filepath": "secret-track"}}
    tracks = {"room_name": "secret", "file_outputs": [{"filepath": "secret-tracks"}]}
    for method, request in (
        ("StartTrackEgress", {"track_id": ann.sid("microphone"), **track}),
        ("StartTrackCompositeEgress", {"video_track_id": ann.sid("camera"), **tracks}),
        ("StartParticipantEgress", {"identity": "ann", **tracks}),
    ):
        info = await parts.service.call(method, **request)
        info = await parts.service.wait(info["egress_id"], timeout_s=10)
        assert (info["status"], info["error_code"]) == ("EGRESS_FAILED", 412), method
        assert "of ann is end-to-end encrypted, and no key of its room" in info["error"], method
    request = {"room_name": "secret", "audio_only": True, "file_outputs": [{"filepath": "secret.ogg"}]}
    info = await parts.service.record("StartRoomCompositeEgress", SECONDS, **request)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    heard = tones(location(info), min_level=0.003)
    assert [hz for hz in (440, 660) if has_tone(heard, hz)] == [660]
    assert "track left out: it is end-to-end encrypted" in parts.service.log


async def test_media_of_a_participant_and_everybodys_sound(parts: Parts) -> None:
    """v2: the video of one, the audio of all."""
    await parts.join("v2", "ann", camera(colour=COLOURS[0]), AudioSpec(tone_hz=440))
    await parts.join("v2", "ben", camera(colour=COLOURS[1]), AudioSpec(tone_hz=660))
    info = await parts.service.record(
        "StartEgress",
        SECONDS,
        room_name="v2",
        media={"participant_video": {"identity": "ben"}, "audio": {"capture_all": True}},
        outputs=[{"file": {"filepath": "v2.mp4"}}],
        advanced={"width": 640, "height": 360},
    )
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    heard = tones(location(info), min_level=0.003)
    assert has_tone(heard, 440) and has_tone(heard, 660)
    shown = [colour_of(frame, Rect(240, 120, 160, 40)) for _, frame in frames(location(info))]
    assert np.allclose(shown[len(shown) // 2], COLOURS[1], atol=25)


async def test_a_track_passed_through_by_v2(parts: Parts) -> None:
    ann = await parts.join("v2-pass", "ann", camera("h264"), None)
    info = await parts.service.record(
        "StartEgress",
        SECONDS,
        room_name="v2-pass",
        media={"video_track_id": ann.sid("camera")},
        preset="PASSTHROUGH",
        outputs=[{"file": {"filepath": "pass"}}],
    )
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    assert manifest(info)["passthrough"] is True
    read = counters(location(info))
    assert read.in_order and len(read.missing_of(ann.sent_ns())) <= await ann.dropped()


@pytest.mark.parametrize(
    ("mixing", "with_picture", "left", "right"),
    [
        ("DUAL_CHANNEL_ALTERNATE", False, [440], [660]),
        ("DUAL_CHANNEL_AGENT", False, [660], [440]),
        ("DUAL_CHANNEL_AGENT", True, [660], [440]),
        ("DEFAULT_MIXING", False, [440, 660], [440, 660]),
    ],
)
async def test_channels_of_a_room(
    parts: Parts, mixing: str, with_picture: bool, left: list[float], right: list[float]
) -> None:
    room = f"{mixing}-{with_picture}".lower()
    await parts.join(room, "ann", camera(), AudioSpec(tone_hz=440))
    await parts.join(room, "bot", None, AudioSpec(tone_hz=660), kind="agent")
    info = await parts.service.record(
        "StartRoomCompositeEgress",
        SECONDS,
        room_name=room,
        audio_only=not with_picture,
        audio_mixing=mixing,
        file_outputs=[{"filepath": room}],
    )
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    for channel, wanted in ((0, left), (1, right)):
        heard = tones(location(info), channel=channel, min_level=0.003)
        assert [hz for hz in (440, 660) if has_tone(heard, hz)] == wanted


async def test_silence_that_is_not_sent_is_silence_in_the_file(parts: Parts) -> None:
    """DTX: a silent microphone sends a packet now and then."""
    ann = await parts.join("dtx", "ann", None, AudioSpec(level=0.0, beep_level=0.5, dtx=True))
    request = {"room_name": "dtx", "track_id": ann.sid("microphone"), "file": {"filepath": "dtx"}}
    info = await parts.service.record("StartTrackEgress", 2 * SECONDS, **request)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    facts = probe(location(info))
    assert facts.audio is not None
    assert facts.audio.duration_s == pytest.approx(2 * SECONDS, abs=0.5)
    beeps = tones(location(info), min_level=0.01)
    assert has_tone(beeps, 1000)


async def test_a_track_that_is_muted_at_first(parts: Parts) -> None:
    ann = await parts.join("muted", "ann", camera("h264"), None)
    ann.mute("camera")
    await muted(parts.livekit, "muted", ann.sid("camera"))
    request = {"room_name": "muted", "track_id": ann.sid("camera"), "file": {"filepath": "muted"}}
    info = await parts.service.call("StartTrackEgress", **request)
    await asyncio.sleep(1.0)
    assert (await parts.service.info(info["egress_id"]))["status"] == "EGRESS_STARTING"
    ann.unmute("camera")
    await parts.service.active(info["egress_id"])
    await asyncio.sleep(SECONDS)
    info = await parts.service.finish(info["egress_id"])
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    read = counters(location(info))
    assert read.in_order and read.unique >= 0.9 * SECONDS * 30


def h265_pictures(path: Path) -> list[list[bytes]]:
    """The NAL units of each packet, and what FFmpeg put before each: its length."""
    found = []
    with av.open(str(path)) as container:
        (stream,) = container.streams.video
        assert stream.codec_context.codec_tag == "hvc1"
        for packet in container.demux(stream):
            data, units = bytes(packet), []
            while data:
                size = int.from_bytes(data[:4])
                units.append(data[4 : 4 + size].rstrip(b"\0"))
                data = data[4 + size :]
            if units:
                found.append(units)
    return found


@pytest.mark.parametrize("aggregate", [True, False])
async def test_an_h265_track_is_recorded_as_it_was_sent(parts: Parts, aggregate: bool) -> None:
    """Also of a publisher whose first key frame the server passes on without its beginning."""
    room = f"h265-{aggregate}".lower()
    ann = await parts.join_raw(room, RawTrack("h265", aggregate=aggregate), None)
    request = {"room_name": room, "track_id": ann.sid("camera"), "file": {"filepath": room}}
    info = await parts.service.record("StartTrackEgress", SECONDS, **request)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    assert location(info).suffix == ".mp4"
    assert manifest(info)["passthrough"] is True
    recorded = h265_pictures(location(info))
    published = [nal_units(picture.data) for picture in ann.sent["camera"]]
    numbers = [ann.sent["camera"][place].counter for place in places(recorded, published, dropped=0)]
    assert counters(location(info)).values == numbers
    assert len(numbers) > 0.8 * SECONDS * 30


@pytest.mark.parametrize("method", ["StartTrackCompositeEgress", "StartRoomCompositeEgress"])
async def test_h265_and_g711_are_decoded_where_something_is_encoded(parts: Parts, method: str) -> None:
    ann = await parts.join_raw(method, RawTrack("h265"), RawTrack("pcma"))
    named = {"video_track_id": ann.sid("camera"), "audio_track_id": ann.sid("microphone")}
    info = await parts.service.record(
        method,
        SECONDS,
        room_name=method,
        file_outputs=[{"filepath": f"{method}.mp4"}],
        **(named if method == "StartTrackCompositeEgress" else {}),
    )
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    facts, read = probe(location(info)), counters(location(info))
    assert facts.video is not None and facts.video.codec == "h264"
    assert read.in_order and not read.missing and read.unreadable == 0
    assert has_tone(tones(location(info)), 440)


@pytest.mark.parametrize("codec", ["pcmu", "pcma"])
async def test_g711_becomes_opus_in_ogg(parts: Parts, codec: RawCodec) -> None:
    ann = await parts.join_raw(codec, None, RawTrack(codec))
    request = {"room_name": codec, "track_id": ann.sid("microphone"), "file": {"filepath": codec}}
    info = await parts.service.record("StartTrackEgress", SECONDS, **request)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    assert location(info).suffix == ".ogg"
    facts = probe(location(info))
    assert facts.audio is not None and facts.audio.codec == "opus" and facts.audio.contiguous
    assert facts.audio.duration_s == pytest.approx(SECONDS, abs=0.5)
    heard = tones(location(info))
    assert has_tone(heard, 440) and has_tone(heard, 1000)


async def test_a_participant_comes_back_with_other_codecs(parts: Parts) -> None:
    ann = await parts.join_raw("republished", RawTrack("h265"), RawTrack("pcmu", tone_hz=440))
    request = {"room_name": "republished", "identity": "ann", "file_outputs": [{"filepath": "republished"}]}
    egress_id = (await parts.service.call("StartParticipantEgress", **request))["egress_id"]
    await parts.service.active(egress_id)
    await asyncio.sleep(SECONDS)
    changed = ann.sent["camera"][-1].counter
    await ann.republish("camera", RawTrack("h264"))
    await ann.republish("microphone", RawTrack("pcma", tone_hz=660))
    await asyncio.sleep(SECONDS)
    info = await parts.service.finish(egress_id)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    read, facts = counters(location(info)), probe(location(info))
    assert read.in_order and read.unreadable == 0
    assert facts.audio is not None and facts.audio.contiguous
    before = [value for value in read.values if value <= changed]
    after = [value for value in read.values if value > changed]
    assert before[-1] == changed and after[0] - changed < 30 and after[-1] - after[0] > 2 * 30
    heard = tones(location(info))
    assert has_tone(heard, 440) and has_tone(heard, 660)


@pytest.mark.quiet
async def test_a_track_changes_its_codec_while_it_is_encoded(parts: Parts) -> None:
    """As a browser does when a subscriber comes who cannot decode the first: same track, same SID."""
    ann = await parts.join_raw("fallback", RawTrack("h265", fallback="h264"), RawTrack("pcmu"))
    egress_id = (
        await parts.service.call(
            "StartTrackCompositeEgress",
            room_name="fallback",
            audio_track_id=ann.sid("microphone"),
            video_track_id=ann.sid("camera"),
            file_outputs=[{"filepath": "fallback.mp4"}],
        )
    )["egress_id"]
    await parts.service.active(egress_id)
    await asyncio.sleep(SECONDS)
    await ann.fall_back("camera")
    changed = ann.sent["camera"][-1].counter
    await asyncio.sleep(SECONDS)
    info = await parts.service.finish(egress_id)
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    read = counters(location(info))
    assert read.in_order and read.unreadable == 0
    assert len(read.missing) < 15, "the server needs a moment to switch"
    assert read.values[0] < changed - 30 and read.values[-1] > changed + 30


async def test_a_track_that_changes_its_codec_ends_a_recording_of_it_as_it_is(parts: Parts) -> None:
    ann = await parts.join_raw("fallback-pass", RawTrack("h265", fallback="h264"), None)
    request = {"room_name": "fallback-pass", "track_id": ann.sid("camera"), "file": {"filepath": "pass"}}
    egress_id = (await parts.service.call("StartTrackEgress", **request))["egress_id"]
    await parts.service.active(egress_id)
    await asyncio.sleep(SECONDS)
    await ann.fall_back("camera")
    info = await parts.service.wait(egress_id)
    assert info["status"] == "EGRESS_FAILED"
    assert "changed from h265 to h264; to record across such a change" in info["error"]
    read = counters(location(info))
    assert read.in_order and not read.missing and read.unique > 0.8 * SECONDS * 30


async def muted(livekit: LivekitServer, room: str, track_id: str) -> None:
    """Returns when the server knows."""
    from livekit import api

    async with asyncio.timeout(10):
        while True:
            request = api.ListParticipantsRequest(room=room)
            listed = await livekit.room_service().list_participants(request)
            tracks = [track for each in listed.participants for track in each.tracks]
            if any(track.sid == track_id and track.muted for track in tracks):
                return
            await asyncio.sleep(0.05)


CROWD, SPEAKERS = 15, 5
"""Twenty tracks. Publishing sound costs the test's own process most, so not everybody speaks."""
CROWD_SECONDS = 8.0
"""A busy server takes some seconds until it sends all of them."""
CELLS = grid_rects(CROWD, Size(1280, 720))


def swatch(cell: Place) -> Rect:
    """A part of a tile that shows its participant's colour."""
    return Rect(cell.x + 40, cell.y + cell.height * 5 // 12, cell.width - 80, cell.height // 8)


@pytest.mark.quiet
async def test_a_room_of_twenty_tracks(parts: Parts) -> None:
    colours: list[Rgb] = [COLOURS[index % len(COLOURS)] for index in range(CROWD)]
    hz = [300 + 70 * index for index in range(SPEAKERS)]
    for index in range(CROWD):
        video = VideoSpec(width=320, height=180, fps=5, kbps=150, colour=colours[index])
        audio = AudioSpec(tone_hz=hz[index], level=0.03, beep_level=0.0) if index < SPEAKERS else None
        await parts.join("crowd", f"p{index:02}", video, audio)
    info = await parts.service.record(
        "StartRoomCompositeEgress", CROWD_SECONDS, room_name="crowd", file_outputs=[{"filepath": "crowd.mp4"}]
    )
    assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
    path = location(info)
    # Second by second: publishers that were late begin their tones anew, at any phase.
    heard = [tones(path, start_s=s, end_s=s + 1, min_level=0.003) for s in range(int(CROWD_SECONDS))]
    assert [each for each in hz if not any(has_tone(second, each) for second in heard)] == [], heard
    shown = [frame for _, frame in frames(path)]
    for frame in (shown[0], shown[len(shown) // 2], shown[-1]):
        seen = [colour_of(frame, swatch(cell)) for cell in CELLS]
        assert np.allclose(seen, colours, atol=25)
