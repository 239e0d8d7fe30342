"""What a profile says of stacks and of the time that threads took."""

import pytest

from bench.profile import (
    Stack,
    ThreadTime,
    functions_of_ours,
    render,
    seconds_by_frame,
    stacks_of,
    where_it_was,
)
from bench.rows import ROWS

RAW = """\
thread (7): MainThread;main (openegress/handler/loop.py:10);take (openegress/room/demux.py:5) 30
thread (7): MainThread;main (openegress/handler/loop.py:12);read a b (udp.py:1) 10
thread (7): MainThread;main (openegress/handler/loop.py:12);select_epoll_poll (lib);0x7f (libc.so.6) 900
thread (8): room frames;run (threading.py:1);sws_scale (libswscale.so) 4
thread (8): room frames;run (threading.py:1);0x12 (libswscale.so) 2
thread (8): room frames;run (threading.py:1);0x34 (libswscale.so) 2
thread (8): room frames;run (threading.py:1);decode (d.py:1);0x7f (libc.so.6) 70
thread (9) 3
nonsense
"""


def test_stacks_are_read() -> None:
    found = stacks_of(RAW)
    assert [(each.tid, each.thread, each.count) for each in found] == [
        (7, "MainThread", 30),
        (7, "MainThread", 10),
        (7, "MainThread", 900),
        (8, "room frames", 4),
        (8, "room frames", 2),
        (8, "room frames", 2),
        (8, "room frames", 70),
    ]
    assert found[1].frames[-1] == "read a b (udp.py:1)"


def test_time_is_shared_out_among_the_stacks_that_were_busy() -> None:
    cpu_s = {7: 4.0, 8: 1.0}
    by_itself = dict(seconds_by_frame(stacks_of(RAW), cpu_s, where_it_was))
    assert by_itself == pytest.approx(
        {
            "take (openegress/room/demux.py:5)": 3.0,
            "read a b (udp.py:1)": 1.0,
            "sws_scale (libswscale.so)": 0.5,
            "somewhere in libswscale.so": 0.5,
        }
    )
    ours = seconds_by_frame(stacks_of(RAW), cpu_s, functions_of_ours)
    assert ours == [("main (openegress/handler/loop.py)", 4.0), ("take (openegress/room/demux.py)", 3.0)]


def test_a_function_that_calls_itself_counts_once() -> None:
    frame = "walk (openegress/a.py:1)"
    assert seconds_by_frame([Stack(1, "t", (frame, frame), 2)], {1: 1.0}, functions_of_ours) == [
        ("walk (openegress/a.py)", 1.0)
    ]


def test_threads_have_the_names_that_python_knows() -> None:
    times = [ThreadTime("python 5", 8, "python", 1.0), ThreadTime("python 5", 11, "x264", 0.5)]
    text = render(ROWS[0], 2.0, times, stacks_of(RAW))
    assert "  0.500  66.7%  python 5: room frames" in text
    assert "  0.250  33.3%  python 5: x264" in text
