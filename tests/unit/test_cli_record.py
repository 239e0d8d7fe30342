"""`openegress record`: what is asked for by the name of the file, and a stop that comes too late."""

from pathlib import Path

import pytest
from livekit.protocol.egress import EgressInfo, EgressStatus, EncodedFileType

from openegress.app import one_shot
from openegress.app.one_shot import OneShot
from openegress.cli.parser import build_parser
from openegress.cli.record import request_for
from openegress.config.settings import Settings
from openegress.core.errors import Code, EgressError
from openegress.core.values import Seconds
from openegress.proto.egress_rpc_pb2 import StartEgressRequest
from openegress.request.options import Options, carried


def request(file: str, *flags: str, source: str = "https://example.com") -> StartEgressRequest:
    arguments = build_parser().parse_args(["record", source, file, *flags])
    return request_for(arguments, Path("/recordings") / file)


@pytest.mark.parametrize("source", ["https://example.com", "room:stage"])
@pytest.mark.parametrize(
    ("file", "flags", "file_type", "audio_only"),
    [
        ("out.mp4", (), EncodedFileType.MP4, False),
        ("out.mp4", ("--audio-only",), EncodedFileType.MP4, True),
        ("out.ogg", (), EncodedFileType.OGG, True),
        ("out.mp3", (), EncodedFileType.MP3, True),
        ("out.MP3", ("--audio-only",), EncodedFileType.MP3, True),
        ("out.webm", ("--audio-only",), EncodedFileType.DEFAULT_FILETYPE, True),
        ("out.webm", (), EncodedFileType.DEFAULT_FILETYPE, False),
    ],
)
def test_the_suffix_is_the_kind_of_file(
    source: str, file: str, flags: tuple[str, ...], file_type: EncodedFileType, audio_only: bool
) -> None:
    asked = request(file, *flags, source=source)
    body = getattr(asked, asked.WhichOneof("request") or "")
    assert body.file_outputs[0].file_type == file_type
    assert body.file_outputs[0].filepath == f"/recordings/{file}"
    assert body.audio_only is audio_only


@pytest.mark.parametrize(
    ("file", "flags", "said"),
    [
        ("out.wav", ("--audio-only",), '"out.wav" is not a file to record to: name it .mp4, .webm,'),
        ("out", (), '"out" is not a file to record to: name it .mp4, .webm, .ogg, .mp3, .mkv, .mka or .mcap'),
        ("out.ogg", ("--video-only",), '"out.ogg" holds no picture: leave out --video-only, or name it .mp4'),
        ("out.mka", ("--video-only",), '"out.mka" holds no picture: leave out --video-only, or name it .mkv'),
        ("out.mkv", (), '"out.mkv" is for all tracks of a room: name it .mp4 for anything else'),
    ],
)
def test_other_files_are_refused(file: str, flags: tuple[str, ...], said: str) -> None:
    with pytest.raises(EgressError) as caught:
        request(file, *flags)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message.startswith(said)


@pytest.mark.parametrize(("file", "audio_only"), [("out.mkv", False), ("out.mcap", False), ("out.mka", True)])
@pytest.mark.parametrize("flags", [(), ("--layout", "tracks")], ids=lambda flags: " ".join(flags))
def test_a_room_goes_into_matroska_track_by_track(
    file: str, audio_only: bool, flags: tuple[str, ...]
) -> None:
    body = request(file, *flags, source="room:stage").room_composite
    assert (body.layout, body.audio_only) == ("tracks", audio_only)
    assert body.WhichOneof("options") is None


def test_matroska_holds_no_composed_layout() -> None:
    with pytest.raises(EgressError, match="is for all tracks of a room"):
        request("out.mkv", "--layout", "grid", source="room:stage")


@pytest.mark.parametrize("source", ["https://example.com", "room:stage"])
def test_a_duration_is_of_what_is_recorded_however_long_the_start_takes(source: str) -> None:
    asked = request("out.mp4", "--duration", "1m30s", source=source)
    body = getattr(asked, asked.WhichOneof("request") or "")
    assert carried(body) == Options(max_duration=Seconds(90.0))


def test_without_a_duration_nothing_ends_it() -> None:
    assert carried(request("out.mp4").web) == Options()


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> EgressError:
    """Nobody answers a stop."""
    refusal = EgressError(Code.UNAVAILABLE, "no response from servers")

    async def call(*_: object, **__: object) -> None:
        raise refusal

    monkeypatch.setattr("openegress.psrpc.client.RPCClient.call", call)
    monkeypatch.setattr(one_shot, "_LAST_WORD_S", 0.01)
    return refusal


async def test_an_egress_that_is_over_need_not_be_stopped(refusing: EgressError) -> None:
    recorder = OneShot(Settings())
    await recorder._take(EgressInfo(egress_id="EG_1", status=EgressStatus.EGRESS_COMPLETE))
    await recorder.stop()


async def test_a_stop_that_is_refused_is_said(refusing: EgressError) -> None:
    recorder = OneShot(Settings())
    await recorder._take(EgressInfo(egress_id="EG_1", status=EgressStatus.EGRESS_ACTIVE))
    with pytest.raises(EgressError) as caught:
        await recorder.stop()
    assert caught.value is refusing
