"""When a room counts as empty or idle, and for how long that may last."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from openegress.core.codecs import MediaKind
from openegress.core.end_rules import EndRules
from openegress.room import Participant, Track, TrackSource
from openegress.source.room.attendance import Attendance, is_empty, is_idle
from openegress.source.room.selection import NOTHING, Missing, Selection, Verdict
from openegress.source.room.track_policy import LastRejoin, RoomState

GO_ON, EMPTY, IDLE = Verdict.GO_ON, Verdict.END_EMPTY, Verdict.END_IDLE


def person(name: str = "ann", kind: str = "standard") -> Participant:
    return Participant(f"PA_{name}", name, name, kind)


def track(of: Participant, muted: bool = False) -> Track:
    return Track(f"TR_{of.identity}", "", MediaKind.VIDEO, TrackSource.CAMERA, "video/vp8", of, muted)


def room(
    now_s: float,
    *people: Participant,
    tracks: Sequence[Track] = (),
    last_rejoin: LastRejoin = LastRejoin.NEVER,
) -> RoomState:
    return RoomState(tracks, people, now_s=now_s, last_rejoin=last_rejoin)


class Other:
    """A policy that says what it is told to say."""

    single_track_id = "TR_1"
    recheck_at_s: float | None = None

    def __init__(self, verdict: Verdict = Verdict.GO_ON) -> None:
        self.says = verdict

    def select(self, room: RoomState, before: Selection) -> Selection:
        return before

    def missing(self, room: RoomState, selection: Selection) -> tuple[Missing, str]:
        return Missing.TRACK, "TR_2"

    def refusal(self, track: Track, what: Missing) -> str:
        return f"{track.sid} {what.name}"

    def wrong_kind(self, room: RoomState) -> str:
        return "TR_3"

    def verdict(self, room: RoomState, selection: Selection) -> Verdict:
        return self.says

    def needs(self, sid: str, selection: Selection) -> bool:
        return sid == "TR_4"

    def names(self, track: Track, selection: Selection) -> bool:
        return track.sid == "TR_4"

    def wants(self, track: Track, selection: Selection) -> bool:
        return track.sid == "TR_ann"

    def change_rules(self, rules: EndRules) -> None:
        pass


def look(policy: Attendance, state: RoomState) -> Verdict:
    return policy.verdict(state, policy.select(state, NOTHING))


def of_empty(limit_s: float, other: Other | None = None, *, is_of_room: bool = False) -> Attendance:
    return Attendance(other or Other(), EndRules(stop_when_empty_s=limit_s), is_of_room=is_of_room)


def test_recorders_and_agents_are_nobody() -> None:
    assert is_empty(room(0, person("a", "agent"), person("e", "egress")))
    for kind in ("standard", "sip", "ingress"):
        assert not is_empty(room(0, person(kind=kind)))


def test_what_is_muted_or_an_agents_is_not_published() -> None:
    ann, agent = person(), person("bot", "agent")
    assert is_idle(room(0, ann, agent, tracks=[track(ann, muted=True), track(agent)]))
    assert not is_idle(room(0, ann, tracks=[track(ann, muted=True), track(ann)]))


def test_it_ends_when_it_was_empty_for_so_long() -> None:
    policy = of_empty(10)
    assert look(policy, room(0, person())) is GO_ON
    assert policy.recheck_at_s is None
    assert look(policy, room(5)) is GO_ON
    assert policy.recheck_at_s == 15
    assert look(policy, room(14.9)) is GO_ON
    assert look(policy, room(15)) is EMPTY


def test_who_comes_back_in_time_begins_it_anew() -> None:
    policy = of_empty(10)
    look(policy, room(0))
    assert look(policy, room(9, person())) is GO_ON
    assert look(policy, room(12)) is GO_ON
    assert look(policy, room(21)) is GO_ON
    assert look(policy, room(22)) is EMPTY


def test_idle_is_counted_by_itself() -> None:
    ann = person()
    rules = EndRules(stop_when_empty_s=20, stop_when_idle_s=5)
    policy = Attendance(Other(), rules, is_of_room=False)
    assert look(policy, room(0, ann, tracks=[track(ann)])) is GO_ON
    assert look(policy, room(1, ann, tracks=[track(ann, muted=True)])) is GO_ON
    assert policy.recheck_at_s == 6
    assert look(policy, room(6, ann)) is IDLE


def test_who_may_be_on_the_way_back_after_a_lost_connection_is_not_away() -> None:
    policy = of_empty(3)
    look(policy, room(0, person()))
    assert look(policy, room(1, last_rejoin=LastRejoin.RECENT)) is GO_ON
    assert policy.recheck_at_s == 2
    assert look(policy, room(15, last_rejoin=LastRejoin.RECENT)) is GO_ON
    assert look(policy, room(20)) is GO_ON
    assert look(policy, room(23)) is EMPTY


def test_a_layout_waits_for_it_and_what_is_named_does_not() -> None:
    """A room that is laid out ends with the last who leaves, unless it may be empty for a while."""
    gone = Other(Verdict.END)
    assert look(of_empty(10, gone, is_of_room=True), room(0)) is GO_ON
    assert look(of_empty(10, gone), room(0)) is Verdict.END
    rules = EndRules(stop_when_idle_s=10)
    assert look(Attendance(gone, rules, is_of_room=True), room(0)) is Verdict.END


def test_all_else_is_the_others() -> None:
    other = Other()
    policy = of_empty(10, other)
    other.recheck_at_s = 7.0
    look(policy, room(0))
    assert (policy.single_track_id, policy.recheck_at_s) == ("TR_1", 7)
    other.recheck_at_s = None
    assert policy.recheck_at_s == 10
    assert policy.missing(room(0), NOTHING) == (Missing.TRACK, "TR_2")
    assert policy.refusal(track(person()), Missing.TRACK) == "TR_ann TRACK"
    assert policy.wrong_kind(room(0)) == "TR_3"
    assert policy.needs("TR_4", NOTHING) and not policy.needs("TR_1", NOTHING)
    assert policy.wants(track(person()), NOTHING)


@given(
    limit_s=st.floats(0.1, 30),
    steps=st.lists(st.tuples(st.floats(0, 10), st.booleans(), st.booleans()), min_size=1, max_size=30),
)
def test_it_ends_after_no_less_and_is_always_looked_at_again(
    limit_s: float, steps: list[tuple[float, bool, bool]]
) -> None:
    policy, now_s, away_since = of_empty(limit_s), 0.0, None
    for wait_s, is_there, rejoined in steps:
        now_s += wait_s
        people = [person()] if is_there else []
        verdict = look(
            policy, room(now_s, *people, last_rejoin=LastRejoin.RECENT if rejoined else LastRejoin.NEVER)
        )
        away_since = None if is_there else now_s if away_since is None else away_since
        if verdict is EMPTY:
            assert away_since is not None and now_s - away_since >= limit_s * (1 - 1e-9)
            return
        # Never now or before: it would be looked at again and again.
        assert (policy.recheck_at_s is None) == is_there
        assert policy.recheck_at_s is None or policy.recheck_at_s > now_s


def test_a_limit_that_changes_counts_from_when_they_left() -> None:
    policy = of_empty(0.0, is_of_room=True)
    assert look(policy, room(10.0)) is GO_ON
    policy.change_rules(EndRules(stop_when_empty_s=5.0))
    assert look(policy, room(12.0)) is GO_ON
    assert policy.recheck_at_s == 15.0
    policy.change_rules(EndRules(stop_when_empty_s=20.0))
    assert look(policy, room(16.0)) is GO_ON
    assert look(policy, room(30.0)) is EMPTY
    policy.change_rules(EndRules())
    assert look(policy, room(31.0)) is GO_ON
