import pytest
from livekit.protocol.models import (
    ConnectionQuality,
    Encryption,
    ParticipantInfo,
    SpeakerInfo,
    TrackInfo,
    TrackSource,
    TrackType,
    VideoLayer,
    VideoQuality,
)
from livekit.protocol.rtc import ConnectionQualityInfo

from openegress.room import TrackEncryption
from openegress.room import VideoQuality as Wanted
from openegress.room.events import (
    OwnMetadataChanged,
    ParticipantChanged,
    ParticipantJoined,
    ParticipantLeft,
    PauseAttributeChanged,
    Quality,
    QualityChanged,
    SpeakersChanged,
    TrackMuted,
    TrackPublished,
    TrackUnpublished,
)
from openegress.room.signalling import layers
from openegress.room.signalling.roster import Roster, RosterEvent


def track(sid: str, *, muted: bool = False, source: int = TrackSource.CAMERA) -> TrackInfo:
    kind = TrackType.AUDIO if source == TrackSource.MICROPHONE else TrackType.VIDEO
    return TrackInfo(sid=sid, type=kind, source=source, muted=muted, mime_type="video/VP8", name="n")  # type: ignore[arg-type]


def person(identity: str, *tracks: TrackInfo, sid: str = "", left: bool = False) -> ParticipantInfo:
    state = ParticipantInfo.State.DISCONNECTED if left else ParticipantInfo.State.ACTIVE
    return ParticipantInfo(sid=sid or f"PA_{identity}", identity=identity, tracks=tracks, state=state)


def told(events: list[RosterEvent]) -> list[str]:
    out = []
    for event in events:
        match event:
            case ParticipantJoined(participant):
                out.append(f"+{participant.identity}")
            case ParticipantLeft(participant):
                out.append(f"-{participant.identity}")
            case TrackPublished(published):
                out.append(f"+{published.sid}")
            case TrackUnpublished(published):
                out.append(f"-{published.sid}")
            case TrackMuted(published):
                out.append(f"{'mute' if published.muted else 'unmute'} {published.sid}")
    return out


def test_a_life_of_a_participant() -> None:
    roster = Roster("me")
    assert told(roster.joined([person("me"), person("a", track("T1"))], 0)) == ["+a", "+T1"]
    assert told(roster.updated([person("b")])) == ["+b"]
    assert told(roster.updated([person("b", track("T2", muted=True))])) == ["+T2"]
    assert told(roster.updated([person("b", track("T2"))])) == ["unmute T2"]
    assert told(roster.updated([person("b", track("T2"))])) == []
    assert told(roster.updated([person("b", track("T3"))])) == ["-T2", "+T3"]
    assert [each.sid for each in roster.tracks()] == ["T1", "T3"]
    assert told(roster.updated([person("b", track("T3"), left=True)])) == ["-T3", "-b"]
    assert told(roster.updated([person("b", left=True)])) == []
    assert [each.identity for each in roster.participants()] == ["a"]


def test_a_track_knows_who_publishes_it_and_stays_the_same_by_its_key() -> None:
    roster = Roster("me")
    roster.joined([person("a", track("T1", source=TrackSource.MICROPHONE))], 0)
    first = roster.track("T1")
    assert first is not None
    assert (first.participant.identity, first.participant.kind) == ("a", "standard")
    assert (first.kind, first.source) == ("audio", "microphone")
    roster.updated([person("a", track("T2", source=TrackSource.MICROPHONE))])
    second = roster.track("T2")
    assert second is not None
    assert second.key == first.key


def test_someone_who_joins_again_before_the_old_self_is_gone() -> None:
    roster = Roster("me")
    roster.joined([person("a", track("T1"), sid="PA_1")], 0)
    assert told(roster.updated([person("a", track("T2"), sid="PA_2")])) == ["-T1", "-a", "+a", "+T2"]
    assert told(roster.updated([person("a", sid="PA_1", left=True)])) == []
    assert [each.sid for each in roster.tracks()] == ["T2"]


def test_an_update_that_was_overtaken_takes_nothing_back() -> None:
    roster = Roster("me")
    roster.joined([], 0)
    older, newer = person("a"), person("a", track("T1"))
    older.version, newer.version = 3, 4
    assert told(roster.updated([newer])) == ["+a", "+T1"]
    assert told(roster.updated([older])) == []
    assert told(roster.updated([newer])) == []
    newer.state, newer.version = ParticipantInfo.State.DISCONNECTED, 5
    assert told(roster.updated([newer])) == ["-T1", "-a"]
    # Another server counts anew.
    assert told(roster.joined([person("a", track("T2"))], 1)) == ["+a", "+T2"]


def test_after_a_rejoin_the_absent_have_time_to_come_back() -> None:
    roster = Roster("me", return_grace_s=20)
    roster.joined([person("a", track("T1")), person("b", track("T2")), person("c", track("T3"))], 0)
    assert told(roster.joined([person("a", track("T1"))], 100)) == []
    assert roster.waiting
    assert len(roster.tracks()) == 3
    assert told(roster.updated([person("b", sid="PA_9")])) == []
    assert told(roster.updated([person("b", track("T9"), sid="PA_9")])) == ["-T2", "+T9"]
    assert told(roster.expire(119)) == []
    assert told(roster.expire(120)) == ["-T3", "-c"]
    assert not roster.waiting


def test_those_who_came_back_before_us_never_left() -> None:
    roster = Roster("me")
    roster.joined([person("a", track("T1"), sid="PA_1")], 0)
    assert told(roster.joined([person("a", track("T2"), sid="PA_2")], 9)) == ["-T1", "+T2"]
    assert roster.participants()[0].sid == "PA_2"
    assert not roster.waiting


def test_a_track_that_stays_away_after_its_publisher_came_back() -> None:
    roster = Roster("me", return_grace_s=20)
    roster.joined([person("a", track("T1"), track("T2", source=TrackSource.SCREEN_SHARE))], 0)
    roster.joined([], 50)
    assert told(roster.updated([person("a", track("T8"))])) == ["-T1", "+T8"]
    assert told(roster.expire(70)) == ["-T2"]


def test_an_empty_room_after_a_restart_is_waited_for_again_at_each_rejoin() -> None:
    roster = Roster("me", return_grace_s=20)
    roster.joined([person("a", track("T1"))], 0)
    roster.joined([], 10)
    roster.joined([], 20)
    assert told(roster.expire(29)) == []
    assert told(roster.expire(30)) == ["-T1", "-a"]


def test_data_tracks_are_no_media() -> None:
    roster = Roster("me")
    assert told(roster.joined([person("a", TrackInfo(sid="T1", type=TrackType.DATA))], 0)) == ["+a"]


LAYERS = [
    VideoLayer(quality=VideoQuality.LOW, width=320, height=180),
    VideoLayer(quality=VideoQuality.MEDIUM, width=640, height=360),
    VideoLayer(quality=VideoQuality.HIGH, width=1280, height=720),
]


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ((1920, 1080), VideoQuality.HIGH),
        ((1280, 720), VideoQuality.HIGH),
        ((960, 540), VideoQuality.HIGH),
        ((640, 360), VideoQuality.MEDIUM),
        ((360, 640), VideoQuality.MEDIUM),
        ((320, 180), VideoQuality.LOW),
        ((100, 100), VideoQuality.LOW),
        ((0, 0), VideoQuality.HIGH),
    ],
)
def test_layer_choice(wanted: tuple[int, int], chosen: int) -> None:
    assert layers.choose(LAYERS, Wanted(*wanted)) == chosen
    assert layers.choose(reversed(LAYERS), Wanted(*wanted)) == chosen


def test_a_layer_is_large_enough_on_both_sides() -> None:
    wide = VideoLayer(quality=VideoQuality.LOW, width=640, height=180)
    tall = VideoLayer(quality=VideoQuality.MEDIUM, width=400, height=400)
    best = VideoLayer(quality=VideoQuality.HIGH, width=1280, height=720)
    assert layers.choose([wide, best], Wanted(640, 360)) == VideoQuality.HIGH
    assert layers.choose([tall, best], Wanted(640, 360)) == VideoQuality.HIGH


def test_layers_without_a_size_are_not_asked_for() -> None:
    halves = [
        VideoLayer(quality=VideoQuality.LOW, width=640),
        VideoLayer(quality=VideoQuality.LOW, height=640),
    ]
    assert layers.choose([*halves, LAYERS[1]], Wanted(320, 180)) == VideoQuality.MEDIUM
    assert layers.choose(LAYERS, Wanted(320, 0)) == layers.choose(LAYERS, Wanted(0, 180)) == VideoQuality.HIGH


def test_without_layers_the_best_is_asked_for() -> None:
    assert layers.choose([], Wanted(320, 180)) == VideoQuality.HIGH
    assert layers.choose([VideoLayer(quality=VideoQuality.LOW)], Wanted(320, 180)) == VideoQuality.HIGH


def speaks(identity: str, level: float, *, active: bool = True) -> SpeakerInfo:
    return SpeakerInfo(sid=f"PA_{identity}", level=level, active=active)


def test_who_speaks_the_loudest_first() -> None:
    roster = Roster("me")
    roster.joined([person("a"), person("b"), person("c")], 0)
    assert roster.speaking([speaks("a", 0.2), speaks("b", 0.7)]) == [SpeakersChanged(("b", "a"))]
    assert roster.speaking([speaks("a", 0.9)]) == [SpeakersChanged(("a", "b"))]
    assert roster.speaking([speaks("b", 0.0, active=False)]) == [SpeakersChanged(("a",))]
    assert roster.speaking([speaks("stranger", 1.0)]) == [SpeakersChanged(("a",))]
    roster.joined([person("a"), person("b")], 1)
    assert roster.speaking([speaks("b", 0.1)]) == [SpeakersChanged(("b",))]


def test_a_new_name_and_what_the_recorder_is_told() -> None:
    roster = Roster("me")
    roster.joined([person("me"), person("a")], 0)
    renamed = person("a")
    renamed.name = "Ann"
    (event,) = roster.updated([renamed])
    assert isinstance(event, ParticipantChanged) and event.participant.name == "Ann"
    own = person("me")
    own.metadata = '{"layout": "grid"}'
    assert roster.updated([own]) == [OwnMetadataChanged('{"layout": "grid"}')]
    assert roster.updated([own]) == []


def test_who_asks_not_to_be_recorded() -> None:
    roster = Roster("me")
    roster.joined([person("a", track("T1"))], 0)
    for value, opts_out in (("true", True), ("", False), ("yes please", True), ("False", False)):
        info = person("a", track("T1"))
        info.attributes["egress.exclude"] = value
        (event,) = roster.updated([info])
        assert isinstance(event, ParticipantChanged) and event.participant.opts_out is opts_out
        assert [each.participant.opts_out for each in roster.tracks()] == [opts_out]


def test_a_kind_of_participant_that_is_not_known_yet_is_one_like_others() -> None:
    roster = Roster("me")
    info = person("a", track("T1"))
    info.kind = 42  # type: ignore[assignment]
    assert told(roster.joined([info], 0)) == ["+a", "+T1"]
    assert [each.kind for each in roster.participants()] == ["standard"]


@pytest.mark.parametrize("how", Encryption.Type.values())
def test_a_track_says_whether_it_is_encrypted(how: Encryption.Type) -> None:
    roster = Roster("me")
    published = track("T1")
    published.encryption = how
    roster.joined([person("a", published)], 0)
    assert [each.encryption for each in roster.tracks()] == [TrackEncryption[Encryption.Type.Name(how)]]


def test_names_of_any_length_are_cut() -> None:
    info = ParticipantInfo(sid="PA_1", identity="ann", name="a" * 100_000)
    info.tracks.append(TrackInfo(sid="TR_1", type=TrackType.VIDEO, name="t" * 100_000))
    roster = Roster("EG_1")
    roster.updated([info])
    (participant,), (track,) = roster.participants(), roster.tracks()
    assert (len(participant.name), len(track.name)) == (256, 256)
    info.name = "a" * 100_000 + "b"
    assert roster.updated([info]) == []


def test_a_connection_is_told_of_when_it_changes() -> None:
    roster = Roster("recorder")
    roster.updated([person("a")])

    def measured(quality: int, who: str = "a") -> list[RosterEvent]:
        info = ConnectionQualityInfo(participant_sid=f"PA_{who}", quality=quality)  # type: ignore[arg-type]
        return roster.qualities([info])

    assert measured(ConnectionQuality.EXCELLENT) == [QualityChanged("a", Quality.EXCELLENT)]
    assert measured(ConnectionQuality.EXCELLENT) == []
    assert measured(ConnectionQuality.POOR) == [QualityChanged("a", Quality.POOR)]
    assert measured(ConnectionQuality.POOR, "stranger") == []
    assert measured(99) == []
    roster.updated([person("a", left=True)])
    roster.updated([person("a")])
    assert measured(ConnectionQuality.POOR) == [QualityChanged("a", Quality.POOR)]


def test_what_was_asked_of_the_recorder_holds_after_a_rejoin() -> None:
    """It comes as somebody new, whose metadata and attributes are empty."""
    roster = Roster("me")
    roster.joined([], 0)
    asked = person("me", sid="PA_1")
    asked.metadata = "speaker"
    asked.attributes["egress.paused"] = "true"
    orders = [OwnMetadataChanged("speaker"), PauseAttributeChanged(True)]
    assert roster.updated([asked]) == orders
    roster.joined([], 10)
    gone = person("me", sid="PA_1", left=True)
    gone.metadata = "speaker"
    assert roster.updated([gone, person("me", sid="PA_2")]) == []
    # What is asked for again is asked for again.
    asked.sid = "PA_2"
    assert roster.updated([asked]) == orders
    roster.joined([], 20)
    resumed = person("me", sid="PA_3")
    resumed.attributes["egress.paused"] = "false"
    assert roster.updated([resumed]) == [PauseAttributeChanged(False)]
