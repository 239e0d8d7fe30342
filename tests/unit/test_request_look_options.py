"""Options of looks: which values there are, what a plan makes of them, and what is refused."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from livekit.protocol import egress as wire
from PIL import Image

from openegress.config.load import load
from openegress.core.errors import Code, EgressError
from openegress.core.looks import (
    Backdrop,
    Caption,
    Corner,
    CssColour,
    HeightShare,
    Looks,
    Margin,
    PictureFiles,
    PictureName,
    Share,
    Zone,
)
from openegress.core.passthrough import Passthrough
from openegress.core.picture_file import read_picture
from openegress.core.plan import Plan
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.proto import egress_rpc_pb2 as rpc
from openegress.request import look_options, options, orders
from openegress.request.context import Context
from openegress.request.look_options import LookOptions
from openegress.request.options import OptionDefaults, Options
from openegress.request.orders import SetOptions
from openegress.request.validate import plan_of

FILES = PictureFiles({"acme": "/acme.png"}, {"stage": "/stage.jpg"})
CONTEXT = Context(
    now_ns=1_739_527_024_816_835_412,
    storage=StoragePlan(backend=LocalStorage(root="/out")),
    ws_url="ws://livekit:7880",
    make_token=lambda egress_id, room: "token",
    pictures=FILES,
)
FILE = [wire.EncodedFileOutput(filepath="x")]
ORIENTATION, ON_ITS_RIGHT_SIDE = 0x0112, 6
"""A tag of EXIF, and its value for a picture that is upright once turned clockwise."""


def saved(image: Image.Image, kind: str) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def percents(least: int, most: int) -> st.SearchStrategy[float]:
    return st.integers(least, most).map(lambda value: value / 100)


LOOKS = st.builds(
    Options,
    logo=st.none() | st.sampled_from(["", "acme", "a.b-c_1"]).map(PictureName),
    logo_corner=st.none() | st.sampled_from(Corner),
    logo_size=st.none() | percents(1, 50).map(HeightShare),
    logo_opacity=st.none() | percents(0, 100).map(Share),
    text=st.none() | st.text(max_size=60).map(lambda text: Caption.parse(text)),
    text_corner=st.none() | st.sampled_from(Corner),
    text_size=st.none() | percents(1, 50).map(HeightShare),
    clock=st.none() | st.sampled_from(["", "UTC", "Etc/GMT+3", "Asia/Tokyo"]).map(Zone),
    recorded_at=st.none() | st.sampled_from(["", "Europe/Berlin"]).map(Zone),
    recording_dot=st.none() | st.booleans(),
    names=st.none() | st.booleans(),
    speaker_border=st.none() | st.sampled_from(["", "#00ff88"]).map(CssColour),
    background=st.none() | st.sampled_from(["", "#00ff88", "stage"]).map(Backdrop),
    safe_margin=st.none() | percents(0, 20).map(Margin),
)


def plan(body: Any, context: Context = CONTEXT) -> Plan:
    request = rpc.StartEgressRequest(egress_id="EG_1", room_id="RM_1")
    kind = {
        wire.WebEgressRequest: "web",
        wire.TrackEgressRequest: "track",
        wire.ParticipantEgressRequest: "participant",
        wire.TrackCompositeEgressRequest: "track_composite",
        wire.RoomCompositeEgressRequest: "room_composite",
    }[type(body)]
    getattr(request, kind).CopyFrom(body)
    return plan_of(request, context)


def room(layout: str = "", page: str = "", *, audio_only: bool = False) -> wire.RoomCompositeEgressRequest:
    return wire.RoomCompositeEgressRequest(
        room_name="demo", layout=layout, custom_base_url=page, file_outputs=FILE, audio_only=audio_only
    )


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (
            "logo=acme&logo_corner=bottom-left&logo_size=20%25&logo_opacity=50%",
            Looks("acme", Corner.BOTTOM_LEFT, 0.2, 0.5),
        ),
        ("text=Part%202", Looks(text="Part 2")),
        ("text=%D9%85%D8%B1%D8%AD%D8%A8%D8%A7+%F0%9F%98%80", Looks(text="مرحبا 😀")),
        ("text=a%0Ab%E2%80%AEc", Looks(text="a b c")),
        (
            "clock=Europe/Berlin&recorded_at=Etc/GMT%2B3",
            Looks(clock="Europe/Berlin", recorded_at="Etc/GMT+3"),
        ),
        ("recording_dot=yes&names=on", Looks(recording_dot=True, names=True)),
        ("speaker_border=%23f80&background=Navy", Looks(speaker_border="#ff8800", background="#000080")),
        ("speaker_border=#00FF00&background=stage", Looks(speaker_border="#00ff00", background="stage")),
        ("safe_margin=0%&logo=&text=", Looks(safe_margin=0.0)),
    ],
)
def test_a_layout_says_how_it_looks(query: str, expected: Looks) -> None:
    found = plan(room(f"speaker?{query}"))
    assert (found.looks, found.pictures) == (expected, FILES)


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("logoo=acme", "layout.logoo: unknown key; did you mean logo?"),
        ("logo=/etc/passwd", 'layout.logo: "/etc/passwd" is not the name of a configured picture'),
        (
            "logo=acne",
            'logo: "acne" is not one of overlays.logos in this server\'s configuration (acme); did you',
        ),
        ("background=stag", 'background: "stag" is not one of overlays.backgrounds'),
        ("logo_corner=middle", 'layout.logo_corner: "middle" is not one of top-left, top-right'),
        ("logo_size=0%", 'layout.logo_size: "0%" is not a share between 1% and 50%'),
        ("logo_size=20", 'layout.logo_size: "20" is not a share between 1% and 50%'),
        ("logo_opacity=101%", 'layout.logo_opacity: "101%" is not a share between 0% and 100%'),
        ("safe_margin=30%", 'layout.safe_margin: "30%" is not a share between 0% and 20%'),
        ("text=" + "x" * 201, 'layout.text: "xxx'),
        ("clock=Mars", 'layout.clock: "Mars" is not a time zone, like UTC or Europe/Berlin'),
        ("clock=../../etc/passwd", 'layout.clock: "../../etc/passwd" is not a time zone'),
        ("speaker_border=reddish", 'layout.speaker_border: "reddish" is not a colour, like #ff8800'),
        ("background=%2312345", 'layout.background: "#12345" is not a colour'),
        ("names=maybe", 'layout.names: "maybe" is not true or false'),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_key(query: str, error: str) -> None:
    with pytest.raises(EgressError) as caught:
        plan(room(f"grid?{query}"))
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message.startswith(error)


@given(first=LOOKS, second=LOOKS)
def test_what_is_carried_arrives(first: Options, second: Options) -> None:
    message = options.carry(options.carry(wire.WebEgressRequest(), second), first)
    found, expected = options.carried(message), options.merged(first, second)
    for key in look_options.LOOK_KEYS:
        value = getattr(expected, key)
        assert getattr(found, key) == (pytest.approx(value) if isinstance(value, float) else value), key


@given(text=st.text(max_size=300))
def test_a_text_is_one_line_that_can_be_seen_or_is_refused(text: str) -> None:
    try:
        found = Caption.parse(text)
    except ValueError:
        assert len(text) > 200
    else:
        assert len(found) <= 200 and found == " ".join(found.split()) and "\x00" not in found
        assert Caption.parse(found) == found


TALL_LOGO = Options(logo=PictureName("acme"))
DOT = OptionDefaults(recording_dot=True, names=True)


def composite() -> wire.TrackCompositeEgressRequest:
    return wire.TrackCompositeEgressRequest(room_name="demo", video_track_id="TR_1", file_outputs=FILE)


def test_what_is_drawn_over_a_track_is_encoded() -> None:
    bodies: tuple[Any, ...] = (
        composite(),
        wire.WebEgressRequest(url="https://page.example", file_outputs=FILE),
        room("own", "https://page.example"),
    )
    assert plan(bodies[0]).passthrough is Passthrough.IF_POSSIBLE
    for body in bodies:
        found = plan(options.carry(body, TALL_LOGO))
        assert found.looks == Looks(logo="acme") and found.passthrough is Passthrough.NEVER
    configured = plan(
        wire.TrackCompositeEgressRequest(room_name="demo", video_track_id="TR_1", file_outputs=FILE),
        replace(CONTEXT, options=DOT),
    )
    assert configured.looks == Looks(recording_dot=True) and configured.passthrough is Passthrough.NEVER


@pytest.mark.parametrize(
    ("body", "asked", "code", "words"),
    [
        (room(audio_only=True), TALL_LOGO, Code.INVALID_ARGUMENT, "logo: this egress has no picture"),
        (room("tracks"), TALL_LOGO, Code.INVALID_ARGUMENT, "logo: tracks are stored as they come"),
        (
            wire.TrackEgressRequest(
                room_name="demo", track_id="TR_1", file=wire.DirectFileOutput(filepath="x")
            ),
            TALL_LOGO,
            Code.INVALID_ARGUMENT,
            "logo: tracks are stored as they come",
        ),
        (
            wire.ParticipantEgressRequest(room_name="demo", identity="ann", file_outputs=FILE),
            Options(names=True),
            Code.UNIMPLEMENTED,
            "names of anything but a room",
        ),
        (
            room("own", "https://p.example"),
            Options(background=Backdrop("stage")),
            Code.UNIMPLEMENTED,
            "background of",
        ),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_asked(
    body: Any, asked: Options, code: Code, words: str
) -> None:
    """And left out where only the configuration says it."""
    plain = type(body)()
    plain.CopyFrom(body)
    for_all = replace(CONTEXT, options=OptionDefaults(**{key: getattr(asked, key) for key in options.KEYS}))
    assert not plan(plain, for_all).looks.names
    copy = type(body)()
    copy.CopyFrom(body)
    with pytest.raises(EgressError) as caught:
        plan(options.carry(copy, asked))
    assert caught.value.code is code and caught.value.message.startswith(words)


def test_the_metadata_of_a_room_end_no_recording() -> None:
    metadata = '{"egress": {"logo": "other", "text": "Room 7", "background": "stage"}}'
    found = plan(room("grid"), replace(CONTEXT, room_metadata=metadata))
    assert found.looks == Looks(text="Room 7", background="stage")
    (notice,) = found.notices
    assert notice.startswith('logo: "other" is not one of overlays.logos') and "ignored" in notice


def test_a_change_keeps_what_it_does_not_name() -> None:
    change = orders.in_layout("?text=Part%202")
    assert (change.layout, change.order, change.changes_picture) == (None, None, True)
    before = Looks(logo="acme", text="Part 1")
    assert look_options.changed(before, change.looks) == Looks(logo="acme", text="Part 2")
    both = orders.in_layout("speaker?text=&max_duration=1h")
    assert both.layout == "speaker" and isinstance(both.order, SetOptions)
    assert both.looks == LookOptions(text=Caption(""))
    assert not orders.in_layout("?max_duration=1h").changes_picture


@pytest.mark.parametrize(
    ("layout", "of_page", "code"),
    [
        ("grid?leave_out=bob&text=x", False, Code.UNIMPLEMENTED),
        ("grid?txet=1", False, Code.INVALID_ARGUMENT),
        ("grid?logo_size=9", False, Code.INVALID_ARGUMENT),
        ("own?leave_out=bob", True, Code.UNIMPLEMENTED),
    ],
)
def test_a_change_that_cannot_be_made_is_refused(layout: str, of_page: bool, code: Code) -> None:
    with pytest.raises(EgressError) as caught:
        orders.in_layout(layout, of_page=of_page)
    assert caught.value.code is code


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (
            "overlays: {logos: {acme: /nonexistent.png}}",
            "overlays.logos.acme: /nonexistent.png cannot be read",
        ),
        ("overlays: {logos: {../x: /x}}", 'overlays.logos.../x: "../x" is not the name of a configured'),
        ("overlays: {backgrounds: {navy: /x}}", 'overlays.backgrounds.navy: "navy" is the name of a colour'),
        ("overlays: {logos: {a: ''}}", "overlays.logos.a: needs the path of a picture"),
        ("options: {logo: acme}", 'options: logo: "acme" is not one of overlays.logos'),
        ("options: {clock: Mars}", 'options.clock: "Mars" is not a time zone'),
    ],
)
def test_the_configuration_is_checked(body: str, error: str) -> None:
    with pytest.raises(EgressError) as caught:
        load(body=body, environ={})
    assert caught.value.message.startswith(f"--config-body: {error}")


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("empty.png", b"", "is not a PNG, JPEG or WebP picture"),
        ("text.png", b"hello", "is not a PNG, JPEG or WebP picture"),
        ("moving.gif", saved(Image.new("P", (4, 4)), "GIF"), "is not a PNG, JPEG or WebP picture"),
        ("cut.png", saved(Image.effect_noise((64, 64), 50), "PNG")[:1000], "cannot be read: "),
        ("large.png", saved(Image.new("1", (5000, 4000)), "PNG"), "has more than 16 million pixels"),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_a_fault(
    tmp_path: Path, name: str, data: bytes, error: str
) -> None:
    """Rather than missing from recordings, where only the log would tell."""
    path = tmp_path / name
    path.write_bytes(data)
    for kind in ("logos", "backgrounds"):
        with pytest.raises(EgressError) as caught:
            load(body=f"overlays: {{{kind}: {{a: {path}}}}}", environ={})
        assert caught.value.message.startswith(f"--config-body: overlays.{kind}.a: {path} {error}")


def test_a_photograph_is_upright(tmp_path: Path) -> None:
    """A camera that was held on its side says so in EXIF, as browsers know."""
    photograph = Image.new("RGB", (40, 20), (255, 0, 0))
    photograph.putpixel((0, 0), (0, 0, 255))
    exif = photograph.getexif()
    exif[ORIENTATION] = ON_ITS_RIGHT_SIDE
    photograph.save(tmp_path / "a.png", exif=exif)
    upright = read_picture(str(tmp_path / "a.png"))
    assert upright.size == (20, 40) and upright.getpixel((19, 0)) == (0, 0, 255, 255)


def test_pictures_come_from_the_configuration(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    settings = load(
        body=f"overlays: {{logos: {{a: {tmp_path}/a.png}}}}\noptions: {{logo: a}}", environ={}
    ).settings
    assert settings.options.logo == "a" and settings.overlays.logos == {"a": f"{tmp_path}/a.png"}
