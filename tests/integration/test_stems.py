"""Each voice of a recording of all tracks in a file of its own: as long as the meeting, in its time, and as
loud as it is asked to be."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import pytest

from openegress.app.stems import name_of
from openegress.core.stems import StemFormat
from openegress.media.loudness_meter import LoudnessMeter
from openegress.source.room.stem_files import gains_db
from testkit.meeting_maker import Attendance, make_meeting
from testkit.probe import beep_onsets, has_tone, probe, rms, sound, tones

END_S = 6.0
ADA = Attendance("ada", 0.0, END_S, "vp8", ((0.0, 3.0),), 300.0)
BOB = Attendance("b/ob", 2.0, 5.0, "vp8", ((3.0, 4.5),), 500.0, beeps=False)


@pytest.fixture(scope="module")
def meeting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_meeting(tmp_path_factory.mktemp("stems") / "meeting.mkv", [ADA, BOB])


def stems(meeting: Path, folder: Path, *arguments: str) -> list[dict[str, Any]]:
    command = [
        sys.executable,
        "-m",
        "openegress.cli",
        "stems",
        str(meeting),
        str(folder),
        "--json",
        *arguments,
    ]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    told: list[dict[str, Any]] = json.loads(ran.stdout)
    assert sorted(str(each) for each in folder.iterdir()) == sorted(each["file"] for each in told)
    return told


def _folder(beside: Path) -> Path:
    """The command makes it."""
    return beside / "stems"


def loudness(path: Path) -> float:
    meter = LoudnessMeter()
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("s16", "stereo", 48_000)
        for frame in container.decode(audio=0):
            for each in resampler.resample(frame):
                meter.write(each.to_ndarray().tobytes())
    meter.close()
    return meter.lufs


@pytest.mark.parametrize(("form", "codec"), [("wav", "pcm_s16le"), ("flac", "flac"), ("opus", "opus")])
def test_each_voice_is_there_when_it_was(meeting: Path, tmp_path: Path, form: str, codec: str) -> None:
    ada, bob = stems(meeting, tmp_path, "--format", form)
    assert [each["identity"] for each in (ada, bob)] == ["ada", "b/ob"]
    for stem in (ada, bob):
        facts = probe(stem["file"]).audio
        assert facts is not None and facts.contiguous
        assert (facts.codec, facts.sample_rate, facts.channels) == (codec, 48_000, 2)
        assert facts.duration_s == pytest.approx(END_S, abs=0.05)
    onsets = beep_onsets(sound(ada["file"]))
    assert onsets == pytest.approx([1, 2, 3, 4, 5], abs=0.02)
    assert has_tone(tones(bob["file"], start_s=3.2, end_s=4.4), 500)
    assert not has_tone(tones(ada["file"], start_s=3.2, end_s=3.9), 500)
    assert rms(bob["file"], 0.0, 1.9) == rms(bob["file"], 5.2, 5.9) == 0


def test_each_is_as_loud_as_is_asked_for(meeting: Path, tmp_path: Path) -> None:
    for stem in stems(meeting, tmp_path, "--loudness", "-16"):
        assert stem["lufs"] != pytest.approx(-16, abs=1)
        assert loudness(Path(stem["file"])) == pytest.approx(-16, abs=0.5)
        assert abs(sound(stem["file"]).samples).max() < 0.9


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["{meeting}", ".", "--loudness", "16"], "--loudness 16 is not a loudness"),
        (["{meeting}", "gone/stems"], 'gone" is not a folder'),
        (["{meeting}", "garbage.mkv"], 'garbage.mkv" is not a folder'),
        (["gone.mkv"], "is not a file"),
        (["{garbage}"], "cannot be read"),
    ],
)
def test_what_has_no_stems(arguments: list[str], error: str, meeting: Path, tmp_path: Path) -> None:
    (tmp_path / "garbage.mkv").write_bytes(b"\x1a\x45\xdf\xa3" + bytes(range(256)) * 40)
    named = {"meeting": str(meeting), "garbage": str(tmp_path / "garbage.mkv")}
    command = [sys.executable, "-m", "openegress.cli", "stems", *(each.format(**named) for each in arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 1 and error in ran.stderr, ran.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["garbage.mkv"]


def test_names_lie_in_the_folder_and_are_apart() -> None:
    names = {
        name_of("m", each, StemFormat.WAV)
        for each in ("a", "a/b", "..", "/etc/x", "A%2F", "ü" * 300, "ü" * 301)
    }
    assert len(names) == 7
    assert all("/" not in name and len(name.encode()) < 255 for name in names)


def test_people_whose_long_identities_begin_alike_have_stems_of_their_own(tmp_path: Path) -> None:
    alike = [
        Attendance("x" * 90 + name, 0.0, 1.0, "vp8", ((0.0, 1.0),), hz)
        for name, hz in (("a", 300.0), ("b", 500.0))
    ]
    found = stems(make_meeting(tmp_path / "meeting.mkv", alike), _folder(tmp_path))
    assert len({each["file"] for each in found}) == 2


def test_who_is_far_away_is_not_all_noise() -> None:
    """A gain is as large as a live one at most."""
    measured = {"near": -20.0, "far": -60.0, "loud": -1.0, "silent": -math.inf}
    assert gains_db(measured, -16.0) == {"near": 4.0, "far": 24.0, "loud": -15.0}
    assert gains_db({"loud": -1.0}, -50.0) == {"loud": -30.0}
