"""Live streams against real servers that refuse, die, come back and get stuck."""

import asyncio
import dataclasses
import hashlib
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest

from openegress.core import plan
from openegress.core.codecs import Container, MediaKind
from openegress.core.errors import Code, EgressError
from openegress.core.events import AnyEvent, OutputFailed, StreamAdded, StreamStatus, StreamUpdate
from openegress.core.plan import StreamTarget
from openegress.core.units import S
from openegress.media import Packet, PacketSink, srt
from openegress.output import Opening
from openegress.output.file.recorder import FileRecorder
from openegress.output.live import sender
from openegress.output.live.reconnect import ReconnectPolicy
from openegress.output.live.sender import StreamSender
from openegress.storage.uploader import Uploader
from testkit import probe
from testkit.encoded import Encoded, Spec
from testkit.livekit_server import free_port
from testkit.stream_servers import RtmpServer, SrtListener

SECRET = "s3cr3t-key"


@dataclass
class Rig:
    folder: Path
    events: list[AnyEvent] = field(default_factory=list)
    emptied: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._told = asyncio.Event()
        (self.folder / "stored").mkdir(parents=True)
        (self.folder / "spool").mkdir()

    def emit(self, event: AnyEvent) -> None:
        """From any thread."""
        self.events.append(event)
        if not self._loop.is_closed():  # a thread that hangs in a name server outlives its test
            self._loop.call_soon_threadsafe(self._told.set)

    def stream(
        self, *urls: str, policy: ReconnectPolicy | None = None, deny_networks: tuple[str, ...] = ()
    ) -> StreamSender:
        targets = tuple(plan.StreamTarget(url, redacted(url)) for url in urls)
        protocol: Literal["rtmp", "srt"] = "srt" if urls and urls[0].startswith("srt") else "rtmp"
        return StreamSender(
            plan.StreamOutput(protocol, targets, deny_networks),
            0,
            emit=self.emit,
            on_empty=lambda: self.emptied.append(1),
            policy=policy,
        )

    def file(self) -> FileRecorder:
        storage = plan.StoragePlan(plan.LocalStorage(str(self.folder / "stored")), retry_for_s=0)
        return FileRecorder(
            plan.FileOutput("x.mp4", Container.MP4, storage),
            1,
            emit=self.emit,
            uploader=Uploader(storage),
        )

    def opening(self, encoded: Encoded) -> Opening:
        return Opening(encoded.formats, time.time_ns(), str(self.folder / "spool"), {})

    def stored(self) -> Path:
        return self.folder / "stored/x.mp4"

    def numbered(self, number: int) -> list[StreamUpdate]:
        return [e for e in self.events if isinstance(e, StreamUpdate) and e.stream == number]

    def updates(self, url: str = "") -> list[StreamUpdate]:
        shown = redacted(url)
        return [e for e in self.events if isinstance(e, StreamUpdate) and (not url or e.url == shown)]

    async def until(
        self, url: str, status: StreamStatus, retries: int = 0, timeout_s: float = 20, of: int = 1
    ) -> float:
        """Waits for an update, or one of each of several; returns how long it took."""
        return await self._until(
            url,
            lambda u: (
                u.status is status
                and u.retries >= retries
                and not (u.error and status is StreamStatus.ACTIVE)
            ),
            timeout_s,
            of,
        )

    async def until_lost(self, url: str) -> float:
        """Waits until a stream is dialled again; returns how long it took."""
        return await self._until(
            url, lambda u: u.status is StreamStatus.ACTIVE and bool(u.error) and u.retries > 0
        )

    async def _until(
        self, url: str, is_it: Callable[[StreamUpdate], bool], timeout_s: float = 20, of: int = 1
    ) -> float:
        began = time.monotonic()
        try:
            async with asyncio.timeout(timeout_s):
                while len({u.stream for u in self.updates(url) if is_it(u)}) < of:
                    self._told.clear()
                    await self._told.wait()
        except TimeoutError:
            raise AssertionError(self.updates(url)) from None
        return time.monotonic() - began


def redacted(url: str) -> str:
    return url.replace(SECRET, "{s3c...ey}")


@pytest.fixture
async def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
def rtmp() -> Iterator[RtmpServer]:
    with RtmpServer() as server:
        yield server


async def feed(packets: Sequence[Packet], outputs: Sequence[PacketSink]) -> None:
    """In real time, as a source does."""
    await Feeding(packets, outputs).over()


class Feeding:
    """Packets on their way to outputs, in real time as from a source."""

    def __init__(self, packets: Sequence[Packet], outputs: Sequence[PacketSink]) -> None:
        self._passed_s = 0.0
        self._changed = asyncio.Condition()
        self._task = asyncio.create_task(self._run(packets, outputs))

    async def reaches(self, media_s: float) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._passed_s >= media_s)

    def is_over(self) -> bool:
        return self._task.done()

    async def over(self) -> None:
        await self._task

    async def cancel(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, packets: Sequence[Packet], outputs: Sequence[PacketSink]) -> None:
        began_s = time.monotonic()
        for packet in packets:
            late_s = time.monotonic() - began_s - packet.pts_ns / S
            if late_s < 0:
                await asyncio.sleep(-late_s)
            for output in outputs:
                output.write(packet)
            async with self._changed:
                self._passed_s = packet.pts_ns / S
                self._changed.notify_all()


async def assert_same_as_alone(rig: Rig, opening: Opening, packets: Sequence[Packet]) -> None:
    """The file beside the streams is, to the byte, what the same packets give when nothing is beside it."""
    alone = Rig(rig.folder / "alone")
    file = alone.file()
    file.open(dataclasses.replace(opening, spool=str(alone.folder / "spool")))
    for packet in packets:
        file.write(packet)
    await file.finish(time.time_ns())
    assert sha256(rig.stored()) == sha256(alone.stored())


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def encode(seconds: float, **fields: object) -> tuple[Encoded, list[Packet]]:
    spec = Spec(seconds=seconds, width=160, height=90, key_frame_interval_s=1.0, steady=True, **fields)  # type: ignore[arg-type]
    encoded = Encoded(spec)
    return encoded, list(encoded.packets())


def filled_up(packets: Sequence[Packet], frame_bytes: int) -> list[Packet]:
    """As from a busy picture: each frame has at least `frame_bytes`, with filler data (H.264 7.3.2.7)."""
    begin, end = b"\0\0\0\1\x0c", b"\x80"
    return [
        dataclasses.replace(p, data=p.data + begin + b"\xff" * (frame_bytes - len(p.data)) + end)
        if p.kind is MediaKind.VIDEO
        else p
        for p in packets
    ]


def assert_no_secret(rig: Rig) -> None:
    assert not any(SECRET in repr(event) for event in rig.events)


async def test_rtmp_takes_every_frame(rig: Rig, rtmp: RtmpServer) -> None:
    encoded, packets = encode(4.0)
    url = rtmp.rtmp_url(f"live/{SECRET}")
    output = rig.stream(url)
    output.open(rig.opening(encoded))
    await rig.until(url, StreamStatus.ACTIVE)
    await feed(packets, [output])
    await output.finish(time.time_ns())
    last = rig.updates()[-1]
    assert (last.status, last.error, last.retries) == (StreamStatus.FINISHED, "", 0)
    assert last.duration_ns == pytest.approx(4 * S, abs=0.1 * S)
    recording = rtmp.recordings()[0]
    assert probe.counters(recording).values == list(range(120))
    assert abs(probe.av_offset(recording).median_ms) < 15
    assert_no_secret(rig)


async def test_rtmps_goes_only_to_a_server_whose_certificate_is_trusted(
    rig: Rig, rtmp: RtmpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    await asyncio.to_thread(make_certificate, key, certificate)
    encoded, packets = encode(2.0)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with tls_front(context, rtmp.port) as port:
        url = f"rtmps://localhost:{port}/live/{SECRET}"
        output = rig.stream(url)
        output.open(rig.opening(encoded))
        await rig.until(url, StreamStatus.FAILED)
        assert "certificate" in rig.updates(url)[-1].error
        rig.events.clear()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        output = rig.stream(url)
        output.open(rig.opening(encoded))
        await rig.until(url, StreamStatus.ACTIVE)
        await feed(packets, [output])
        await output.finish(time.time_ns())
        assert probe.counters(rtmp.recordings()[-1]).values == list(range(60))


def make_certificate(key: Path, certificate: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip


@asynccontextmanager
async def tls_front(context: ssl.SSLContext, port: int) -> AsyncIterator[int]:
    """Takes TLS off what comes in and passes it on to `port`."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # the other side has gone, as the test wants it
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, back_writer), pump(back_reader, writer))

    server = await asyncio.start_server(serve, "localhost", 0, ssl=context, family=socket.AF_INET)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_srt_takes_every_frame(rig: Rig) -> None:
    encoded, packets = encode(4.0)
    with SrtListener("&passphrase=0123456789ab") as listener:
        url = f"srt://127.0.0.1:{listener.port}?passphrase=0123456789ab&latency=60"
        output = rig.stream(url)
        output.open(rig.opening(encoded))
        await rig.until(url, StreamStatus.ACTIVE)
        await feed(packets, [output])
        await output.finish(time.time_ns())
        await asyncio.to_thread(listener.wait)
        assert rig.updates()[-1].status is StreamStatus.FINISHED
        assert probe.counters(listener.recordings[0]).values == list(range(120))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (f"rtmp://127.0.0.1:1/live/{SECRET}", "nothing accepts connections"),
        (f"rtmp://no-such-host.invalid/live/{SECRET}", "cannot be resolved"),
        (f"rtmp://127.0.0.1:{{port}}/nowhere/{SECRET}", "refused to take the stream"),
        (f"rtmp://127.0.0.1:{{port}}/asks/{SECRET}", "refused to take the stream"),
        (f"rtmp://127.0.0.1:{{port}}/denied/{SECRET}", "check application and stream key"),
        (f"srt://127.0.0.1:1?streamid={SECRET}", "srt://"),
        (f"srt://no-such-host.invalid:9000?streamid={SECRET}", "cannot be resolved"),
    ],
)
async def test_what_never_worked_fails_at_once_and_says_why(
    rig: Rig, rtmp: RtmpServer, url: str, says: str
) -> None:
    encoded, packets = encode(2.0)
    url = url.replace("{port}", str(rtmp.port))
    good = rtmp.rtmp_url("live/good")
    output, file = rig.stream(url, good) if url.startswith("rtmp") else rig.stream(url), rig.file()
    opening = rig.opening(encoded)
    for each in (output, file):
        each.open(opening)
    feeding = Feeding(packets, [output, file])
    took_s = await rig.until(url, StreamStatus.FAILED)
    assert took_s < 6
    await feeding.over()
    await file.finish(time.time_ns())
    await assert_same_as_alone(rig, opening, packets)
    failed = rig.updates(url)[-1]
    assert says in failed.error
    assert redacted(url) in failed.error
    if url.startswith("rtmp"):
        await output.finish(time.time_ns())
        assert rig.updates(good)[-1].status is StreamStatus.FINISHED
        assert len(probe.counters(rtmp.recordings()[0]).values) >= 30
        assert not any(isinstance(e, OutputFailed) for e in rig.events)
    else:
        with pytest.raises(EgressError, match="srt://") as caught:
            await output.finish(time.time_ns())
        assert caught.value.code is Code.UNAVAILABLE
    assert_no_secret(rig)


async def test_a_server_that_is_killed_and_restarted_gets_the_stream_back_in_seconds(
    rig: Rig, rtmp: RtmpServer
) -> None:
    encoded, packets = encode(9.0)
    url = rtmp.rtmp_url(f"live/{SECRET}")
    output, file = rig.stream(url), rig.file()
    opening = rig.opening(encoded)
    for each in (output, file):
        each.open(opening)
    await rig.until(url, StreamStatus.ACTIVE)
    feeding = Feeding(packets, [output, file])
    await feeding.reaches(3)
    rtmp.kill()
    await rig.until_lost(url)
    await asyncio.to_thread(rtmp.start)
    resumed_s = await rig.until(url, StreamStatus.ACTIVE, retries=1)
    assert resumed_s < 4
    await feeding.over()
    await output.finish(time.time_ns())
    await file.finish(time.time_ns())
    last = rig.updates()[-1]
    assert (last.status, last.error) == (StreamStatus.FINISHED, "")
    assert last.retries >= 1 and last.last_retry_at_ns > 0
    before, after = rtmp.recordings()[0], rtmp.recordings()[-1]
    assert probe.counters(before).values[0] == 0
    resumed = probe.counters(after).values
    # From a key frame on, without a hole, to the very last frame.
    assert resumed[0] % 30 == 0
    assert resumed == list(range(resumed[0], 270))
    assert probe.counters(rig.stored()).values == list(range(270))
    await assert_same_as_alone(rig, opening, packets)
    assert_no_secret(rig)


async def test_a_connection_that_stalls_is_found_out_and_its_neighbours_do_not_notice(
    rig: Rig, rtmp: RtmpServer
) -> None:
    encoded, packets = encode(20.0, kbps=4000, sample_rate=44_100)
    # What a stuck server does not take shows once the kernels have no room for more.
    packets = filled_up(packets, 4000 * 125 // 30)
    with RtmpServer() as stuck:
        bad, good = stuck.rtmp_url(f"live/{SECRET}"), rtmp.rtmp_url("live/good")
        output, file = rig.stream(bad, good), rig.file()
        opening = rig.opening(encoded)
        for each in (output, file):
            each.open(opening)
        for url in (bad, good):
            await rig.until(url, StreamStatus.ACTIVE)
        feeding = Feeding(packets, [output, file])
        await feeding.reaches(2)
        stuck.signal(signal.SIGSTOP)
        lost = asyncio.create_task(rig.until_lost(bad))
        slowest_s = 0.0
        while not lost.done():
            before_s = time.monotonic()
            await asyncio.sleep(0.02)
            slowest_s = max(slowest_s, time.monotonic() - before_s)
        assert lost.result() < 12
        stuck.signal(signal.SIGCONT)
        assert await rig.until(bad, StreamStatus.ACTIVE, retries=1) < 6
        assert not feeding.is_over()
        await feeding.over()
        await output.finish(time.time_ns())
        await file.finish(time.time_ns())
        resumed = probe.counters(stuck.recordings()[-1]).values
    assert slowest_s < 1.0
    assert resumed[0] % 30 == 0
    assert resumed == list(range(resumed[0], 600))
    assert rig.updates(good)[-1].retries == 0
    assert probe.counters(rtmp.recordings()[0]).values == list(range(600))
    assert probe.counters(rig.stored()).values == list(range(600))
    await assert_same_as_alone(rig, opening, packets)


async def test_srt_comes_back_too(rig: Rig) -> None:
    encoded, packets = encode(16.0)
    with SrtListener() as listener:
        url = f"srt://127.0.0.1:{listener.port}?latency=60"
        output, file = rig.stream(url), rig.file()
        opening = rig.opening(encoded)
        for each in (output, file):
            each.open(opening)
        await rig.until(url, StreamStatus.ACTIVE)
        feeding = Feeding(packets, [output, file])
        await feeding.reaches(3)
        listener.kill()
        await asyncio.to_thread(listener.start)
        await rig.until(url, StreamStatus.ACTIVE, retries=1)
        await feeding.over()
        await output.finish(time.time_ns())
        await file.finish(time.time_ns())
        await asyncio.to_thread(listener.wait)
        resumed = probe.counters(listener.recordings[-1]).values
    assert resumed[0] % 30 == 0
    assert resumed == list(range(resumed[0], 480))
    await assert_same_as_alone(rig, opening, packets)


async def test_streams_are_added_and_removed_while_it_runs(
    rig: Rig, rtmp: RtmpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "MAX_AT_ONCE", 2)
    encoded, packets = encode(8.0)
    first, second = rtmp.rtmp_url(f"live/{SECRET}1"), rtmp.rtmp_url(f"live/{SECRET}2")
    output = rig.stream(first)
    output.open(rig.opening(encoded))
    await rig.until(first, StreamStatus.ACTIVE)
    feeding = Feeding(packets, [output])
    await feeding.reaches(1)
    output.add(StreamTarget(second, redacted(second), "mine"))
    with pytest.raises(EgressError) as twice:
        output.add(StreamTarget(second, redacted(second), "mine"))
    assert twice.value.code is Code.ALREADY_EXISTS
    third = rtmp.rtmp_url("live/third")
    with pytest.raises(EgressError, match="is one too many: at most 2 are sent at once"):
        output.add(StreamTarget(third, redacted(third)))
    await rig.until(second, StreamStatus.ACTIVE)
    of_second = [each for each in rig.events if getattr(each, "url", "") == redacted(second)]
    assert of_second[0] == StreamAdded(0, 1, redacted(second), "mine")
    assert not any(isinstance(each, StreamAdded) for each in of_second[1:])
    await feeding.reaches(4)
    await output.remove(first)
    assert rig.updates(first)[-1].status is StreamStatus.FINISHED
    with pytest.raises(EgressError, match="not found") as unknown:
        await output.remove(first)
    assert SECRET not in unknown.value.message
    assert not rig.emptied
    await output.remove(redacted(second))
    assert rig.emptied == [1]
    await feeding.cancel()
    await output.finish(time.time_ns())
    seen = [probe.counters(path).values for path in rtmp.recordings()]
    assert len(seen) == 2
    for values in seen:
        assert values[0] % 30 == 0
        # Cut in mid-stream, the last frames may lack those that were to be shown before them.
        assert [b for a, b in pairwise(values[:-3]) if b - a != 1] == []


async def test_a_stream_that_is_added_asks_for_the_key_frame_it_begins_with(
    rig: Rig, rtmp: RtmpServer
) -> None:
    encoded, packets = encode(3.0)
    first, second = [
        plan.StreamTarget(url, redacted(url)) for url in map(rtmp.rtmp_url, ("live/first", "live/second"))
    ]
    asked: list[int] = []
    output = StreamSender(plan.StreamOutput("rtmp", (first,)), 0, emit=rig.emit, ask_key=asked.append)
    output.open(rig.opening(encoded))
    await rig.until(first.url, StreamStatus.ACTIVE)
    feeding = Feeding(packets, [output])
    await feeding.reaches(0.3)
    asked.clear()
    output.add(second)
    await rig.until(second.url, StreamStatus.ACTIVE)
    assert asked == [0]
    await feeding.cancel()
    await output.finish(time.time_ns())


async def test_streams_whose_keys_look_alike_are_two(rig: Rig, rtmp: RtmpServer) -> None:
    encoded, packets = encode(3.0)
    urls = [rtmp.rtmp_url(f"live/{key}") for key in ("room-1-hd", "room-2-hd", "room-3-hd")]
    shown = rtmp.rtmp_url("live/{roo...-hd}")
    targets = [plan.StreamTarget(url, shown) for url in urls]
    output = StreamSender(plan.StreamOutput("rtmp", tuple(targets[:2])), 0, emit=rig.emit)
    output.open(rig.opening(encoded))
    output.add(targets[2])
    await rig.until("", StreamStatus.ACTIVE, of=3)
    feeding = Feeding(packets, [output])
    await feeding.reaches(1.5)
    with pytest.raises(EgressError, match="names 3 streams; give the URL in full"):
        await output.remove(shown)
    await output.remove(urls[1])
    await feeding.over()
    await output.finish(time.time_ns())
    last = [rig.numbered(n)[-1] for n in range(3)]
    assert [(u.url, u.status, u.error) for u in last] == [(shown, StreamStatus.FINISHED, "")] * 3
    assert [u.duration_ns > 2.5 * S for u in last] == [True, False, True]
    assert sorted(len(probe.counters(path).values) > 80 for path in rtmp.recordings()) == [False, True, True]


async def test_what_this_host_cannot_dial_fails_alone(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded, packets = encode(2.0)
    with SrtListener() as listener:
        good = f"srt://127.0.0.1:{listener.port}?latency=60"
        bad = f"srt://127.0.0.1:{listener.port}?passphrase=short"
        output = rig.stream(bad, good)
        output.open(rig.opening(encoded))
        await rig.until(bad, StreamStatus.FAILED)
        await rig.until(good, StreamStatus.ACTIVE)
        await feed(packets, [output])
        await output.finish(time.time_ns())
        assert rig.updates(good)[-1].status is StreamStatus.FINISHED
    srt._library.cache_clear()
    monkeypatch.setattr(srt, "find", lambda: "")
    output = rig.stream("srt://127.0.0.1:9")
    output.open(rig.opening(encoded))
    with pytest.raises(EgressError, match="needs the library libsrt"):
        await output.finish(time.time_ns())


async def test_a_stuck_server_does_not_keep_who_removes_its_streams_waiting(rig: Rig) -> None:
    encoded, packets = encode(1.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        urls = [f"rtmp://127.0.0.1:{silent.getsockname()[1]}/live/{n}" for n in range(3)]
        output = rig.stream(*urls)
        output.open(rig.opening(encoded))
        for packet in packets:
            output.write(packet)
        began_s = time.monotonic()
        await asyncio.gather(*(output.remove(url) for url in urls))
        assert time.monotonic() - began_s < 2.5
        assert rig.emptied
        with pytest.raises(EgressError, match="not found"):
            await output.remove(urls[0])
        # The same key again is a new stream, whose predecessor has no more to say.
        output.add(plan.StreamTarget(urls[0], urls[0]))
        await output.remove(urls[0])
        await output.finish(time.time_ns())
    assert [len(rig.numbered(n)) for n in range(3)] == [1, 1, 1]
    assert not any(isinstance(e, OutputFailed) for e in rig.events)


async def test_a_server_that_never_answers_does_not_hold_up_the_end(rig: Rig) -> None:
    encoded, packets = encode(1.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        output = rig.stream(f"rtmp://127.0.0.1:{silent.getsockname()[1]}/live/{SECRET}")
        output.open(rig.opening(encoded))
        for packet in packets:
            output.write(packet)
        began_s = time.monotonic()
        with pytest.raises(EgressError, match="took no data"):
            await output.finish(time.time_ns())
        assert time.monotonic() - began_s < 8
    assert_no_secret(rig)


async def test_a_stream_that_does_not_come_back_is_given_up_within_its_budget(rig: Rig) -> None:
    encoded, packets = encode(8.0)
    with RtmpServer() as server:
        url = server.rtmp_url(f"live/{SECRET}")
        output = rig.stream(url, policy=ReconnectPolicy(budget_s=2.0))
        output.open(rig.opening(encoded))
        await rig.until(url, StreamStatus.ACTIVE)
        feeding = Feeding(packets, [output])
        await feeding.reaches(2.5)
        server.kill()
    took_s = await rig.until(url, StreamStatus.FAILED)
    assert took_s < 4
    await feeding.over()
    with pytest.raises(EgressError, match="nothing accepts"):
        await output.finish(time.time_ns())
    assert free_port()
