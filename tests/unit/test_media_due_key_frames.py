"""When a publisher is asked for a key frame that an output needs."""

from openegress.core.units import MS, S
from openegress.media.due_key_frames import AGAIN_NS, DueKeyFrames, PublishersKeyFrames

STEP_NS = 20 * MS
ANSWER_NS = 300 * MS


def asked_at(keys: PublishersKeyFrames, until_ns: int, answers: set[int]) -> list[int]:
    """When it is asked by packets that come every STEP_NS. `answers` are the numbers of requests that a key
    frame answers, ANSWER_NS later."""
    asked: list[int] = []
    for at_ns in range(0, until_ns, STEP_NS):
        is_key = any(at_ns == asked[n] + ANSWER_NS for n in answers if n < len(asked))
        if keys.asks(at_ns, is_key=is_key):
            asked.append(at_ns)
    return asked


def test_each_time_is_due_once() -> None:
    keys = DueKeyFrames()
    for at_ns in (2 * S, 0, 1 * S):
        keys.ask(at_ns)
    assert [keys.due(at_ns) for at_ns in (0, 0, 3 * S, 4 * S)] == [0, None, 2 * S, None]


def test_a_publisher_that_has_answered_is_not_asked_again() -> None:
    """However long the recording lasts after a file was split, or a stream was added."""
    keys = PublishersKeyFrames()
    keys.ask(10 * S)
    assert asked_at(keys, 60 * S, {0}) == [10 * S]


def test_one_that_does_not_answer_is_asked_until_it_does() -> None:
    keys = PublishersKeyFrames()
    keys.ask(10 * S)
    assert asked_at(keys, 60 * S, {2}) == [10 * S + n * AGAIN_NS for n in range(3)]


def test_a_key_frame_that_was_on_its_way_is_none_that_was_asked_for() -> None:
    """It is shown before the time from which on one is needed, as pictures come behind their sound."""
    keys = PublishersKeyFrames()
    keys.ask(10 * S)
    assert keys.asks(10 * S, is_key=False)
    assert not keys.asks(10 * S - 1, is_key=True)
    assert keys.asks(11 * S, is_key=False)
    assert not keys.asks(11 * S + 1, is_key=True) and not keys.asks(20 * S, is_key=False)


def test_a_key_frame_that_comes_by_itself_at_the_right_time_needs_no_request() -> None:
    keys = PublishersKeyFrames()
    keys.ask(10 * S)
    assert not keys.asks(10 * S, is_key=True) and not keys.asks(20 * S, is_key=False)
