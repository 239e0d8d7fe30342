"""Streams reach no denied network, by whatever name and at whatever moment it leads there."""

import asyncio
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openegress.core import plan
from openegress.core.errors import EgressError
from openegress.core.events import StreamStatus
from openegress.core.networks import networks_of
from openegress.output.live.connection import RtmpConnection, SrtStream, connection
from testkit import probe
from testkit.livekit_server import free_port
from testkit.stream_servers import RtmpServer
from tests.integration.test_output_stream import Rig, encode, feed, make_certificate, tls_front

LOOPBACK = ("127.0.0.0/8", "::1/128")


class Silent:
    """Listens on TCP and UDP, answers nobody, and counts who came."""

    def __init__(self) -> None:
        self.port = free_port()
        self._tcp = socket.create_server(("127.0.0.1", self.port))
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", self.port))
        for one in (self._tcp, self._udp):
            one.setblocking(False)

    def came(self) -> bool:
        for take in (self._tcp.accept, lambda: self._udp.recv(2048)):
            try:
                take()
                return True
            except BlockingIOError:
                pass
        return False

    def close(self) -> None:
        self._tcp.close()
        self._udp.close()


@pytest.fixture
def inside() -> Iterator[Silent]:
    silent = Silent()
    yield silent
    silent.close()


@pytest.fixture
async def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "rig")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "[::ffff:127.0.0.1]", "0"])
@pytest.mark.parametrize("form", ["rtmp://{}:{}/app/key", "rtmps://{}:{}/app/key", "srt://{}:{}?streamid=x"])
async def test_no_spelling_of_an_address_gets_through(rig: Rig, inside: Silent, form: str, host: str) -> None:
    url = form.format(host, inside.port)
    encoded, _ = await asyncio.to_thread(encode, 0.2)
    target = plan.StreamTarget(url, "the stream")
    stream = connection(target, encoded.formats, networks_of(LOOPBACK))
    with pytest.raises(EgressError, match=r"its address \S+ is in \S+, which is one of deny_networks"):
        await asyncio.to_thread(stream.open)
    stream.abandon()
    assert not inside.came()


@pytest.mark.parametrize("form", ["rtmp://{}:{}/app/key", "rtmps://{}:{}/app/key", "srt://{}:{}?streamid=x"])
async def test_a_name_that_changes_its_address_leads_where_it_was_judged(
    inside: Silent, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """To 127.0.0.2, where nobody listens, whatever it says the second time."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: Any, *rest: Any, **named: Any) -> Any:
        if host != "rebinding.test":
            return real(host, *rest, **named)
        asked.append(host)
        return real("127.0.0.2" if len(asked) == 1 else "127.0.0.1", *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    url = form.format("rebinding.test", inside.port)
    encoded, _ = await asyncio.to_thread(encode, 0.2)
    kind = SrtStream if form.startswith("srt") else RtmpConnection
    stream = kind(url, encoded.formats, networks_of(("127.0.0.1/32",)))
    with pytest.raises(OSError):
        await asyncio.to_thread(stream.open)
    stream.abandon()
    assert len(asked) == 1 and not inside.came()


async def test_a_stream_that_is_added_later_is_judged_too_and_the_others_go_on(
    rig: Rig, inside: Silent, tmp_path: Path
) -> None:
    encoded, packets = encode(2.0)
    with RtmpServer() as rtmp:
        good, bad = rtmp.rtmp_url("live/good"), f"rtmp://localhost:{inside.port}/app/key"
        output = rig.stream(good, deny_networks=("127.0.0.3/32", "::1/128"))
        output.open(rig.opening(encoded))
        await rig.until(good, StreamStatus.ACTIVE)
        output._plan = plan.StreamOutput("rtmp", (), deny_networks=LOOPBACK)
        output.add(plan.StreamTarget(bad, "the stream"))
        await rig.until("the stream", StreamStatus.FAILED)
        assert "deny_networks" in rig.updates("the stream")[-1].error
        await feed(packets, [output])
        await output.finish(time.time_ns())
        assert probe.counters(rtmp.recordings()[0]).values == list(range(60))
    assert not inside.came()


async def test_a_server_of_rtmps_is_asked_for_its_name_and_hears_the_last_word(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    await asyncio.to_thread(make_certificate, key, certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    names: list[str | None] = []
    context.sni_callback = lambda sock, name, context: names.append(name)
    encoded, packets = encode(2.0)
    with RtmpServer() as rtmp:
        async with tls_front(context, rtmp.port) as port:
            url, other = (f"rtmps://{host}:{port}/live/key" for host in ("localhost", "127.0.0.1"))
            output = rig.stream(url, other)
            output.open(rig.opening(encoded))
            await rig.until(url, StreamStatus.ACTIVE)
            await rig.until(other, StreamStatus.FAILED)
            await feed(packets, [output])
            await output.finish(time.time_ns())
            assert probe.counters(rtmp.recordings()[-1]).values == list(range(60))
    assert sorted(names, key=str) == [None, "localhost"]  # both connect at once
    assert "certificate is not trusted" in rig.updates(other)[-1].error
    assert "127.0.0.1" in rig.updates(other)[-1].error
