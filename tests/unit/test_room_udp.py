"""A socket read one by one, in batches, and drained: real datagrams on loopback, in order and timed."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import pytest

from openegress.core.units import MS, S
from openegress.room.transport import udp
from openegress.room.transport.udp import BatchedUdp

REAL_TIME_NS = time.time_ns


class Reader(asyncio.BaseProtocol):
    def __init__(self) -> None:
        self.read: list[bytes] = []
        self.arrivals_ns: list[int] = []
        self.wake_ups = 0
        self.changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._told = False

    def error_received(self, exc: Exception) -> None:
        raise exc

    def datagram_arrived(self, data: bytes, address: object, arrival_ns: int) -> None:
        self.read.append(data)
        self.arrivals_ns.append(arrival_ns)
        self.changed.set()
        if not self._told:
            self._told = True
            self.wake_ups += 1
            self._loop.call_soon(self._asleep)

    def _asleep(self) -> None:
        """Everything of one wake-up was handed out before this runs."""
        self._told = False

    async def has(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.read) < count:
                self.changed.clear()
                await self.changed.wait()


class Link:
    """A socket that sends to one that is read."""

    def __init__(self) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind(("127.0.0.1", 0))
        self._sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sender.connect(sock.getsockname())
        self.reader = Reader()
        self.transport = BatchedUdp(sock, self.reader)
        self.sent: list[bytes] = []
        self.sent_ns: list[int] = []

    def send(self, count: int = 1) -> None:
        for _ in range(count):
            data = b"%d" % len(self.sent)
            self.sent.append(data)
            self.sent_ns.append(time.monotonic_ns())
            self._sender.send(data)

    async def speak(self, packets: int) -> None:
        """A packet each 20 ms, as a voice."""
        for _ in range(packets):
            self.send()
            await asyncio.sleep(0.02)

    def close(self) -> None:
        self.transport.close()
        self._sender.close()


@pytest.fixture
async def link() -> AsyncIterator[Link]:
    link = Link()
    yield link
    link.close()
    await asyncio.sleep(0)


async def test_many_at_once_come_in_few_wake_ups_and_in_order(link: Link) -> None:
    link.send(300)
    await link.reader.has(300)
    assert link.reader.read == link.sent
    assert link.reader.wake_ups < 10


async def test_a_voice_is_read_in_batches_once_nobody_waits(link: Link) -> None:
    await link.speak(10)
    await link.reader.has(10)
    before = link.reader.wake_ups
    assert before > 5
    link.transport.batch_reads()
    await link.speak(40)
    await link.reader.has(50)
    assert link.reader.read == link.sent
    assert link.reader.wake_ups - before < 20


async def test_what_waits_is_handed_out_on_demand(link: Link) -> None:
    link.transport.batch_reads()
    await link.speak(5)
    link.send(3)
    link.transport.drain()
    assert link.reader.read == link.sent


async def test_who_drains_regularly_is_not_woken_in_between(link: Link) -> None:
    link.transport.batch_reads()
    while (resume := link.transport._resume) is None:
        link.send(2)
        await asyncio.sleep(0)
    link.send(3)
    link.transport.drain()
    later = link.transport._resume
    assert link.reader.read == link.sent
    assert resume.cancelled() and later is not None and later.when() > resume.when()


async def test_a_socket_closed_in_a_pause_hands_out_nothing_more(link: Link) -> None:
    link.transport.batch_reads()
    await link.speak(5)
    read = len(link.reader.read)
    link.send(3)
    link.transport.close()
    link.transport.drain()
    await asyncio.sleep(0.2)
    assert len(link.reader.read) == read


async def test_datagrams_arrive_when_they_came_in_whenever_they_are_read(link: Link) -> None:
    """A pause of reading and a busy event loop delay nothing."""
    await link.speak(10)
    link.transport.batch_reads()
    await link.speak(20)
    for _ in range(5):
        link.send()
        time.sleep(0.03)  # noqa: ASYNC251 - the event loop is busy
    await link.reader.has(35)
    late_ns = [
        arrival_ns - sent_ns
        for arrival_ns, sent_ns in zip(link.reader.arrivals_ns, link.sent_ns, strict=True)
    ]
    assert min(late_ns) > -MS and max(late_ns) < 20 * MS
    assert sorted(late_ns)[-5] < 5 * MS


async def test_a_wall_clock_that_is_set_moves_no_arrival_past_what_was_seen(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    await link.speak(3)
    await link.reader.has(3)
    for step_ns in (3600 * S, -3600 * S):
        link.transport.drain()
        emptied_ns = time.monotonic_ns()
        monkeypatch.setattr(time, "time_ns", lambda by_ns=step_ns: REAL_TIME_NS() + by_ns)
        link.send()
        link.transport.drain()
        assert emptied_ns - MS < link.reader.arrivals_ns[-1] <= time.monotonic_ns()


async def test_without_the_kernels_word_reading_does_not_pause_for_long(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(udp, "SO_TIMESTAMPNS", 0)
    await link.speak(10)
    link.transport.batch_reads()
    before = link.reader.wake_ups
    await link.speak(40)
    await link.reader.has(50)
    assert link.reader.wake_ups - before > 20


@pytest.mark.parametrize(
    ("buffer_bytes", "per_s", "pause_ms"),
    [
        (2 * 4 << 20, 100, 200),
        (2 * 4 << 20, 2_500, 200),
        (2 * 212_992, 100, 200),  # what a kernel grants by default, to a voice and a camera
        (2 * 212_992, 2_300, 26),  # and to twenty-five people
        (2 * 212_992, 20_000, 10),
    ],
)
def test_reading_pauses_for_no_longer_than_the_socket_holds_what_comes(
    buffer_bytes: int, per_s: int, pause_ms: int
) -> None:
    room = buffer_bytes // udp.DATAGRAM_ROOM
    pace = udp.ReadingPace(room)
    pace.batch_reads()
    pause_s, now_s = 0.01, 0.0
    for number in range(10):
        passed_s = pause_s / 2 if number % 3 == 0 else pause_s  # somebody could not wait
        now_s += passed_s
        pause_s = pace.pause_s(round(per_s * passed_s), now_s)
    assert pause_s == pytest.approx(pause_ms / 1000, abs=0.002)


def test_who_waits_for_an_answer_is_read_at_once_for_a_moment() -> None:
    pace = udp.ReadingPace(10_000)
    pace.batch_reads()
    now_s = pause_s = 1.0
    pauses_s = []
    for number in range(50):
        if number == 10:
            pace.hasten(now_s)
            hasty_s = now_s
        pause_s = pace.pause_s(2, now_s)
        pauses_s.append((now_s, pause_s))
        now_s += pause_s
    short = [at_s for at_s, pause_s in pauses_s[1:] if pause_s == udp.PAUSE_S]
    assert short == [at_s for at_s, _ in pauses_s[1:] if hasty_s <= at_s < hasty_s + udp.HASTE_S] != []
