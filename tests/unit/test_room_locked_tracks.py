"""What is told of encrypted tracks that cannot be decrypted."""

from dataclasses import replace

from openegress.core.codecs import MediaKind
from openegress.core.left_out import TrackLosses
from openegress.core.units import S
from openegress.room import Lock, Participant, Track, TrackSource
from openegress.source.room.locked_tracks import LockedTracks


def track(sid: str) -> Track:
    who = Participant(f"PA_{sid}", "ann", "Ann", "standard")
    return Track(sid, "", MediaKind.AUDIO, TrackSource.MICROPHONE, "audio/opus", who, False)


class World:
    def __init__(self) -> None:
        self.now_s = 0
        self.locks: dict[str, Lock | None] = {}
        self.notices: list[dict[str, object]] = []
        self.locked = LockedTracks(
            lambda track: self.locks.get(track.sid),
            lambda text, **fields: self.notices.append({"text": text, **fields}),
            lambda: self.now_s * S,
        )

    def look(self, *tracks: Track) -> None:
        self.locked.look(tracks, lambda track: track.sid != "unwanted")


def test_a_track_is_told_of_once_and_counted_while_it_sends() -> None:
    world = World()
    one = track("TR_1")
    world.locks = {"TR_1": Lock.NO_KEY, "unwanted": Lock.NO_KEY, "TR_3": None}
    world.look(one, track("unwanted"), track("TR_3"))
    (notice,) = world.notices
    assert notice == {
        "text": "track left out: it is end-to-end encrypted",
        "track": "TR_1",
        "identity": "ann",
        "reason": str(Lock.NO_KEY),
    }
    world.now_s = 3
    world.look(replace(one, muted=True))
    world.now_s = 10
    world.look(one)
    world.now_s = 14
    why = f"it is end-to-end encrypted, and {Lock.NO_KEY}"
    assert world.locked.losses() == [TrackLosses("TR_1", "ann", left_out_ms=7000, left_out_why=why)]
    world.look()
    world.now_s = 99
    assert world.locked.losses()[0].left_out_ms == 7000
    assert len(world.notices) == 1


def test_nothing_is_told_before_the_key_service_has_answered() -> None:
    world = World()
    world.locks = {"TR_1": Lock.AWAITED}
    one = track("TR_1")
    world.look(one)
    assert (world.notices, world.locked.losses(), world.locked.why(one)) == ([], [], "")
    world.locked.answered("it answers 503")
    world.locked.answered("it answers 503")
    world.locks = {"TR_1": Lock.NOT_GIVEN}
    why = "is end-to-end encrypted, and its key service gave no key for it: it answers 503"
    assert world.locked.why(one) == why
    world.look(one)
    assert [each.get("reason") for each in world.notices] == [
        "it answers 503",
        "its key service gave no key for it: it answers 503",
    ]
    world.now_s = 2
    world.locked.answered("")
    world.locks = {}
    world.look(one)
    world.now_s = 60
    assert world.locked.why(one) == ""
    assert [each.left_out_ms for each in world.locked.losses()] == [2000]
