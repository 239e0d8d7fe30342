"""Sidecars: what happened in a room, as their log keeps it and their files tell it."""

import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.core import plan as plans
from openegress.core.codecs import Container
from openegress.core.main_output import with_sidecars
from openegress.core.plan import FileOutput, Plan, SegmentOutput, Split, TracksSource
from openegress.core.sidecars import Sidecar
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.core.units import MS, S
from openegress.output.sidecar import entries, log
from openegress.output.sidecar.entries import LogEntry, entry_of
from openegress.output.sidecar.labels import labels_of
from openegress.output.sidecar.log import SidecarLog, read
from openegress.output.sidecar.media_time import MediaTime
from openegress.output.sidecar.render import render
from openegress.output.sidecar.rttm import rttm
from openegress.output.sidecar.speech import SpeechSegment, segments
from openegress.output.sidecar.store import store_sidecars
from openegress.output.sidecar.webvtt import Cue, webvtt
from openegress.request.output_names import sidecar_name
from openegress.room.events import ParticipantJoined, SpeakersChanged
from openegress.storage.uploader import Uploader
from tests.unit.test_room_recorded_people import person

ZERO_NS = 1_800_000_000 * S
STORAGE = StoragePlan(LocalStorage("/out"))
TIMESTAMP = re.compile(r"\d{2,}:[0-5]\d:[0-5]\d\.\d{3} --> \d{2,}:[0-5]\d:[0-5]\d\.\d{3}")


def at(seconds: float) -> int:
    return ZERO_NS + round(seconds * S)


def speaking(seconds: float, *identities: str) -> LogEntry:
    return LogEntry(at(seconds), entries.SPEAKERS, {"identities": list(identities)})


STARTED = LogEntry(ZERO_NS, entries.STARTED)


# --- media time


def test_a_pause_takes_no_media_time() -> None:
    found = MediaTime.of(
        [
            STARTED,
            LogEntry(at(2), entries.PAUSED),
            LogEntry(at(5), entries.RESUMED),
            LogEntry(at(9), entries.ENDED),
        ],
        0,
    )
    told = [found.s(at(each)) for each in (-1, 0, 1, 2, 3, 5, 6, 9, 99)]
    assert told == [0, 0, 1, 2, 2, 2, 3, 6, 6]


def test_a_pause_that_is_held_takes_media_time() -> None:
    held = {entries.IS_CUT: False}
    lines = [STARTED, LogEntry(at(2), entries.PAUSED, held), LogEntry(at(5), entries.RESUMED, held)]
    found = MediaTime.of(lines, at(9))
    assert [found.s(at(each)) for each in (3, 5, 9)] == [3, 5, 9]


def test_who_dies_in_a_pause_has_recorded_until_it() -> None:
    found = MediaTime.of([STARTED, LogEntry(at(2), entries.PAUSED)], at(9))
    assert found.s(at(9)) == 2


@given(
    st.lists(st.tuples(st.floats(0, 9), st.sampled_from([entries.PAUSED, entries.RESUMED, "x"]))),
    st.lists(st.floats(-1, 20), min_size=2),
)
def test_media_time_never_goes_back(told: list[tuple[float, str]], moments: list[float]) -> None:
    lines = [STARTED, *(LogEntry(at(each), event) for each, event in sorted(told))]
    found = MediaTime.of(lines, at(10))
    times = [found.s(at(each)) for each in sorted(moments)]
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] <= 10


# --- speech


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([speaking(1, "ada"), speaking(3)], [(1, 3, "ada")]),
        ([speaking(1, "ada"), speaking(2, "bob", "ada"), speaking(3, "bob")], [(1, 3, "ada"), (2, 9, "bob")]),
        ([speaking(1, "ada"), speaking(2), speaking(2.4, "ada"), speaking(3)], [(1, 3, "ada")]),
        (
            [speaking(1, "ada"), speaking(2), speaking(2.6, "ada"), speaking(3)],
            [(1, 2, "ada"), (2.6, 3, "ada")],
        ),
        ([speaking(1, "ada"), LogEntry(at(4), entries.LOST)], [(1, 4, "ada")]),
        ([speaking(-2, "ada"), speaking(-1)], []),
        ([speaking(-2, "ada"), speaking(1)], [(0, 1, "ada")]),
    ],
)
def test_who_spoke_when(told: list[LogEntry], expected: list[tuple[float, float, str]]) -> None:
    lines = [STARTED, *told, LogEntry(at(9), entries.ENDED)]
    assert segments(lines, MediaTime.of(lines, 0)) == [SpeechSegment(*each) for each in expected]


# --- files


def test_webvtt_shows_text_and_nothing_that_is_written_in_it() -> None:
    text = "".join(webvtt([Cue(1, 3661.5, "A<b>\nc", "x & y\n\n00:00 --> 00:01\r\nz"), Cue(2, 2, "", "t")]))
    assert text == (
        "WEBVTT\n"
        "\n00:00:01.000 --> 01:01:01.500\n<v A&lt;b&gt; c>x &amp; y 00:00 --&gt; 00:01 z\n"
        "\n00:00:02.000 --> 00:00:02.001\nt\n"
    )


@given(st.lists(st.builds(Cue, st.floats(0, 1e6), st.floats(0, 1e6), st.text(), st.text())))
def test_webvtt_is_whole_whatever_is_said(cues: list[Cue]) -> None:
    head, *blocks = "".join(webvtt(cues)).removesuffix("\n").split("\n\n")
    assert head.strip() == "WEBVTT" and len(blocks) <= len(cues)
    for block in blocks:
        timing, text = (*block.split("\n"), "")[:2]
        assert TIMESTAMP.fullmatch(timing)
        assert "-->" not in text and text.count("<") <= 1


@given(st.lists(st.text(), max_size=5), st.text())
def test_rttm_has_ten_fields_a_line(identities: list[str], recording: str) -> None:
    lines = list(rttm([SpeechSegment(1.25, 3, each) for each in identities], recording))
    assert len("".join(lines).splitlines()) == len(identities)
    for line in lines:
        kind, _, channel, begin, length, *rest = line.split()
        assert (kind, channel, begin, length, len(rest)) == ("SPEAKER", "1", "1.250", "1.750", 5)


def test_rttm_keeps_apart_whoever_is_apart() -> None:
    """By percent-encoding, which any reader can undo."""
    people = ["a b", "a%20b", "<NA>", "%3CNA>", "李雷", "🎙️ 1", "a/b", "a\nb", "a\u3000b", ";;"]
    lines = list(rttm([SpeechSegment(0, 1, each) for each in people], "<NA>"))
    assert [unquote(line.split()[7]) for line in lines] == people
    assert "<NA>" not in {line.split()[column] for line in lines for column in (1, 7)}


def test_who_speaks_when_its_process_dies_does_not_speak_on() -> None:
    """The next one logs who speaks before it tells of the gap, and nothing of those who fell silent."""
    gap = {entries.IS_CUT: True, entries.IS_RESTART: True}
    lines = [
        STARTED,
        speaking(1, "ada"),
        speaking(6, "bob"),
        LogEntry(at(4), entries.PAUSED, gap),
        LogEntry(at(6), entries.RESUMED, gap),
        LogEntry(at(9), entries.ENDED),
    ]
    assert segments(lines, MediaTime.of(lines, 0)) == [SpeechSegment(1, 4, "ada"), SpeechSegment(4, 7, "bob")]


# --- the log


async def kept(folder: Path, *lines: LogEntry) -> SidecarLog:
    written = SidecarLog(folder)
    for line in lines:
        written.append(line)
    await written.finish(10)
    return written


async def test_what_is_torn_is_left_out(tmp_path: Path) -> None:
    await kept(tmp_path, STARTED, speaking(1, "ada"))
    whole = (tmp_path / log.NAME).read_bytes()
    for end in range(len(whole)):
        (tmp_path / log.NAME).write_bytes(whole[:end])
        assert len(list(read(tmp_path))) == whole[:end].count(b"\n")


async def test_what_the_disk_has_spoilt_is_left_out(tmp_path: Path) -> None:
    await kept(tmp_path, STARTED, speaking(1, "ada"))
    first, second = (tmp_path / log.NAME).read_bytes().splitlines(keepends=True)
    (tmp_path / log.NAME).write_bytes(first + bytes(100) + b"\n" + b"{}\n" + second)
    assert list(read(tmp_path)) == [STARTED, speaking(1, "ada")]


async def test_strangers_do_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "MAX_BYTES", 1000)
    monkeypatch.setattr(log, "MAX_LINE_BYTES", 200)
    written = await kept(tmp_path, LogEntry(1, "x" * 300), *(speaking(1, "ada") for _ in range(50)))
    assert (tmp_path / log.NAME).stat().st_size <= 1000
    assert written.left_out == 51 - len(list(read(tmp_path)))


@pytest.mark.parametrize("event", ["participant_renamed", entries.CHAT], ids=["an event", "a message"])
async def test_nobody_leaves_the_others_without_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, event: str
) -> None:
    """Mallory sends without end, and so does Eve. Ada speaks afterwards, a pause is told, and a track is
    muted."""
    monkeypatch.setattr(log, "MAX_BYTES", 30_000)

    def told(who: str, number: int) -> LogEntry:
        return LogEntry(number, event, {"identity": who, "text": "x" * 100})

    floods = [told(who, n) for who in ("mallory", "eve") for n in range(1000)]
    late = [told("ada", n) for n in range(20)]
    paused = LogEntry(7, entries.PAUSED, {entries.IS_CUT: True})
    written = await kept(tmp_path, *floods, *late, paused)
    found = list(read(tmp_path))
    assert [entry for entry in found if entry.fields.get("identity") == "ada"] == late
    assert paused in found
    assert (tmp_path / log.NAME).stat().st_size <= 30_000 * 2
    assert written.left_out == len(floods) + len(late) + 1 - len(found) > 0


async def test_a_disk_that_refuses_hurts_nobody(tmp_path: Path) -> None:
    written = await kept(tmp_path / "gone", STARTED, STARTED)
    assert written.left_out == 2


def test_names_of_strangers_are_bounded() -> None:
    long = entry_of(ParticipantJoined(person("x" * 10_000)), 0)
    many = entry_of(SpeakersChanged(tuple("x" * 10_000 for _ in range(10_000))), 0)
    assert long is not None and len(json.dumps(long.fields)) < 1000
    assert many is not None and len(json.dumps(many.fields)) < log.MAX_LINE_BYTES


async def test_the_files_of_a_meeting(tmp_path: Path) -> None:
    joined = entry_of(ParticipantJoined(person("ada")), at(-3))
    assert joined is not None
    await kept(tmp_path, STARTED, joined, speaking(1, "ada"), speaking(2.5), LogEntry(at(4), entries.ENDED))
    lines = [
        json.loads(line)
        for line in render(tmp_path, Sidecar.EVENTS, "m", 0)[".events.jsonl"].read_text().splitlines()
    ]
    assert [(each["media_s"], each["event"]) for each in lines] == [
        (0, "recording_started"),
        (0, "participant_joined"),
        (1, "active_speakers"),
        (2.5, "active_speakers"),
        (4, "recording_ended"),
    ]
    assert lines[1]["at"] == "2027-01-15T07:59:57.000000000Z"
    assert (lines[1]["identity"], lines[1]["name"]) == ("ada", "Ada")
    spoken = render(tmp_path, Sidecar.SPEAKERS, "m", 0)
    assert "00:00:01.000 --> 00:00:02.500\n<v Ada>Ada\n" in spoken[".speakers.vtt"].read_text()
    assert spoken[".speakers.rttm"].read_text() == "SPEAKER m 1 1.000 1.500 <NA> <NA> ada <NA> <NA>\n"


async def test_the_files_of_a_handler_that_was_killed(tmp_path: Path) -> None:
    """The recovery tells the end, where the recording ends."""
    spool, out = tmp_path / "EG_1", tmp_path / "out"
    spool.mkdir()
    await kept(spool, STARTED, speaking(1, "ada"))
    output = FileOutput("a/m.mkv", Container.MKV, StoragePlan(LocalStorage(str(out))))
    plan = Plan("EG_1", TracksSource("r", "", ""), (output,), None, None, sidecars=tuple(Sidecar))
    records, failed = await store_sidecars(spool, plan, {}, at(3.25), Uploader, lambda event: None)
    assert failed is None
    assert {each.filename for each in records.files} >= {"a/m.events.jsonl", "a/m.speakers.rttm"}
    assert " 1.000 2.250 " in (out / "a/m.speakers.rttm").read_text()
    last = json.loads((out / "a/m.events.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["media_s"]) == ("recording_ended", 3.25)


async def test_nothing_is_stored_of_what_never_began(tmp_path: Path) -> None:
    output = FileOutput("m.mkv", Container.MKV, STORAGE)
    plan = Plan("EG_1", TracksSource("r", "", ""), (output,), None, None, sidecars=tuple(Sidecar))
    records, failed = await store_sidecars(tmp_path, plan, {}, 0, Uploader, lambda event: None)
    assert (records.files, failed) == ((), None)


# --- names


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (FileOutput("a/m.mkv", Container.MKV, STORAGE), "a/m.x"),
        (FileOutput("a/m.mkv", Container.MP4, STORAGE), "a/m.mkv.x"),
        (FileOutput("{track_id}", None, STORAGE), "TR_1.x"),
        (FileOutput("a/m.mp4", Container.MP4, STORAGE, split=Split(1.0)), "a/m.x"),
        (FileOutput("a/{part}.mp4", Container.MP4, STORAGE, split=Split(1.0)), "a/00001.x"),
        (SegmentOutput("a/", "s", "p.m3u8", "", 2, Container.TS, False, STORAGE), "a/p.x"),
        (FileOutput("n" * 251 + ".mkv", Container.MKV, STORAGE), None),
    ],
)
def test_names(output: FileOutput | SegmentOutput, expected: str | None) -> None:
    found = sidecar_name(output, {"track_id": "TR_1"}, ".x" if expected else ".speakers.rttm")
    assert expected is None or found == expected
    assert len(found) <= 255 and found.endswith((".x", ".speakers.rttm"))


def test_sidecars_lie_beside_the_first_output_that_is_stored() -> None:
    output = SegmentOutput("a/", "s", "p.m3u8", "", 2, Container.TS, False, STORAGE)
    images = plans.ImageOutput("", "i", 1, 0, 0, "index", STORAGE)
    plan = Plan("EG_1", TracksSource("r", "", ""), (images, output), None, None, sidecars=tuple(Sidecar))
    assert with_sidecars(plan) == (1, output)
    assert MediaTime(0, 5 * MS).s(5 * MS) == 0.005


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        ({"ada": "Ada", "bob": "Bob"}, {"ada": "Ada", "bob": "Bob"}),
        ({"ada": "Dr. Ada", "eve": "Dr. Ada"}, {"ada": "Dr. Ada (ada)", "eve": "Dr. Ada (eve)"}),
        ({"ada": "Dr. Ada", "eve": "dr.\u200b \uff21da"}, {"ada": "Dr. Ada (ada)"}),
        ({"ada": "", "eve": "ada"}, {"ada": "ada", "eve": "ada (eve)"}),
        ({"ada": " ", "eve": ""}, {"ada": "ada", "eve": "eve"}),
        ({"ada": "Ada", "eve": "Ada", "mallory": "Ada (ada)"}, {"eve": "Ada (eve)"}),
    ],
)
def test_nobody_speaks_under_the_name_of_another(names: dict[str, str], labels: dict[str, str]) -> None:
    found = labels_of(names)
    assert found | labels == found and len(set(found.values())) == len(names)


def test_no_name_turns_what_follows_it_around() -> None:
    text = "".join(webvtt([Cue(0, 1, "Dr. Ada\u202e (eve)", "one\u2067\x85two")]))
    assert text.endswith("\n<v Dr. Ada  (eve)>one two\n")


async def test_a_name_that_is_taken_at_the_end_changes_nothing_of_before(tmp_path: Path) -> None:
    """Cues have the last name of everybody."""
    joined = [
        LogEntry(at(0), "participant_joined", {"identity": who, "name": name, "participant_id": f"PA_{who}"})
        for who, name in (("ada", "Dr. Ada"), ("eve", "Eve"))
    ]
    renamed = LogEntry(at(3), "participant_renamed", {"identity": "eve", "name": "Dr. Ada"})
    await kept(tmp_path, STARTED, *joined, speaking(1, "eve"), speaking(2), renamed)
    text = render(tmp_path, Sidecar.SPEAKERS, "x", at(4))[".speakers.vtt"].read_text()
    assert "<v Dr. Ada (eve)>Dr. Ada (eve)" in text
