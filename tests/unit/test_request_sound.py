"""The options stems and loudness: which recordings have them, and which refuse them."""

from dataclasses import replace
from typing import Any

import pytest
from livekit.protocol import egress as wire

from openegress.core.deferred import recording_of
from openegress.core.errors import Code, EgressError
from openegress.core.passthrough import Passthrough
from openegress.core.plan import decode, encode
from openegress.core.stems import StemFormat, Stems, ending
from openegress.request import options, places
from openegress.request.options import OptionDefaults
from tests.unit.test_request_options import CONTEXT, FILE, plan, room


def tracks(path: str = "m.mkv") -> wire.RoomCompositeEgressRequest:
    return wire.RoomCompositeEgressRequest(
        room_name="r", layout="tracks", file_outputs=[wire.EncodedFileOutput(filepath=path)]
    )


def sound_alone(**fields: Any) -> wire.RoomCompositeEgressRequest:
    return wire.RoomCompositeEgressRequest(room_name="r", audio_only=True, file_outputs=FILE, **fields)


def track() -> wire.TrackEgressRequest:
    return wire.TrackEgressRequest(room_name="r", track_id="TR_1", file=wire.DirectFileOutput(filepath="x"))


def composite() -> wire.TrackCompositeEgressRequest:
    return wire.TrackCompositeEgressRequest(room_name="r", audio_track_id="TR_1", file_outputs=FILE)


def web() -> wire.WebEgressRequest:
    return wire.WebEgressRequest(url="https://e.example", file_outputs=FILE)


def asks(request_: Any, query: str) -> Any:
    """The same request with options."""
    asked = type(request_)()
    asked.CopyFrom(request_)
    return options.carry(asked, options.of_query(query, "X"))


BOTH = "stems=flac&loudness=-16"


@pytest.mark.parametrize(
    "request_", [room("grid"), room("grid?render=deferred"), tracks(), tracks("m.mp4"), sound_alone()]
)
def test_what_has_stems_of_a_loudness(request_: wire.RoomCompositeEgressRequest) -> None:
    asked = options.of_query(BOTH, "X")
    found = plan(asks(request_, BOTH))
    assert (found.stems, found.loudness_lufs) == (StemFormat.FLAC, -16)
    assert decode(encode(found)) == found
    configured = replace(CONTEXT, options=OptionDefaults(stems=asked.stems, loudness=asked.loudness))
    assert plan(request_, configured).stems is StemFormat.FLAC
    none = asks(request_, "stems=&loudness=0")
    assert (plan(none, configured).stems, plan(none, configured).loudness_lufs) == (None, 0)


@pytest.mark.parametrize(
    ("request_", "query", "code", "text"),
    [
        (web(), "stems=wav", Code.UNIMPLEMENTED, "stems of a page"),
        (track(), "stems=wav", Code.INVALID_ARGUMENT, "stems: this egress stores single tracks"),
        (track(), "loudness=-16", Code.INVALID_ARGUMENT, "loudness: this egress encodes no sound"),
        (composite(), "stems=wav", Code.INVALID_ARGUMENT, "stems: this egress stores single tracks"),
        (tracks(), "loudness=-16", Code.INVALID_ARGUMENT, "loudness: this egress encodes no sound"),
        (room("grid?resume=true"), "stems=wav", Code.UNIMPLEMENTED, "resume of a recording with stems"),
        (
            wire.RoomCompositeEgressRequest(room_name="r", video_only=True, file_outputs=FILE),
            "stems=wav",
            Code.INVALID_ARGUMENT,
            "stems: this egress records no sound",
        ),
        (
            wire.RoomCompositeEgressRequest(
                room_name="r", stream_outputs=[wire.StreamOutput(protocol="RTMP", urls=["rtmp://h/a/k"])]
            ),
            "stems=wav",
            Code.INVALID_ARGUMENT,
            "stems: they lie beside a file or segments",
        ),
    ],
)
def test_what_has_none(request_: Any, query: str, code: Code, text: str) -> None:
    with pytest.raises(EgressError) as caught:
        plan(asks(request_, query))
    assert caught.value.code is code and caught.value.message.startswith(text)
    if "resume" in text:
        return
    stems = options.of_query(query, "X").stems
    found = plan(request_, replace(CONTEXT, options=OptionDefaults(stems=stems)))
    assert found.stems is None


def test_tracks_are_encoded_to_be_brought_to_a_loudness() -> None:
    assert plan(composite()).passthrough is Passthrough.IF_POSSIBLE
    found = plan(asks(composite(), "loudness=-23"))
    assert (found.passthrough, found.loudness_lufs) == (Passthrough.NEVER, -23)
    configured = replace(CONTEXT, options=OptionDefaults(loudness=options.of_query(BOTH, "X").loudness))
    found = plan(composite(), configured)
    assert (found.passthrough, found.loudness_lufs) == (Passthrough.IF_POSSIBLE, 0)
    assert plan(web(), configured).loudness_lufs == -16


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("stems=mp3", 'X.stems: "mp3" is not one of wav, flac, opus'),
        ("loudness=16", 'X.loudness: "16" is not a loudness between -50 (quiet) and -5 LUFS'),
        ("loudness=nan", 'X.loudness: "nan" is not a loudness'),
        ("loudness=loud", 'X.loudness: "loud" is not a loudness'),
    ],
)
def test_values_that_make_no_sense(query: str, error: str) -> None:
    with pytest.raises(EgressError) as caught:
        options.of_query(query, "X")
    assert error in caught.value.message


def test_json_has_numbers() -> None:
    assert options.of_json({"loudness": -16.5}, "X") == options.of_query("loudness=-16.5", "X")


def test_what_is_composed_later_has_its_stems_then() -> None:
    found = recording_of(plan(room(f"grid?render=deferred&{BOTH}")), "/spool")
    assert (found.stems, found.loudness_lufs) == (None, 0)


def test_two_recordings_do_not_write_the_same_stems() -> None:
    film, sound = (
        wire.RoomCompositeEgressRequest(
            room_name="r",
            layout="grid?stems=wav",
            file_outputs=[wire.EncodedFileOutput(filepath=path)],
        )
        for path in ("m.mp4", "m.webm")
    )
    shared = places.places_of(plan(film), "here") & places.places_of(plan(sound), "here")
    assert [each.rpartition("/")[2] for each in shared] == ["m.\x04.wav"]


def test_names_of_people_are_one_name_each() -> None:
    names = {ending(each, StemFormat.WAV) for each in ("a", "a/b", "..", "A%2F", "ü", "a.wav")}
    assert len(names) == 6 and not any("/" in name for name in names)
    assert ending("ada", StemFormat.FLAC) == ".ada.flac"
    assert str(Stems.parse("opus")) == "opus" and not Stems.parse("0")
