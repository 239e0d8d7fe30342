"""Participants' clocks over a simulated call: devices with clocks of their own, a path, and the real placing.

True time is that of the recorder, in ns since the call began; unix time is WALL later.
"""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from openegress.core.codecs import AudioCodec, VideoCodec
from openegress.room import EncodedFrame
from openegress.room.clocks import CREEP_NS, HEARD_NS, MS, SLICES, ParticipantClock, RoomClock, S
from openegress.room.depacketise import AccessUnit
from openegress.room.placing import HOLD_NS, Placing
from openegress.room.rtcp import SenderReport
from openegress.room.timeline import Anchor

WALL = 1_700_000_000 * S
WINDOW_NS = 2 * S * (SLICES + 1)
"""Until a clock that moved is led back: the slice that was under way, and a whole window."""
PATIENCE_NS = 1_200 * MS
"""What is placed later than this after its capture is silent: source.room.frames_source.PATIENCE_NS."""

Path = Callable[[int], int]
"""Delay of what is sent at a time."""


def good(_: int) -> int:
    return 30 * MS


@dataclass
class Device:
    slow_ns: int = 0
    """By how much its clock is behind."""
    slow_ppm: float = 0
    sleeps: tuple[int, int] = (0, 0)
    """From and until when; all of its clocks stand still."""
    sets: tuple[int, int] = (0, 0)
    """When its clock on the wall is set, and by how much."""

    def shows(self, at_ns: int) -> int:
        """The clock that RTP time runs by."""
        asleep = max(0, min(at_ns, self.sleeps[1]) - self.sleeps[0])
        return at_ns - asleep - int(at_ns * self.slow_ppm / 1e6) - self.slow_ns

    def ntp(self, at_ns: int) -> int:
        return WALL + self.shows(at_ns) + (self.sets[1] if at_ns >= self.sets[0] else 0)

    def is_asleep(self, at_ns: int) -> bool:
        return self.sleeps[0] <= at_ns < self.sleeps[1]


@dataclass
class Media:
    """One track as it is sent and as it is placed."""

    device: Device
    rate: int
    every_ns: int
    began_ns: int
    until_ns: int
    path: Path
    encoding_ns: int
    reports_from_ns: int
    placing: Placing = field(init=False)
    frames: list[EncodedFrame] = field(default_factory=list)
    lags: list[int] = field(default_factory=list)

    def rtp(self, at_ns: int) -> int:
        return self.device.shows(at_ns) * self.rate // S + 12345 & 0xFFFFFFFF

    def errors(self, since_ns: int = 0, until_ns: int = 1 << 62) -> dict[int, int]:
        """True time of capture -> by how much later the frame was placed."""
        captured = ((int(each.data), each.capture_ns) for each in self.frames)
        return {true: placed - WALL - true for true, placed in captured if since_ns <= true < until_ns}

    def worst_ns(self, since_ns: int = 0, until_ns: int = 1 << 62) -> int:
        return max(map(abs, self.errors(since_ns, until_ns).values()))


class Call:
    def __init__(self) -> None:
        self.clock = RoomClock()
        self.tracks: list[Media] = []
        self._events: list[tuple[int, int, Callable[[int], None]]] = []
        self._ticked_ns = 0

    def publish(
        self,
        device: Device,
        kind: str = "audio",
        *,
        began_ns: int = 0,
        until_ns: int = 1 << 62,
        path: Path = good,
        identity: str = "alice",
        reports_from_ns: int = 0,
        every_ns: int = 0,
        at_once: bool = False,
        into: Placing | None = None,
    ) -> Media:
        """`into`: another SSRC of the same track."""
        rate, every, encoding = (48_000, 20 * MS, 10 * MS) if kind == "audio" else (90_000, 33 * MS, 40 * MS)
        codec = AudioCodec.OPUS if kind == "audio" else VideoCodec.VP8
        track = Media(
            device, rate, every_ns or every, began_ns, until_ns, path, encoding, reports_from_ns or began_ns
        )
        track.placing = into or Placing(
            kind,
            identity,
            self.clock,
            WALL,
            lambda frame: None,
            track.lags.append if at_once else None,
        )
        self.tracks.append(track)
        self._feed(self._packets(track, codec))
        return track

    def both(self, device: Device, **more: Any) -> tuple[Media, Media]:
        return self.publish(device, "audio", **more), self.publish(device, "video", **more)

    def run(self, until_ns: int) -> None:
        while self._events and self._events[0][0] <= until_ns:
            now_ns, _, event = heapq.heappop(self._events)
            while self._ticked_ns + S <= now_ns:
                self._ticked_ns += S
                for track in self.tracks:
                    track.placing.tick(self._ticked_ns)
            event(now_ns)

    def _feed(self, packets: Iterator[tuple[int, Callable[[int], None]]]) -> None:
        """Takes them one by one, as each makes way for the next: a call of hours fits into memory."""
        number = len(self.tracks)

        def advance() -> None:
            following = next(packets, None)
            if following is not None:
                at_ns, event = following

                def happen(now_ns: int) -> None:
                    event(now_ns)
                    advance()

                heapq.heappush(self._events, (at_ns, number, happen))

        advance()

    def _packets(
        self, track: Media, codec: AudioCodec | VideoCodec
    ) -> Iterator[tuple[int, Callable[[int], None]]]:
        placing, device, arrived_ns, reported_ns = track.placing, track.device, 0, -(10**18)
        # Reports of a participant's tracks are apart.
        phase_ns = 0 if track.rate == 48_000 else 700 * MS
        at_ns = track.began_ns
        began = False
        while at_ns < track.until_ns:
            at_ns += track.every_ns
            if device.is_asleep(at_ns):
                continue
            sent_ns = at_ns + track.encoding_ns
            arrived_ns = max(arrived_ns, sent_ns + track.path(sent_ns))
            if not began:
                began = True
                yield arrived_ns, lambda _: self._begin(track)

            def frame(now_ns: int, at_ns: int = at_ns) -> None:
                placing.frame(track.rtp(at_ns), AccessUnit(b"%d" % at_ns, True), codec, False, now_ns)

            yield arrived_ns, frame
            due = at_ns >= track.reports_from_ns + 2 * S + phase_ns
            if due and at_ns - reported_ns >= 3 * S:
                reported_ns = at_ns
                report = SenderReport(1, device.ntp(at_ns), track.rtp(at_ns), 0)
                yield arrived_ns, lambda _, report=report: placing.report(report)  # type: ignore[misc]

    def _begin(self, track: Media) -> None:
        track.placing._hand_out = track.frames.append
        track.placing.restart()
        track.placing.start(track.rate)


def apart_ns(audio: Media, video: Media, since_ns: int = 0, until_ns: int = 1 << 62) -> int:
    """By how much sound and picture of the same moment part, at most."""
    sound = audio.errors()
    worst = 0
    for at_ns, error_ns in video.errors(since_ns, until_ns).items():
        beside = sound.get(at_ns // (20 * MS) * 20 * MS)
        if beside is not None:
            worst = max(worst, abs(error_ns - beside))
    return worst


def rises(track: Media) -> bool:
    return all(one.capture_ns < other.capture_ns for one, other in pairwise(track.frames))


# --- another device


@pytest.mark.parametrize("as_same_track", [False, True])
@pytest.mark.parametrize(
    ("first_slow_ns", "second_slow_ns"),
    [
        pytest.param(0, 2 * S, id="a good clock, then a slow one"),
        pytest.param(0, -2 * S, id="a good clock, then a fast one"),
        pytest.param(30 * S, 0, id="a slow clock, then a good one"),
        pytest.param(-30 * S, 0, id="a fast clock, then a good one"),
        pytest.param(3600 * S, -3600 * S, id="two wrong clocks"),
        pytest.param(40 * S, 40 * S, id="a reload on a device with a wrong clock"),
        pytest.param(0, 0, id="two good clocks"),
    ],
)
def test_a_participant_that_comes_back_on_another_device_is_judged_anew(
    first_slow_ns: int, second_slow_ns: int, as_same_track: bool
) -> None:
    call = Call()
    audio, video = call.both(Device(first_slow_ns), until_ns=20 * S)
    call.run(24 * S)
    second = Device(second_slow_ns)
    later = call.publish(second, "audio", began_ns=22 * S, into=audio.placing if as_same_track else None)
    seen = call.publish(second, "video", began_ns=22 * S, into=video.placing if as_same_track else None)
    call.run(60 * S)
    assert max(each.worst_ns() for each in (audio, video, later, seen)) <= 100 * MS
    assert apart_ns(audio, video) == apart_ns(later, seen) == 0
    assert all(map(rises, (audio, video, later, seen)))


def test_a_track_over_a_bad_path_does_not_move_the_others() -> None:
    call = Call()
    device = Device()
    audio = call.publish(device)
    screen = call.publish(device, "video", began_ns=20 * S, path=lambda _: 1_500 * MS)
    call.run(60 * S)
    assert (audio.worst_ns(), screen.worst_ns()) == (0, 0)


@pytest.mark.parametrize("slow_ns", [0, 500 * MS])
def test_a_track_published_while_its_sender_sets_the_clock_forward(slow_ns: int) -> None:
    """The new track has the new time in its first report, the old one still the old."""
    call = Call()
    device = Device(slow_ns, sets=(20 * S + 50 * MS, 10 * S))
    audio = call.publish(device)
    video = call.publish(device, "video", began_ns=17 * S + 400 * MS)
    call.run(90 * S)
    assert abs(audio.worst_ns() - slow_ns) <= 100 * MS
    assert apart_ns(audio, video) <= 30 * MS
    assert apart_ns(audio, video, 60 * S) <= 1 * MS


def test_a_track_begun_just_before_its_device_falls_asleep() -> None:
    """It was placed by its arrivals, and the first report comes when the device is awake again."""
    call = Call()
    device = Device(sleeps=(37 * S, 137 * S))
    early = call.publish(device, began_ns=36 * S)
    audio, video = call.both(device, began_ns=90 * S)
    call.run(200 * S)
    assert early.worst_ns(140 * S) <= 100 * MS
    assert apart_ns(early, video, 140 * S) == apart_ns(audio, video) == 0


@pytest.mark.parametrize("step_ns", [10 * S, -10 * S, 2 * S, -3600 * S])
def test_a_clock_that_was_set_stays_absorbed_when_we_join_again(step_ns: int) -> None:
    call = Call()
    device = Device(sets=(20 * S, step_ns))
    audio, video = call.both(device, until_ns=40 * S)
    call.run(40 * S + 200 * MS)
    assert audio.worst_ns() == video.worst_ns() == 0
    again = call.publish(device, began_ns=40 * S + 200 * MS, into=audio.placing)
    seen = call.publish(device, "video", began_ns=40 * S + 200 * MS, into=video.placing)
    fresh = call.publish(device, "video", began_ns=50 * S)
    call.run(80 * S)
    assert again.worst_ns() <= 1 * MS
    assert apart_ns(again, seen) <= 1 * MS
    assert apart_ns(again, fresh) <= 1 * MS


# --- a delay that lasts


@pytest.mark.parametrize("slept_ns", [2 * S, 12 * S, 3600 * S])
@pytest.mark.parametrize("slow_ns", [0, 700 * MS, 50 * S])
def test_a_device_that_slept(slow_ns: int, slept_ns: int) -> None:
    call = Call()
    woke_ns = 30 * S + slept_ns
    audio, video = call.both(Device(slow_ns, sleeps=(30 * S, woke_ns)))
    call.run(woke_ns + 60 * S)
    before = audio.errors(0, 30 * S)
    settled_ns = woke_ns + WINDOW_NS
    assert abs(audio.errors(settled_ns + S).popitem()[1] - before.popitem()[1]) <= 1 * MS
    assert audio.worst_ns(settled_ns + S) < PATIENCE_NS
    assert apart_ns(audio, video, 0, 30 * S) == 0
    assert apart_ns(audio, video, settled_ns + S) == 0
    assert rises(audio) and rises(video)


@pytest.mark.parametrize("muted", ["audio", "video"])
def test_a_device_that_slept_with_a_track_muted(muted: str) -> None:
    """What is sent tells for what is not; the muted track goes on with the SSRC that it had. Meanwhile its
    reports tell that the clock was set."""
    call = Call()
    device = Device(sleeps=(30 * S, 42 * S), sets=(60 * S, 10 * S))
    audio, video = call.both(device)
    placing = (audio if muted == "audio" else video).placing
    inner = placing.frame

    def frame(timestamp: int, unit: AccessUnit, *rest: Any) -> None:
        if not 20 * S <= int(unit.data) < 80 * S:
            inner(timestamp, unit, *rest)

    placing.frame = frame  # type: ignore[assignment, method-assign]
    fresh = call.publish(device, began_ns=66 * S)
    call.run(100 * S)
    assert audio.worst_ns(80 * S) <= 30 * MS  # as a picture takes longer than sound
    assert apart_ns(audio, video, 80 * S) <= 1 * MS
    assert apart_ns(fresh, video, 80 * S) <= 1 * MS


def jittery(at_ns: int) -> int:
    return 30 * MS + at_ns // MS * 7919 % 400 * MS


@pytest.mark.parametrize(
    ("slow_ppm", "slow_ns", "hours", "path"),
    [
        (40, 0, 3, good),
        (100, 700 * MS, 1.5, good),
        (100, 0, 1.5, jittery),
        (200, 700 * MS, 1, good),
        (-100, 0, 1.5, good),
        (-200, 30 * S, 1, good),
    ],
)
def test_a_clock_that_creeps_is_led(slow_ppm: float, slow_ns: int, hours: float, path: Path) -> None:
    call = Call()
    device = Device(slow_ns, slow_ppm)
    audio, video = call.both(device, every_ns=240 * MS, path=path)
    call.run(int(hours * 3600) * S)
    assert audio.worst_ns() <= slow_ns % (30 * S) + 250 * MS < PATIENCE_NS
    assert apart_ns(audio, video) <= CREEP_NS + 1 * MS
    for track in (audio, video):
        steps = [other.capture_ns - one.capture_ns for one, other in pairwise(track.frames)]
        assert max(abs(each - 240 * MS) for each in steps) <= CREEP_NS + 240 * MS // 1000


def bursts(at_ns: int) -> int:
    """Three seconds of nothing, then all of it at once, every ten seconds."""
    since = (at_ns - 5 * S) % (10 * S)
    return 30 * MS + (3 * S - since if since < 3 * S else 0)


def jammed(at_ns: int) -> int:
    """A queue of four seconds that fills within 20 and drains within 20."""
    return 30 * MS + max(0, 4 * S - abs(at_ns - 60 * S) // 5)


def outage(at_ns: int) -> int:
    """Twelve seconds of nothing; what was sent meanwhile takes as long again to come in."""
    since = at_ns - 60 * S
    return 30 * MS + (max(0, 12 * S - since // 2) if since >= 0 else 0)


def roundabout(at_ns: int) -> int:
    """Another way, 80 ms longer."""
    return (110 if at_ns > 60 * S else 30) * MS


def stuck(at_ns: int) -> int:
    """Seven seconds in which everything is two seconds late."""
    return 30 * MS + (2 * S if 60 * S <= at_ns < 67 * S else 0)


@pytest.mark.parametrize("path", [bursts, jammed, outage, jittery, roundabout, stuck])
def test_a_bad_path_moves_no_clock(path: Path) -> None:
    call = Call()
    device = Device()
    audio = call.publish(device, path=path)
    video = call.publish(device, "video", path=path)
    call.run(150 * S)
    assert call.clock.of("alice").moved_ns == 0
    assert audio.worst_ns() == video.worst_ns() == 0


def test_a_clock_wrongly_led_is_led_back_without_sound_upon_sound() -> None:
    """Half a minute in which everything is just as late looks like a device that slept."""
    call = Call()
    device = Device()
    path: Path = lambda at_ns: 30 * MS + (3 * S if 30 * S <= at_ns < 60 * S else 0)  # noqa: E731
    audio = call.publish(device, path=path)
    video = call.publish(device, "video", path=path)
    call.run(100 * S)
    assert audio.worst_ns(50 * S, 59 * S) == 3 * S
    assert audio.worst_ns(60 * S + WINDOW_NS + 4 * S) == 0
    assert apart_ns(audio, video, 60 * S + WINDOW_NS + 4 * S) == 0
    assert rises(audio) and rises(video)
    steps = [other.capture_ns - one.capture_ns for one, other in pairwise(audio.frames)]
    assert sum(each < 10 * MS for each in steps) <= 6


@pytest.mark.parametrize("set_ns", [0, -10 * S, 10 * S])
def test_a_start_over_a_bad_path_is_not_held_against_a_good_clock(set_ns: int) -> None:
    """Nor forgotten: what is usual since then is what a device that slept is led back to."""
    call = Call()
    device = Device(sets=(10 * S, set_ns), sleeps=(200 * S, 212 * S))
    audio = call.publish(device, path=lambda at_ns: 600 * MS if at_ns < 20 * S else 30 * MS)
    call.run(250 * S)
    assert audio.worst_ns(0, 200 * S) == audio.worst_ns(230 * S) == 0


@pytest.mark.parametrize("slow_ns", [0, 600 * MS])
def test_what_a_bad_path_that_lasts_has_moved_is_moved_back(slow_ns: int) -> None:
    call = Call()
    path: Path = lambda at_ns: (330 if 60 * S <= at_ns % (1200 * S) < 600 * S else 30) * MS  # noqa: E731
    audio, video = call.both(Device(slow_ns), path=path, every_ns=240 * MS)
    call.run(3600 * S)
    moved = [error_ns + slow_ns for error_ns in audio.errors().values()]
    assert 190 * MS < max(moved) <= 210 * MS
    assert 0 < moved[-1] <= 100 * MS
    assert apart_ns(audio, video) <= CREEP_NS + 1 * MS


def test_a_clock_judged_over_a_bad_path_is_soon_judged_better() -> None:
    call = Call()
    audio, video = call.both(Device(), path=lambda at_ns: 900 * MS if at_ns < 10 * S else 30 * MS)
    call.run(60 * S)
    assert audio.worst_ns(0, 5 * S) == 910 * MS
    assert audio.worst_ns(10 * S + WINDOW_NS) <= 50 * MS
    assert apart_ns(audio, video, 10 * S + WINDOW_NS) == 0


def test_an_rtp_clock_that_pauses_is_no_matter_of_the_participants() -> None:
    """Its reports tell, before the delay has lasted."""
    call = Call()
    video_device = Device(sleeps=(30 * S, 50 * S), sets=(30 * S, 20 * S))
    audio = call.publish(Device())
    video = call.publish(video_device, "video")
    call.run(100 * S)
    assert audio.worst_ns() == 0
    assert video.worst_ns(54 * S) <= 1 * MS


def test_a_clock_of_the_wall_that_runs_on_while_the_device_sleeps() -> None:
    call = Call()
    device = Device(sleeps=(30 * S, 42 * S), sets=(30 * S, 12 * S))
    audio, video = call.both(device)
    call.run(100 * S)
    assert audio.worst_ns(46 * S) <= 1 * MS
    assert apart_ns(audio, video, 46 * S) <= 1 * MS


def test_our_own_time_that_stood_still() -> None:
    """A suspended host: everybody else is ahead by as much, and is led back."""
    call = Call()
    device = Device(sets=(0, 0))
    audio, video = call.both(device)
    shows = device.shows
    device.shows = lambda at_ns: shows(at_ns) + (5 * S if at_ns >= 30 * S else 0)  # type: ignore[method-assign]
    call.run(100 * S)
    assert audio.worst_ns(30 * S + WINDOW_NS + 6 * S) <= 1 * MS
    assert apart_ns(audio, video, 30 * S + WINDOW_NS + 6 * S) <= 1 * MS


def test_a_track_handed_out_at_once_is_led_too() -> None:
    call = Call()
    audio = call.publish(Device(sleeps=(30 * S, 42 * S)), at_once=True)
    call.run(100 * S)
    assert audio.lags == [40 * MS]
    assert set(audio.errors(0, 30 * S).values()) == {40 * MS}
    assert audio.worst_ns(42 * S + WINDOW_NS + S) <= 41 * MS


@pytest.mark.parametrize("set_ns", [0, -1200 * MS, 1200 * MS])
@pytest.mark.parametrize("slow_ns", [0, 20 * S])
def test_a_track_handed_out_at_once_stays_where_its_first_packet_put_it(slow_ns: int, set_ns: int) -> None:
    """However late that was; it is told, and nothing that comes later is held against the clock."""
    call = Call()
    device = Device(slow_ns, sets=(30 * S, set_ns))
    audio = call.publish(device, at_once=True, path=lambda at_ns: (1500 if at_ns < 100 * MS else 30) * MS)
    call.run(60 * S)
    error_ns = audio.errors().popitem()[1]
    assert set(audio.errors().values()) == {error_ns}
    (lag_ns,) = audio.lags
    assert 1300 * MS < error_ns < 1600 * MS
    assert error_ns - 50 * MS <= lag_ns <= error_ns


# --- no report in time


@pytest.mark.parametrize(
    "slow_ns", [0, 300 * MS, 700 * MS, -50 * MS, 5 * S, -5 * S, 3600 * S], ids=lambda ns: f"{ns // MS}ms"
)
@pytest.mark.parametrize("known", [False, True])
def test_a_first_report_after_the_hold_is_judged_like_any(slow_ns: int, known: bool) -> None:
    call = Call()
    device = Device(slow_ns)
    if known:
        beside = call.publish(device, "video")
    audio = call.publish(device, began_ns=10 * S, reports_from_ns=10 * S + HOLD_NS + 4 * S)
    call.run(20 * S)
    assert audio.placing.anchor is Anchor.ARRIVAL
    call.run(140 * S)
    assert audio.placing.anchor is Anchor.SENDER_REPORT
    believed = -100 * MS <= slow_ns <= 750 * MS
    assert audio.worst_ns(130 * S) <= (abs(slow_ns) if believed else 100 * MS)
    if known:
        assert apart_ns(audio, beside, 130 * S) <= 1 * MS
    assert rises(audio)


@pytest.mark.parametrize("late_until_ns", [22 * S, 40 * S])
def test_a_track_placed_by_late_arrivals_comes_to_the_others_with_its_first_report(
    late_until_ns: int,
) -> None:
    call = Call()
    device = Device()
    video = call.publish(device, "video")
    audio = call.publish(
        device,
        began_ns=10 * S,
        reports_from_ns=10 * S + HOLD_NS + 4 * S,
        path=lambda at_ns: 3 * S if at_ns < late_until_ns else 30 * MS,
    )
    call.run(60 * S)
    assert call.clock.of("alice").moved_ns == 0
    assert apart_ns(audio, video, 28 * S) == 0


def test_a_track_without_any_report_stays_where_it_is() -> None:
    """Its place rests on its arrivals; what is found out about the participant's clock is not for it."""
    call = Call()
    audio = call.publish(Device(), reports_from_ns=10**6 * S)
    call.publish(Device(3600 * S), "video", began_ns=15 * S)
    call.run(60 * S)
    assert set(audio.errors().values()) == {40 * MS}


# --- the clock alone


@pytest.mark.parametrize(
    ("delay_ms", "correction_ms"), [(20, 0), (700, 0), (-50, 0), (-5_000, -5_000), (3_600_000, 3_600_000)]
)
def test_clocks_are_believed_as_far_as_arrivals_allow(delay_ms: int, correction_ms: int) -> None:
    assert ParticipantClock().judge(delay_ms * MS, 0) == correction_ms * MS


@pytest.mark.parametrize(
    ("first_ms", "pause_ns", "then_ms", "correction_ms", "moved_ms"),
    [
        pytest.param(10, 3 * S, 700, 0, 0, id="within reason"),
        pytest.param(10, 3 * S, 9_000, 9_000, 9_000, id="another device"),
        pytest.param(9_000, 3 * S, 10, 0, 0, id="a good one, back where the moves began"),
        pytest.param(9_000, 3 * S, 9_300, 9_000, 9_000, id="the same one"),
        pytest.param(9_000, 3 * S, 8_950, 9_000, 9_000, id="the same one over a quicker path"),
        pytest.param(10, HEARD_NS, 9_000, 0, 0, id="late beside a track that is in time"),
        pytest.param(10, HEARD_NS, -9_000, -9_010, 0, id="too early: its clock was set"),
    ],
)
def test_a_participant_is_judged_again(
    first_ms: int, pause_ns: int, then_ms: int, correction_ms: int, moved_ms: int
) -> None:
    room = RoomClock()
    clock = room.of("a")
    clock.judge(first_ms * MS, 0)
    assert clock.judge(then_ms * MS, pause_ns) == correction_ms * MS
    assert (clock.correction_ns, clock.moved_ns) == (correction_ms * MS, moved_ms * MS)
    assert room.of("a") is clock
    assert room.of("b").judge(20 * MS, 0) == 0


def test_tracks_that_find_a_clock_set_agree_on_by_how_much() -> None:
    clock = ParticipantClock()
    clock.judge(10 * MS, 0)
    assert clock.set_by_sender(-10 * S) == -10 * S
    assert clock.set_by_sender(-10 * S + 7 * MS) == -10 * S
    assert clock.set_by_sender(0) == 0
    assert clock.moved_ns == 0


def test_a_track_that_seldom_sends_is_not_judged_by_single_frames() -> None:
    clock = ParticipantClock()
    clock.judge(10 * MS, 0)
    for number in range(SLICES):
        clock.observe(5 * S, number * 60 * S)
    assert clock.moved_ns == 0
