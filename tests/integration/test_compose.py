"""A film of a meeting that was recorded track by track: what a live recording would have shown, all of it."""

import json
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from openegress.media.meeting_file import MeetingFile
from openegress.source.room.composite.rectangles import Size, focus_rects, grid_rects
from testkit.meeting_maker import FPS, Attendance, make_meeting
from testkit.pattern import COLOURS
from testkit.probe import (
    Rect,
    av_offset,
    beep_onsets,
    colour_of,
    counters,
    crop,
    frames,
    has_tone,
    luma_of,
    probe,
    sound,
    tones,
)

CANVAS = Size(1280, 720)
END_S = 8.0
ADA = Attendance("ada", 0.0, END_S, "vp8", ((0.0, 4.0),), 300.0)
BOB = Attendance("bob", 2.0, 6.5, "h264", ((4.0, 6.0),), 500.0, beeps=False)


@pytest.fixture(scope="module")
def meeting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_meeting(tmp_path_factory.mktemp("meeting") / "meeting.mkv", [ADA, BOB])


def composed(meeting: Path, to: Path, *arguments: str) -> Path:
    """By the command."""
    command = [sys.executable, "-m", "openegress.cli", "compose", str(meeting), str(to), "--json", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["file"] == str(to)
    assert [each.name for each in to.parent.iterdir() if each.name.startswith(".compose")] == []
    return to


def tile(rect: object) -> Rect:
    return Rect(rect.x, rect.y, rect.width, rect.height)  # type: ignore[attr-defined]


def test_whose_the_tracks_are(meeting: Path) -> None:
    file = MeetingFile(meeting)
    assert [(each.identity, each.source, each.codec.value) for each in file.tracks] == [
        ("ada", "camera", "vp8"),
        ("ada", "microphone", "opus"),
        ("bob", "camera", "h264"),
        ("bob", "microphone", "opus"),
    ]
    assert file.end_ns / 1e9 == pytest.approx(END_S, abs=0.1)


def test_a_grid_shows_and_sounds_as_people_come_and_go(meeting: Path, tmp_path: Path) -> None:
    film = composed(meeting, tmp_path / "film.mp4")
    facts = probe(film)
    assert facts.video is not None and facts.audio is not None
    assert facts.video.frames == pytest.approx(END_S * FPS, abs=2)
    assert facts.video.sizes == ((1280, 720),) and facts.audio.contiguous
    assert facts.video.longest_gap_s < 1.5 / FPS
    alone = tile(grid_rects(1, CANVAS)[0])
    seen = counters(film, alone).read
    for since_s, until_s in ((0.0, 1.9), (7.2, END_S)):
        found = [number for at_s, number in seen if since_s <= at_s < until_s]
        numbers = [each for each in found if each is not None]
        assert numbers == list(range(numbers[0], numbers[0] + len(found))), found
        assert numbers[0] == pytest.approx(since_s * FPS, abs=2)
    for side in grid_rects(2, CANVAS):
        assert still_pictures(film, tile(side), 2.2, 6.4) == 0
    assert abs(av_offset(film, alone).samples[0][1]) < 40
    assert has_tone(tones(film, start_s=2.5, end_s=3.5), 300) and not has_tone(
        tones(film, start_s=2.5, end_s=3.5), 500
    )
    assert has_tone(tones(film, start_s=4.5, end_s=5.5), 500) and not has_tone(
        tones(film, start_s=4.5, end_s=5.5), 300
    )


def check_numbers(film: Path, rect: Rect) -> None:
    """Each picture of a tile is the one that was sent at that time."""
    seen = counters(film, rect).read
    numbers = [number for _, number in seen if number is not None]
    assert len(numbers) > len(seen) - 4
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) and numbers[0] < 3


@pytest.mark.parametrize("with_events", [False, True])
def test_a_sender_who_changes_its_format_and_goes_back_is_shown(tmp_path: Path, with_events: bool) -> None:
    """A phone that is turned twice, or a layer that is lost for a while: two tracks of a file, one camera."""
    cat = Attendance("cat", 0.0, 4.0, "h264", small=((1.0, 1.5), (2.5, 3.0)))
    path = make_meeting(tmp_path / "changing.mkv", [cat])
    assert len(MeetingFile(path).tracks) == 3
    if with_events:
        told = {"media_s": 0.0, "identity": "cat", "name": ""}
        camera = {"kind": "video", "source": "camera", "track_id": "TR_camera0-0"}
        lines = [told | {"event": "participant_joined"}, told | camera | {"event": "track_published"}]
        path.with_suffix(".events.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    check_numbers(composed(path, tmp_path / "film.mp4"), tile(grid_rects(1, CANVAS)[0]))


def test_two_cameras_of_one_participant_are_both_shown(tmp_path: Path) -> None:
    path = make_meeting(tmp_path / "two.mkv", [Attendance("robot", 0.0, 2.0, cameras=2)])
    film = composed(path, tmp_path / "film.mp4")
    for rect in grid_rects(2, CANVAS):
        assert still_pictures(film, tile(rect), 0.2, 1.9) == 0


def test_a_span_begins_and_ends_where_it_is_asked_to(meeting: Path, tmp_path: Path) -> None:
    film = composed(meeting, tmp_path / "film.mp4", "--from", "0:03", "--to", "5.5")
    facts = probe(film)
    assert facts.video is not None
    assert facts.video.frames == 2.5 * FPS
    assert all(abs((onset + 0.5) % 1 - 0.5) < 0.02 for onset in beep_onsets(sound(film)))


def still_pictures(film: Path, rect: Rect, since_s: float, until_s: float) -> int:
    """How many pictures of a tile are the ones before: the pattern's last digit changes with each. Its first
    ones are cut off by the tile."""
    shown = [crop(luma_of(frame), rect) for at_s, frame in frames(film) if since_s <= at_s < until_s]
    heads = [each[: rect.height // 10].astype(np.int16) for each in shown]
    return sum(np.abs(after - before).max() < 60 for before, after in pairwise(heads))


def in_focus(film: Path, at_s: float) -> int:
    """Whose colour is large."""
    rect = tile(focus_rects(1, CANVAS).focus)
    corner = Rect(rect.x + rect.width // 8, rect.y + rect.height // 3, 40, 40)
    frame = next(frame for time_s, frame in frames(film) if time_s >= at_s)
    shown = colour_of(frame, corner)
    return min(range(2), key=lambda each: sum(abs(a - b) for a, b in zip(shown, COLOURS[each], strict=True)))


def test_the_speaker_is_who_is_heard(meeting: Path, tmp_path: Path) -> None:
    film = composed(meeting, tmp_path / "film.mp4", "--layout", "speaker")
    assert [in_focus(film, at_s) for at_s in (3.5, 5.5)] == [0, 1]


def test_the_speaker_is_who_the_events_name(meeting: Path, tmp_path: Path) -> None:
    """Whoever is heard: what was live decides, where it is known."""
    copy = tmp_path / "meeting.mkv"
    copy.write_bytes(meeting.read_bytes())
    lines = [
        {"media_s": at_s, "event": event, "identity": identity, "name": identity, **more}
        for identity, at_s in (("ada", 0.0), ("bob", 2.0))
        for event, more in (
            ("participant_joined", {}),
            ("track_published", {"kind": "audio", "source": "microphone"}),
            ("track_published", {"kind": "video", "source": "camera"}),
        )
    ]
    lines += [{"media_s": 2.5, "event": "active_speakers", "identities": ["bob"]}]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"torn": '
    copy.with_suffix(".events.jsonl").write_text(text)
    film = composed(copy, tmp_path / "film.mp4", "--layout", "speaker", "--from", "3", "--to", "4")
    assert in_focus(film, 0.8) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_leaves_nothing(meeting: Path, tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "openegress.cli", "compose", str(meeting), str(tmp_path / "film.mp4")]
    with subprocess.Popen([*command, "--preset", "3"], stderr=subprocess.PIPE, text=True) as running:
        while not list(tmp_path.glob(".compose-*/file-0/*")):
            assert running.poll() is None
            time.sleep(0.02)  # a folder tells nobody that it grows
        running.send_signal(number)
        _, told = running.communicate(timeout=30)
    assert running.returncode == 130, told
    assert "Traceback" not in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["{meeting}", "film.avi"], "is not a film to compose: name it .mp4"),
        (["{meeting}", "film.mp4", "--layout", "pizza"], '"pizza" is no layout'),
        (["{meeting}", "film.mp4", "--from", "1:00"], "is not before the end, which is at 8.0 s"),
        (["{meeting}", "film.mp4", "--from", "x"], "write 90, 10:00 or 1:02:03"),
        (["{meeting}", "/nowhere/film.mp4"], "is not a folder"),
        (["gone.mkv", "film.mp4"], "is not a file"),
        (["{garbage}", "film.mp4"], "cannot be read"),
        (["{film}", "film2.mp4"], "holds no tracks of participants"),
        (["{timeless}", "film.mp4"], "timeless.events.jsonl: media_s of"),
    ],
)
def test_what_cannot_be_composed(arguments: list[str], error: str, meeting: Path, tmp_path: Path) -> None:
    (tmp_path / "garbage.mkv").write_bytes(b"\x1a\x45\xdf\xa3" + bytes(range(256)) * 40)
    named = {"meeting": str(meeting), "garbage": str(tmp_path / "garbage.mkv")}
    if "{timeless}" in arguments:
        named["timeless"] = str(tmp_path / "timeless.mkv")
        Path(named["timeless"]).write_bytes(meeting.read_bytes())
        (tmp_path / "timeless.events.jsonl").write_text('{"media_s": NaN, "event": "track_published"}\n')
    if "{film}" in arguments:
        named["film"] = str(composed(meeting, tmp_path / "a.mp4", "--to", "0.2"))
    command = [
        sys.executable,
        "-m",
        "openegress.cli",
        "compose",
        *(each.format(**named) for each in arguments),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 1 and error in ran.stderr, ran.stderr
    assert "Traceback" not in ran.stderr
