"""Options of a recording: one schema, whichever way they come."""

from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from livekit.protocol import egress as wire
from livekit.protocol import models

from openegress.config.load import load
from openegress.core.codecs import AskedCodec, AskedSpeed, EncoderSpeed
from openegress.core.end_rules import EndRules
from openegress.core.errors import Code, EgressError
from openegress.core.loudness_target import LoudnessTarget
from openegress.core.passthrough import Passthrough
from openegress.core.pause_mode import PauseMode
from openegress.core.plan import FileOutput, LayoutSource, Plan, Split, TemplateSource, decode, encode
from openegress.core.render import Render
from openegress.core.selectors import Selectors
from openegress.core.sidecars import Sidecar, Sidecars
from openegress.core.stems import StemFormat, Stems
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.core.values import LengthOrSize, Seconds, SizeBytes
from openegress.proto import egress_rpc_pb2 as rpc
from openegress.request import options
from openegress.request.asked_options import MIN_SIZE_BYTES
from openegress.request.options import OptionDefaults, Options, RoomOptions
from openegress.request.places import places_of
from openegress.request.validate import Context, plan_of
from tests.unit.test_core_selectors import SELECTORS

SECONDS = st.integers(0, 10**13).map(lambda us: Seconds(us / 1e6))
CONTEXT = Context(
    now_ns=1_739_527_024_816_835_412,
    storage=StoragePlan(backend=LocalStorage(root="/out")),
    ws_url="ws://livekit:7880",
    make_token=lambda egress_id, room: "token",
    options=OptionDefaults(
        max_duration=Seconds(100),
        stop_when_empty=Seconds(20),
        by_room=(RoomOptions(rooms=("short-*",), max_duration=Seconds(10)),),
    ),
)
FILE = [wire.EncodedFileOutput(filepath="x")]
OPTIONS = st.builds(
    Options,
    max_duration=st.none() | SECONDS,
    max_size=st.none() | st.integers(0, 2**62).map(SizeBytes),
    stop_when_empty=st.none() | SECONDS,
    stop_when_idle=st.none() | SECONDS,
    stop_when_silent=st.none() | SECONDS,
    start_timeout=st.none() | SECONDS,
    on_pause=st.none() | st.sampled_from(PauseMode),
    split_every=st.none()
    | st.integers(0, 10**9).map(lambda us: LengthOrSize(length=us / 1e6))
    | st.integers(1, 2**62).map(lambda size: LengthOrSize(size=size)),
    record_only=st.none() | SELECTORS,
    leave_out=st.none() | SELECTORS,
    show_left_out=st.none() | st.booleans(),
    opt_out=st.none() | st.booleans(),
    sidecars=st.none() | st.lists(st.sampled_from(Sidecar)).map(lambda each: Sidecars.parse(",".join(each))),
    data_topics=st.none() | st.text().map(str.strip),
    tracks_file=st.none() | st.text().map(str.strip),
    stems=st.none() | st.sampled_from(["", *StemFormat]).map(Stems.parse),
    loudness=st.none() | st.floats(-50, -5).map(lambda lufs: LoudnessTarget(round(lufs, 3))),
    encoder_speed=st.none() | st.sampled_from(AskedSpeed),
    video_codec=st.none() | st.sampled_from(AskedCodec),
    variable_frame_rate=st.none() | st.booleans(),
    render=st.none() | st.sampled_from(Render),
    storyboard=st.none() | SECONDS,
    resume=st.none() | st.booleans(),
)


def values(found: Options) -> dict[str, object]:
    return {key: getattr(found, key) for key in options.KEYS}


# --- reading


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Options()),
        ("max_duration=1h30m", Options(max_duration=Seconds(5400))),
        ("max_duration=0&start_timeout=250ms", Options(max_duration=Seconds(0), start_timeout=Seconds(0.25))),
        ("max_size=500MB", Options(max_size=SizeBytes(500_000_000))),
        ("max_size=1.5kB", Options(max_size=SizeBytes(1500))),
        ("max_size=2GiB", Options(max_size=SizeBytes(2**31))),
        ("&max_size=%31%30+kB&", Options(max_size=SizeBytes(10_000))),
        ("split_every=10m", Options(split_every=LengthOrSize(length=600.0))),
        ("split_every=500MB", Options(split_every=LengthOrSize(size=500_000_000))),
        ("split_every=0", Options(split_every=LengthOrSize())),
        ("on_pause=hold", Options(on_pause=PauseMode.HOLD)),
        ("leave_out=bot-*,kind:agent", Options(leave_out=Selectors.parse("bot-*,kind:agent"))),
        ("leave_out=sip_%2B49*", Options(leave_out=Selectors.parse("sip_+49*"))),
        ("sidecars=speakers,+events", Options(sidecars=Sidecars(tuple(Sidecar)[:2]))),
        ("data_topics=slides*,poll", Options(data_topics="slides*,poll")),
        ("sidecars=", Options(sidecars=Sidecars())),
        ("encoder_speed=superfast", Options(encoder_speed=AskedSpeed.SUPERFAST)),
        ("record_only=&opt_out=no", Options(record_only=Selectors(), opt_out=False)),
    ],
)
def test_a_query(text: str, expected: Options) -> None:
    assert options.of_query(text, "X") == expected


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("max_duratoin=1h", "X.max_duratoin: unknown key; did you mean max_duration?"),
        ("pizza=1", "X.pizza: unknown key"),
        ("max_duration", 'X: "max_duration" has no value; write max_duration=...'),
        ("max_duration=1h&max_duration=2h", "X: max_duration is there twice"),
        ("max_duration=60", 'X.max_duration: "60" is not a duration with its unit, like 90s or 1h30m'),
        ("max_duration=-1s", 'X.max_duration: "-1s" is not a duration that is not negative'),
        ("max_duration=9999999999999h", 'X.max_duration: "9999999999999h" is not a duration with its unit'),
        ("max_duration=" + "9" * 4000, 'X.max_duration: "999'),
        (
            "split_every=soon",
            'X.split_every: "soon" is not a length or a size with its unit, like 10m or 500MB',
        ),
        ("on_pause=stop", 'X.on_pause: "stop" is not one of cut, hold'),
        ("max_size=big", 'X.max_size: "big" is not a size, like 500MB, 2GiB or a number of bytes'),
        ("max_size=5XB", 'X.max_size: "5XB" is not a size'),
        ("max_size=-5", 'X.max_size: "-5" is not a size'),
        ("max_size=999999999TB", 'X.max_size: "999999999TB" is not a size that a disk could have'),
        ("leave_out=kind:robot", 'X.leave_out: "kind:robot" is not a list with a kind that LiveKit has'),
        ("leave_out=sip_+49", "X: leave_out has a +; write %2B for a plus and %20 for a space"),
        ("sidecars=event", 'X.sidecars: "event" is not a list of events, speakers, chat'),
        ("encoder_speed=slow", 'X.encoder_speed: "slow" is not one of auto, ultrafast, superfast, veryfast'),
        ("opt_out=maybe", 'X.opt_out: "maybe" is not true or false'),
        ("max_duration=" + "1" * 5000, "X: options longer than 4096 characters"),
    ],
)
def test_a_query_that_is_wrong(text: str, error: str) -> None:
    with pytest.raises(EgressError) as caught:
        options.of_query(text, "X")
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message.startswith(error)


def test_json() -> None:
    found = options.of_json(
        {"max_size": 5_000_000, "max_duration": "2m", "start_timeout": None}, "openegress"
    )
    assert found == Options(max_duration=Seconds(120), max_size=SizeBytes(5_000_000))


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ([], "openegress: [] is not an object of options"),
        (3, "openegress: 3 is not an object of options"),
        ({"max_size": {}}, "openegress.max_size: a block of keys is not a single value"),
        ({"max_duration": True}, 'openegress.max_duration: "true" is not a duration'),
        ({"max_duration": 60}, 'openegress.max_duration: "60" is not a duration with its unit'),
        ({"stop_when_emtpy": "1m"}, "openegress.stop_when_emtpy: unknown key; did you mean stop_when_empty?"),
    ],
)
def test_json_that_is_wrong(value: object, error: str) -> None:
    with pytest.raises(EgressError) as caught:
        options.of_json(value, "openegress")
    assert caught.value.message.startswith(error)


@given(text=st.text(max_size=60))
def test_a_query_is_read_or_refused(text: str) -> None:
    try:
        found = options.of_query(text, "X")
    except EgressError as error:
        assert error.code is Code.INVALID_ARGUMENT
    else:
        assert isinstance(found, Options)


# --- layers


@given(layers=st.lists(OPTIONS, max_size=4))
def test_the_last_layer_that_says_something_counts(layers: list[Options]) -> None:
    found = values(options.merged(*layers))
    for key in options.KEYS:
        said = [value for layer in layers if (value := getattr(layer, key)) is not None]
        assert found[key] == (said[-1] if said else None)


def test_the_configuration_has_a_layer_for_each_pattern_that_fits() -> None:
    body = """
options:
  max_duration: 4h
  start_timeout: 1m
  by_room:
  - rooms: ["lesson-*", "talks"]
    max_duration: 1h
    max_size: 1GB
  - {rooms: "*-long", max_duration: 0}
"""
    defaults = load(body=body, environ={}).settings.options
    assert defaults.of_room("") == Options(max_duration=Seconds(14400), start_timeout=Seconds(60))
    assert defaults.of_room("talk") == defaults.of_room("")
    assert defaults.of_room("talks").max_size == 10**9
    short = defaults.of_room("lesson-7")
    assert (short.max_duration, short.max_size, short.start_timeout) == (3600, 10**9, 60)
    assert defaults.of_room("lesson-long").max_duration == 0
    assert defaults.of_room("Lesson-7").max_size is None


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("options: {max_durations: 1h}", "options.max_durations: unknown key; did you mean max_duration?"),
        ("options: {by_room: [{max_sise: 1}]}", "options.by_room[0].max_sise: unknown key; did you mean"),
        ("options: {by_room: [{max_size: 1}]}", "options.by_room[0].rooms: missing"),
        ("options: {max_size: lots}", 'options.max_size: "lots" is not a size'),
    ],
)
def test_a_slip_in_the_configuration_is_refused(body: str, error: str) -> None:
    with pytest.raises(EgressError) as caught:
        load(body=body, environ={})
    assert error in caught.value.message


# --- in the name of a layout


KEY = st.sampled_from(["a", "theme", "max_duratoin", "max_duration", "start_timeout"])
PAIRS = st.lists(st.tuples(KEY, st.text(alphabet="a1 &=%?ü", max_size=4).map(quote)), max_size=5)


@given(name=st.sampled_from(["grid", "", "my layout"]), pairs=PAIRS)
def test_a_page_gets_all_that_is_not_ours_as_it_was(name: str, pairs: list[tuple[str, str]]) -> None:
    written = [f"{key}={value}" for key, value in pairs]
    found = options.layout_of_page(f"{name}?{'&'.join(written)}")
    others = [pair for pair in written if pair.partition("=")[0] not in options.KEYS]
    ours = [pair for pair in written if pair.partition("=")[0] in options.KEYS]
    assert found.query == "&".join(ours)
    if ours:
        assert found.name == (f"{name}?{'&'.join(others)}" if others else name)
    else:
        assert found.name == f"{name}?{'&'.join(written)}"


def test_a_near_miss_is_left_to_the_page_and_told() -> None:
    found = options.layout_of_page("own?max_duratoin=1h&x=1")
    assert (found.name, found.query) == ("own?max_duratoin=1h&x=1", "")
    assert found.near_misses == (
        "max_duratoin of the layout's query is left to the page; did you mean max_duration?",
    )


# --- of the room


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ("", Options()),
        ("hello", Options()),
        ("[1]", Options()),
        ('{"egress": null}', Options()),
        (
            '{"topic": "x", "egress": {"max_duration": "1h", "max_size": 5000}}',
            Options(max_duration=Seconds(3600), max_size=SizeBytes(5000)),
        ),
    ],
)
def test_the_metadata_of_a_room(metadata: str, expected: Options) -> None:
    assert options.of_room_metadata(metadata) == (expected, ())


def test_a_slip_in_the_metadata_is_told_and_the_rest_is_taken() -> None:
    text = '{"egress": {"max_duration": "1h", "max_sise": 5, "stop_when_idle": "soon"}}'
    found, notices = options.of_room_metadata(text)
    assert found == Options(max_duration=Seconds(3600))
    assert notices == (
        "room metadata egress.max_sise: unknown key; did you mean max_size? (ignored)",
        'room metadata egress.stop_when_idle: "soon" is not a duration with its unit, like 90s or 1h30m'
        " (ignored)",
    )
    assert options.of_room_metadata('{"egress": "max_duration=1h"}') == (
        Options(),
        ("room metadata egress is not an object of options (ignored)",),
    )


@given(text=st.text(max_size=80) | st.text(max_size=40).map(lambda each: f'{{"egress": {{"{each}": 1}}}}'))
def test_no_metadata_end_a_recording(text: str) -> None:
    options.of_room_metadata(text)


# --- on their way


@given(first=OPTIONS, second=OPTIONS)
def test_what_is_carried_arrives(first: Options, second: Options) -> None:
    message = options.carry(wire.WebEgressRequest(url="http://e"), second)
    message = options.carry(message, first)
    copy = rpc.StartEgressRequest()
    copy.web.CopyFrom(message)
    sent = rpc.StartEgressRequest.FromString(copy.SerializeToString())
    assert sent.web.url == "http://e"
    found, expected = values(options.carried(sent.web)), values(options.merged(first, second))
    for key, value in expected.items():
        assert found[key] == (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value)


# --- in a plan


KINDS = {
    wire.RoomCompositeEgressRequest: "room_composite",
    wire.WebEgressRequest: "web",
    wire.TrackCompositeEgressRequest: "track_composite",
    wire.TrackEgressRequest: "track",
}
Body = (
    wire.RoomCompositeEgressRequest
    | wire.WebEgressRequest
    | wire.TrackCompositeEgressRequest
    | wire.TrackEgressRequest
)


def plan(body: Body, context: Context = CONTEXT) -> Plan:
    request = rpc.StartEgressRequest(egress_id="EG_1", room_id="RM_1")
    getattr(request, KINDS[type(body)]).CopyFrom(body)
    return plan_of(request, context)


def room(layout: str = "", name: str = "demo", page: str = "") -> wire.RoomCompositeEgressRequest:
    return wire.RoomCompositeEgressRequest(
        room_name=name, layout=layout, custom_base_url=page, file_outputs=FILE
    )


def test_later_ways_win() -> None:
    assert plan(room()).end_rules.max_duration_s == 100
    assert plan(room(name="short-1")).end_rules.max_duration_s == 10
    assert plan(room("grid?max_duration=5s", "short-1")).end_rules.max_duration_s == 5
    asked = options.carry(room("grid?max_duration=5s"), Options(max_duration=Seconds(3)))
    assert plan(asked).end_rules.max_duration_s == 3
    assert plan(room("grid?max_duration=0")).end_rules.max_duration_s == 0


def test_a_room_has_its_say_between_the_configuration_and_the_request() -> None:
    context = replace(CONTEXT, room_metadata='{"egress": {"max_duration": "7s", "max_sise": 1}}')
    found = plan(room(name="short-1"), context)
    assert (found.end_rules.max_duration_s, found.end_rules.stop_when_empty_s) == (7, 20)
    assert found.notices == ("room metadata egress.max_sise: unknown key; did you mean max_size? (ignored)",)
    assert plan(room("grid?max_duration=5s"), context).end_rules.max_duration_s == 5


def test_what_the_room_asks_of_a_page_in_vain_is_left_out() -> None:
    context = replace(CONTEXT, room_metadata='{"egress": {"stop_when_idle": "7s"}}')
    assert plan(room(page="https://page.example"), context).end_rules.stop_when_idle_s == 0
    assert plan(room(), context).end_rules.stop_when_idle_s == 7


@pytest.mark.parametrize("every", ["10m", "5MB"])
def test_a_plan_with_every_option_is_sent_to_a_handler(every: str) -> None:
    query = f"split_every={every}&max_duration=1h&max_size=1GB&stop_when_empty=1m&stop_when_idle=1m"
    query += "&stop_when_silent=1m&start_timeout=1m&on_pause=hold&leave_out=bob&opt_out=no"
    found = plan(room(f"grid?{query}"))
    assert decode(encode(found)) == found


def test_what_can_go_on_goes_on() -> None:
    assert not plan(room()).resumes
    assert plan(room("grid?resume=true")).resumes
    assert plan(room(), replace(CONTEXT, options=OptionDefaults(resume=True))).resumes
    assert not plan(room("grid?resume=no"), replace(CONTEXT, options=OptionDefaults(resume=True))).resumes


@pytest.mark.parametrize(
    ("request_", "what"),
    [
        (room("grid?render=deferred"), "a recording whose picture is composed after it"),
        (
            wire.RoomCompositeEgressRequest(
                room_name="demo",
                layout="grid?tracks_file=t.mkv",
                file_outputs=[wire.EncodedFileOutput(filepath="a.webm")],
            ),
            "a tracks_file beside a file that is not an MP4",
        ),
        (room("grid?storyboard=10s"), "a storyboard"),
    ],
)
def test_what_nobody_can_go_on_with_is_refused_where_it_is_asked(
    request_: wire.RoomCompositeEgressRequest, what: str
) -> None:
    assert not plan(request_, replace(CONTEXT, options=OptionDefaults(resume=True))).resumes
    with pytest.raises(EgressError) as caught:
        plan(options.carry(request_, Options(resume=True)))
    assert caught.value.code is Code.UNIMPLEMENTED
    assert caught.value.message.startswith(f"resume of {what}")


@pytest.mark.parametrize(
    "query", ["split_every=1m", "tracks_file=t.mkv", "tracks_file=t.mp4", "record_only=ann"]
)
def test_what_goes_on_in_another_file_is_gone_on_with(query: str) -> None:
    assert plan(room(f"grid?resume=true&{query}")).resumes


def test_all_tracks_of_a_room_are_gone_on_with() -> None:
    request = wire.RoomCompositeEgressRequest(
        room_name="demo",
        layout="tracks?resume=true",
        file_outputs=[wire.EncodedFileOutput(filepath="a.mkv")],
    )
    assert plan(request).resumes


@pytest.mark.parametrize(
    ("configured", "told"),
    [
        (OptionDefaults(storyboard=Seconds(10)), "resume leaves out a storyboard"),
        (OptionDefaults(render=Render.DEFERRED), "resume leaves out render=deferred"),
    ],
)
def test_what_only_the_configuration_asks_for_gives_way(configured: OptionDefaults, told: str) -> None:
    found = plan(room("grid?resume=true"), replace(CONTEXT, options=configured))
    assert (found.resumes, found.render, len(found.outputs)) == (True, Render.LIVE, 1)
    assert [each for each in found.notices if each.startswith(told)]
    asked = plan(room(), replace(CONTEXT, options=configured))
    assert not asked.resumes and not asked.notices


def test_a_file_is_split() -> None:
    asked = Options(split_every=LengthOrSize(length=60.0))
    (output,) = plan(options.carry(room(), asked)).outputs
    assert isinstance(output, FileOutput) and output.split == Split(every_s=60.0)
    (output,) = plan(
        room(), replace(CONTEXT, options=OptionDefaults(split_every=LengthOrSize(size=5)))
    ).outputs
    assert isinstance(output, FileOutput) and output.split == Split(every_bytes=MIN_SIZE_BYTES)


@pytest.mark.parametrize(
    ("every", "filepath", "code"),
    [
        (LengthOrSize(length=9.9), "x.mp4", Code.INVALID_ARGUMENT),
        (LengthOrSize(size=4_999_999), "x.mp4", Code.INVALID_ARGUMENT),
        (LengthOrSize(length=60.0), "x.webm", Code.UNIMPLEMENTED),
    ],
)
def test_what_cannot_be_split_is_refused(every: LengthOrSize, filepath: str, code: Code) -> None:
    request = room()
    request.file_outputs[0].filepath = filepath
    with pytest.raises(EgressError) as caught:
        plan(options.carry(request, Options(split_every=every)))
    assert (caught.value.code, "split_every" in caught.value.message) == (code, True)


def test_what_becomes_of_a_pause() -> None:
    assert plan(room()).on_pause is PauseMode.CUT
    assert plan(room("grid?on_pause=hold")).on_pause is PauseMode.HOLD
    streamed = room("grid?on_pause=cut")
    streamed.stream_outputs.append(
        wire.StreamOutput(protocol=wire.StreamProtocol.RTMP, urls=["rtmp://e/app/key"])
    )
    assert plan(streamed).on_pause is PauseMode.HOLD, "a stream goes on, and the file shows what it shows"


def test_tracks_are_encoded_for_a_card_that_the_request_asks_for() -> None:
    request = wire.TrackCompositeEgressRequest(room_name="a", video_track_id="TR_V", file_outputs=FILE)
    defaults = replace(CONTEXT, options=OptionDefaults(on_pause=PauseMode.HOLD))
    passed = plan(request, defaults)
    assert (passed.passthrough, passed.on_pause) == (Passthrough.IF_POSSIBLE, PauseMode.CUT)
    held = plan(options.carry(request, Options(on_pause=PauseMode.HOLD)))
    assert (held.passthrough, held.on_pause) == (Passthrough.NEVER, PauseMode.HOLD)


def test_a_track_that_is_stored_as_it_comes_has_no_place_for_a_card() -> None:
    file = wire.DirectFileOutput(filepath="x")
    request = wire.TrackEgressRequest(room_name="a", track_id="TR_1", file=file)
    assert plan(request).on_pause is PauseMode.CUT
    with pytest.raises(EgressError, match="on_pause=hold of a track") as refused:
        plan(options.carry(request, Options(on_pause=PauseMode.HOLD)))
    assert refused.value.code is Code.UNIMPLEMENTED


def test_all_tracks_of_a_room_may_be_held() -> None:
    request = room("tracks?on_pause=hold")
    request.file_outputs[0].filepath = "x.mkv"
    assert plan(request).on_pause is PauseMode.HOLD


def test_silence_is_for_what_has_sound() -> None:
    asked = Options(stop_when_silent=Seconds(9))
    assert plan(options.carry(room(), asked)).end_rules.stop_when_silent_s == 9
    silent = room()
    silent.video_only = True
    with pytest.raises(EgressError) as caught:
        plan(options.carry(silent, asked))
    assert caught.value.message == "stop_when_silent: this egress records no sound"
    configured = replace(CONTEXT, options=OptionDefaults(stop_when_silent=Seconds(9)))
    silent = room()
    silent.video_only = True
    assert plan(silent, configured).end_rules.stop_when_silent_s == 0


@pytest.mark.parametrize("name", ["speaker", "grid-light", "single-speaker-dark", ""])
def test_a_layout_is_what_stands_before_its_options(name: str) -> None:
    found = plan(room(f"{name}?max_duration=1m"))
    assert isinstance(found.source, LayoutSource)
    assert (found.source.layout, found.end_rules.max_duration_s, found.notices) == (name, 60, ())


def test_a_layout_of_ours_has_no_other_query() -> None:
    with pytest.raises(EgressError) as caught:
        plan(room("grid?max_duratoin=1m"))
    assert caught.value.message == "layout.max_duratoin: unknown key; did you mean max_duration?"


def test_a_page_gets_its_part_of_the_query() -> None:
    found = plan(room("own?a=1&max_duration=1m&b=2", page="https://page.example"))
    assert isinstance(found.source, TemplateSource)
    assert (found.source.layout, found.end_rules.max_duration_s) == ("own?a=1&b=2", 60)


def test_no_notice_tells_of_what_is_carried() -> None:
    assert plan(options.carry(room(), Options(max_duration=Seconds(3)))).notices == ()


def test_a_stream_has_no_size() -> None:
    streams = [wire.StreamOutput(protocol="RTMP", urls=["rtmp://e/app/key"])]
    page = wire.WebEgressRequest(url="https://page.example", stream_outputs=streams)
    with pytest.raises(EgressError) as caught:
        plan(options.carry(page, Options(max_size=SizeBytes(9))))
    assert caught.value.message.startswith("max_size: only files and segments have a size")


def test_what_a_page_cannot_do_is_refused_where_it_is_asked() -> None:
    page = wire.WebEgressRequest(url="https://page.example", file_outputs=FILE)
    assert plan(page).end_rules == EndRules(max_duration_s=100)
    for asked in (Options(stop_when_empty=Seconds(9)), Options(stop_when_idle=Seconds(9))):
        with pytest.raises(EgressError) as caught:
            plan(options.carry(wire.WebEgressRequest(url=page.url, file_outputs=FILE), asked))
        assert caught.value.code is Code.UNIMPLEMENTED


def test_the_speed_of_the_encoder() -> None:
    def speed(found: Plan) -> EncoderSpeed:
        assert found.video is not None
        return found.video.speed

    assert speed(plan(room())) is EncoderSpeed.VERYFAST
    assert speed(plan(room("grid?encoder_speed=ultrafast"))) is EncoderSpeed.ULTRAFAST
    sound = room("grid?encoder_speed=ultrafast")
    sound.audio_only = True
    with pytest.raises(EgressError) as caught:
        plan(sound)
    assert caught.value.message.startswith("encoder_speed: no picture of this egress is encoded")
    configured = replace(CONTEXT, options=OptionDefaults(encoder_speed=AskedSpeed.SUPERFAST))
    assert speed(plan(room(), configured)) is EncoderSpeed.SUPERFAST
    sound.layout = "grid"
    assert plan(sound, configured).video is None


def test_a_speed_that_follows_the_machine_is_for_h264() -> None:
    """It begins at veryfast, which whoever admits it changes."""

    def speeds(found: Plan) -> tuple[EncoderSpeed, bool]:
        assert found.video is not None
        return found.video.speed, found.video.adapts

    configured = replace(CONTEXT, options=OptionDefaults(encoder_speed=AskedSpeed.AUTO))
    assert speeds(plan(room())) == (EncoderSpeed.VERYFAST, False)
    assert speeds(plan(room("grid?encoder_speed=auto"))) == (EncoderSpeed.VERYFAST, True)
    assert speeds(plan(room(), configured)) == (EncoderSpeed.VERYFAST, True)
    assert speeds(plan(room("grid?encoder_speed=superfast"), configured)) == (EncoderSpeed.SUPERFAST, False)
    assert speeds(plan(room("grid?video_codec=av1"), configured)) == (EncoderSpeed.VERYFAST, False)
    with pytest.raises(EgressError) as caught:
        plan(room("grid?video_codec=av1&encoder_speed=auto"))
    assert caught.value.code is Code.UNIMPLEMENTED


def test_a_variable_rate_is_for_files_and_segments_of_h264() -> None:
    def is_variable(found: Plan) -> bool:
        return found.video is not None and found.video.has_variable_rate

    asked, configured = "grid?variable_frame_rate=true", OptionDefaults(variable_frame_rate=True)
    context = replace(CONTEXT, options=configured)
    assert not is_variable(plan(room()))
    assert is_variable(plan(room(asked))) and is_variable(plan(room(), context))
    assert not is_variable(plan(room("grid?variable_frame_rate=false"), context))
    streamed, webm, sound = room(asked), room(asked), room(asked)
    streamed.stream_outputs.add(urls=["rtmp://a.example/live/key"])
    webm.file_outputs[0].filepath = "a.webm"
    webm.advanced.video_codec = models.VideoCodec.VP8
    sound.audio_only = True
    for each, code in (
        (streamed, Code.INVALID_ARGUMENT),
        (sound, Code.INVALID_ARGUMENT),
        (webm, Code.UNIMPLEMENTED),
    ):
        with pytest.raises(EgressError) as caught:
            plan(each)
        assert caught.value.code is code and caught.value.message.startswith("variable_frame_rate")
        each.layout = "grid"
        plan(each, context)
    assert not any(is_variable(plan(each, context)) for each in (streamed, webm))


def test_who_is_recorded() -> None:
    found = plan(room("grid?leave_out=kind:agent,ann&record_only=source:camera&opt_out=false")).recorded
    assert Selectors(found.left_out) == Selectors.parse("kind:agent,ann")
    assert Selectors(found.only) == Selectors.parse("source:camera")
    assert (found.may_opt_out, found.shows_left_out) == (False, False)
    assert plan(room()).recorded.may_opt_out


AGENTS, NOBODY = Selectors.parse("kind:agent"), Selectors()


@pytest.mark.parametrize("asked", [Options(leave_out=AGENTS), Options(record_only=AGENTS)])
def test_a_page_that_chooses_by_itself_promises_nobody_anything(asked: Options) -> None:
    """Not even where the configuration says so: somebody would be recorded who is not to be."""
    for_all = RoomOptions(rooms=("*",), leave_out=asked.leave_out, record_only=asked.record_only)
    configured = replace(CONTEXT, options=OptionDefaults(by_room=(for_all,)))
    page = wire.WebEgressRequest(url="https://page.example", file_outputs=FILE)
    assert plan(page, configured).source.url == page.url  # type: ignore[union-attr]
    lifted = options.carry(room(page="https://page.example"), Options(leave_out=NOBODY, record_only=NOBODY))
    assert plan(lifted, configured).recorded.left_out == ()
    for request, context in (
        (room(page="https://page.example"), configured),
        (options.carry(room(page="https://page.example"), asked), CONTEXT),
        (options.carry(page, asked), CONTEXT),
    ):
        with pytest.raises(EgressError) as caught:
            plan(request, context)
        assert caught.value.code is Code.UNIMPLEMENTED


def test_a_room_in_a_layout_may_be_composed_later() -> None:
    assert plan(room()).render is Render.LIVE
    for query in ("render=deferred", "render=deferred&split_every=1m&sidecars=events&text=x"):
        assert plan(room(f"grid?{query}")).render is Render.DEFERRED
    # Whoever composes it knows how much time there is, unless a speed is asked for.
    video = plan(room("grid?render=deferred")).video
    assert video is not None and video.adapts
    video = plan(room("grid?render=deferred&encoder_speed=superfast")).video
    assert video is not None and not video.adapts and video.speed is EncoderSpeed.SUPERFAST
    # What is asked for of all rooms has no effect on those that cannot.
    configured = replace(CONTEXT, options=OptionDefaults(render=Render.DEFERRED))
    assert plan(room("speaker"), configured).render is Render.DEFERRED
    assert plan(room("speaker?max_size=1GB"), configured).render is Render.LIVE
    assert plan(room("speaker?render=live"), configured).render is Render.LIVE


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"layout": "grid?render=deferred&max_size=1GB"}, "max_size is not known before it is composed"),
        ({"layout": "grid?render=deferred&on_pause=hold"}, "on_pause=hold with render=deferred"),
        ({"layout": "grid?render=deferred&show_left_out=true"}, "show_left_out with render=deferred"),
        ({"layout": "grid?render=deferred", "audio_only": True}, "a built-in layout with a picture"),
        ({"layout": "tracks?render=deferred"}, "a built-in layout with a picture"),
        (
            {"layout": "grid?render=deferred", "custom_base_url": "http://a"},
            "a page can only be recorded while it is shown",
        ),
        (
            {"layout": "grid?render=deferred", "stream_outputs": [wire.StreamOutput(urls=["rtmp://a/b/c"])]},
            "a stream needs its picture now",
        ),
    ],
)
def test_what_cannot_be_composed_later_is_refused(asked: dict[str, Any], why: str) -> None:
    filepath = "x.mkv" if str(asked["layout"]).startswith("tracks") else "x"
    outputs = [wire.EncodedFileOutput(filepath=filepath)]
    with pytest.raises(EgressError) as caught:
        plan(wire.RoomCompositeEgressRequest(room_name="r", file_outputs=outputs, **asked))
    assert why in caught.value.message


def test_sidecars_are_of_what_joins_the_room_itself() -> None:
    assert plan(room("grid?sidecars=events")).sidecars == (Sidecar.EVENTS,)
    assert plan(room("grid?sidecars=data&data_topics=a, b*,")).data_topics == ("a", "b*")
    assert plan(room()).sidecars == ()
    asked = Options(sidecars=Sidecars((Sidecar.EVENTS,)))
    configured = replace(CONTEXT, options=OptionDefaults(sidecars=asked.sidecars))
    assert plan(room(), configured).sidecars == (Sidecar.EVENTS,)
    images = wire.RoomCompositeEgressRequest(room_name="demo", image_outputs=[wire.ImageOutput()])
    page = wire.WebEgressRequest(url="https://page.example", file_outputs=FILE)
    refusals = ((page, Code.UNIMPLEMENTED), (room(page="https://p.example"), Code.UNIMPLEMENTED))
    for request, code in (*refusals, (images, Code.INVALID_ARGUMENT)):
        assert plan(request, configured).sidecars == ()
        with pytest.raises(EgressError) as caught:
            plan(options.carry(request, asked))
        assert caught.value.code is code
        assert caught.value.message.startswith("sidecars")


def test_two_recordings_do_not_share_a_sidecar() -> None:
    """One of tracks beside a composite of the same name."""
    tracks, composite = (
        plan(
            wire.RoomCompositeEgressRequest(
                room_name="demo",
                layout=f"{layout}?sidecars=events",
                file_outputs=[wire.EncodedFileOutput(filepath=f"a{ending}")],
            )
        )
        for layout, ending in (("tracks", ".mkv"), ("grid", ".mp4"))
    )
    shared = places_of(tracks, "") & places_of(composite, "")
    assert [place.rpartition("/")[2] for place in shared] == ["a.events.jsonl"]
