"""What becomes of live connections and of what waits for them: pure decisions."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.core.backoff import Backoff
from openegress.core.codecs import MediaKind
from openegress.core.events import StreamStatus, StreamUpdate
from openegress.media import Packet
from openegress.output.live import reconnect
from openegress.output.live.queue import LiveQueue
from openegress.output.live.reconnect import Link, LinkPhase, ReconnectPolicy
from openegress.output.live.sound_buffer import Message, SoundBuffer

POLICY = ReconnectPolicy(budget_s=10.0, backoff=Backoff(first_s=1.0, ceiling_s=4.0, least=1.0), stable_s=1.0)


def run(events: list[tuple[float, str]]) -> list[Link]:
    """Every state a link goes through; "up" is a connection made, "ok" media taken, "down" a loss."""
    link, states = Link(), []
    for at_s, event in events:
        match event:
            case "up":
                link = reconnect.connected(link)
            case "ok":
                link = reconnect.progressed(link, at_s, POLICY)
            case "down":
                link = reconnect.broke(link, at_s, f"lost at {at_s:g}", POLICY)
            case "again":
                link = reconnect.retried(link)
            case "stop":
                link = reconnect.stopped(link)
        states.append(link)
    return states


@pytest.mark.parametrize(
    "events",
    [
        [(0, "down")],
        [(0, "up"), (0.1, "down")],
        [(0, "up"), (0.1, "ok"), (1.0, "ok"), (1.05, "down")],
        [(0, "up"), (30, "ok"), (30.1, "down")],
        # The second write went into a connection that the server had closed.
        [(0, "up"), (0.1, "ok"), (1.5, "ok"), (1.6, "down")],
        [(0, "up"), (0.1, "ok"), (1.5, "ok"), (1.55, "ok"), (1.6, "down")],
    ],
)
def test_what_never_worked_fails_at_once(events: list[tuple[float, str]]) -> None:
    assert run(events)[-1].phase is LinkPhase.FAILED


def test_what_is_taken_counts_once_it_was_held_for_half_as_long_again() -> None:
    """A server that takes a second of media and closes has not worked: what goes on after that counts."""
    early = run([(0.0, "up"), (10.0, "ok"), (11.0, "ok"), (11.4, "ok")])[-1]
    assert not early.works
    assert run([(0.0, "up"), (10.0, "ok"), (11.0, "ok"), (11.5, "ok")])[-1].works


def test_a_new_connection_has_held_nothing_yet() -> None:
    up = [(0.0, "up"), (0.1, "ok"), (1.2, "ok"), (1.8, "ok"), (9.0, "down"), (10.0, "again")]
    link = run(
        [*up, (10.1, "up"), (10.2, "ok"), (11.3, "ok"), (11.4, "down"), (13.4, "again"), (13.5, "up")]
    )[-1]
    assert link.lost_at_s == 9.0
    assert (link.taking_since_s, link.held_since_s) == (None, None)


def test_what_gives_up_says_why() -> None:
    never = run([(0.0, "up"), (0.1, "down")])[-1]
    assert (never.phase, never.error) == (LinkPhase.FAILED, "lost at 0.1")
    link = run(
        [(0.0, "up"), (0.1, "ok"), (1.2, "ok"), (1.8, "ok"), (2.0, "down"), (3.0, "again"), (13.0, "down")]
    )[-1]
    assert (link.phase, link.lost_at_s, link.error) == (LinkPhase.FAILED, 2.0, "lost at 13")


def test_what_worked_is_tried_again_ever_more_slowly_until_the_budget_is_spent() -> None:
    events = [(0.0, "up"), (1.0, "ok"), (2.0, "ok"), (3.0, "ok"), (10.0, "down")]
    link = run(events)[-1]
    assert (link.phase, link.retry_at_s) == (LinkPhase.WAITING, 11)
    waits = []
    at_s = 10.0
    while link.phase is LinkPhase.WAITING:
        waits.append(link.retry_at_s - at_s)
        at_s = link.retry_at_s
        link = reconnect.broke(reconnect.retried(link), at_s, "refused", POLICY)
    assert waits == [1, 2, 4]
    assert (link.phase, link.retries, link.error) == (LinkPhase.FAILED, 3, "refused")


@pytest.mark.parametrize(
    ("status", "phase"),
    [
        (StreamStatus.ACTIVE, LinkPhase.CONNECTING),
        (StreamStatus.FAILED, LinkPhase.FAILED),
        (StreamStatus.FINISHED, LinkPhase.FINISHED),
    ],
)
def test_what_a_dead_process_sent_to_goes_on_as_it_was(status: StreamStatus, phase: LinkPhase) -> None:
    told = StreamUpdate(0, "rtmp://e", status, error="why", retries=2)
    link = reconnect.left(told, 100.0)
    assert (link.phase, link.retries) == (phase, 2)
    if not link.is_over:
        # The server may still take the dead one for the publisher.
        refused = reconnect.broke(link, 100.5, "taken", POLICY)
        assert (refused.phase, refused.lost_at_s) == (LinkPhase.WAITING, 100.0)


def test_media_that_gets_through_for_a_while_renews_the_budget() -> None:
    events = [(0, "up"), (1, "ok"), (2, "ok"), (3, "ok"), (10, "down"), (11, "again")]
    link = run([*events, (11, "up"), (11, "ok"), (12, "ok"), (12.5, "ok")])[-1]
    assert (link.phase, link.lost_at_s, link.attempt, link.retries, link.error) == (
        LinkPhase.ACTIVE,
        None,
        0,
        1,
        "",
    )


def test_a_server_that_accepts_and_drops_does_not_renew_it() -> None:
    events = [(0.0, "up"), (1.0, "ok"), (2.0, "ok"), (3.0, "ok"), (10.0, "down")]
    for at_s in (11.0, 13.0, 17.0):
        events += [(at_s, "again"), (at_s, "up"), (at_s + 0.1, "ok"), (at_s + 0.2, "down")]
    states = run(events)
    assert states[-1].phase is LinkPhase.FAILED
    assert states[-1].lost_at_s == 10


@pytest.mark.parametrize(
    ("then", "error"),
    [
        ([], "lost at 10"),
        ([(11.0, "again")], "lost at 10"),
        ([(11.0, "again"), (11.0, "up")], "lost at 10"),
        ([(11.0, "again"), (11.0, "up"), (11.1, "ok")], ""),
    ],
)
def test_what_ends_while_it_is_away_says_why(then: list[tuple[float, str]], error: str) -> None:
    worked = [(0.0, "up"), (1.0, "ok"), (2.0, "ok"), (3.0, "ok"), (10.0, "down")]
    link = run([*worked, *then, (11.2, "stop")])[-1]
    assert (link.phase, link.error) == (LinkPhase.FINISHED, error)


@pytest.mark.parametrize("event", ["up", "ok", "down", "again", "stop"])
def test_the_end_is_the_end(event: str) -> None:
    for last in ([(0.0, "down")], [(0.0, "stop")]):
        *_, ended = run(last)
        assert run([*last, (1.0, event)])[-1] == ended


@given(st.lists(st.tuples(st.floats(0, 5), st.sampled_from(["up", "ok", "down", "again"])), max_size=60))
def test_a_link_is_never_without_progress_for_longer_than_the_budget(
    moves: list[tuple[float, str]],
) -> None:
    at_s, events = 0.0, []
    for step_s, event in moves:
        at_s += step_s
        events.append((at_s, event))
    for link in run(events):
        if link.phase is LinkPhase.WAITING:
            assert link.works and link.lost_at_s is not None
            assert link.retry_at_s - link.lost_at_s <= POLICY.budget_s


def packet(at_ms: int, kind: MediaKind = MediaKind.VIDEO, *, key: bool = False, size: int = 10) -> Packet:
    return Packet(kind, b"x" * size, at_ms, at_ms, 33, Fraction(1, 1000), key)


def drain(queue: LiveQueue) -> list[int]:
    return [queue.pop().pts for _ in range(len(queue))]


def test_a_queue_begins_with_a_key_frame() -> None:
    queue = LiveQueue(has_video=True)
    for each in (packet(0), packet(5, MediaKind.AUDIO, key=True), packet(10, key=True), packet(20)):
        queue.put(each)
    assert drain(queue) == [10, 20]
    assert queue.dropped == 2


def test_a_new_connection_gets_the_newest_group_of_pictures() -> None:
    queue = LiveQueue(has_video=True)
    for at in range(0, 1000, 100):
        queue.put(packet(at, key=at % 400 == 0))
    queue.restart()
    assert drain(queue) == [800, 900]


def test_a_new_connection_without_a_key_frame_waits_for_one() -> None:
    queue = LiveQueue(has_video=True)
    queue.put(packet(0, key=True))
    queue.put(packet(100))
    queue.pop()
    queue.restart()
    queue.put(packet(200))
    assert len(queue) == 0
    queue.put(packet(300, key=True))
    assert drain(queue) == [300]


def test_sound_alone_begins_with_what_is_newest() -> None:
    queue = LiveQueue(has_video=False)
    for at in range(5):
        queue.put(packet(at, MediaKind.AUDIO, key=True))
    queue.restart()
    assert drain(queue) == [4]


@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 400)), max_size=100),
    st.sets(st.integers(0, 99)),
)
def test_a_queue_is_bounded_and_what_follows_a_drop_is_a_key_frame(
    frames: list[tuple[bool, int]], pops: set[int]
) -> None:
    queue = LiveQueue(has_video=True, max_s=1.0, max_bytes=1000)
    out: list[tuple[int, Packet]] = []
    sent: list[Packet] = []
    for n, (key, size) in enumerate(frames):
        sent.append(packet(n * 100, key=key, size=size))
        queue.put(sent[-1])
        if n in pops and len(queue):
            out.append((n, queue.pop()))
    out += [(0, queue.pop()) for _ in range(len(queue))]
    taken = [p for _, p in out]
    assert sum(len(p.data) for p in taken) + 0 <= sum(len(p.data) for p in sent)
    assert len(taken) + queue.dropped == len(sent)
    previous = -100
    for each in taken:
        assert each.is_key or each.pts == previous + 100
        previous = each.pts


def test_sound_that_could_not_be_sent_leaves_a_mark_and_keeps_the_rest_in_order() -> None:
    buffer = SoundBuffer(max_bytes=400, bytes_per_ms=10)
    for message in (b"a" * 200, '{"muted": true}', b"b" * 200, b"c" * 200):
        buffer.put(message)
    out: list[Message] = []
    while len(buffer):
        out.append(buffer.pop())
    assert out == ['{"gap_ms": 20}', '{"muted": true}', b"b" * 200, b"c" * 200]


def test_a_message_that_did_not_get_through_is_sent_first_again() -> None:
    buffer = SoundBuffer(max_bytes=400, bytes_per_ms=10)
    buffer.put(b"a")
    buffer.put(b"b")
    buffer.unsent(buffer.pop())
    assert [buffer.pop(), buffer.pop()] == [b"a", b"b"]
