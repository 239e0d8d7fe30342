"""What of a stream's URL a server gets to see: RTMP's commands, SRT's handshake."""

import ctypes
import socket
import threading
from collections.abc import Iterator

import pytest

from openegress.core import plan
from openegress.core.codecs import AudioCodec
from openegress.media import srt
from openegress.media.encoder import AudioEncoder
from openegress.output.live.connection import RtmpConnection, SrtStream
from openegress.request import stream_urls
from openegress.request.stream_urls import StreamKind
from testkit.rtmp_recorder import RtmpRecorder

AAC = plan.AudioEncoding(codec=AudioCodec.AAC, kbps=128, sample_rate=44_100)


@pytest.fixture(scope="module")
def recorder() -> Iterator[RtmpRecorder]:
    with RtmpRecorder() as recorder:
        yield recorder


@pytest.mark.parametrize(
    ("url", "app", "stream"),
    [
        ("rtmp://live.twitch.tv/app/live_1_AbC?bandwidthtest=true", "app", "live_1_AbC?bandwidthtest=true"),
        ("twitch://live_1_AbC?bandwidthtest=true", "app", "live_1_AbC?bandwidthtest=true"),
        ("mux://8f0e-AbC", "app", "8f0e-AbC"),
        ("rtmps://a.rtmps.youtube.com:443/live2/abcd-efgh-ijkl", "live2", "abcd-efgh-ijkl"),
        ("rtmp://b.rtmp.youtube.com/live2?backup=1/abcd-efgh", "live2?backup=1", "abcd-efgh"),
        (
            "rtmps://live-api-s.facebook.com:443/rtmp/FB-1-0-Ab?s_bl=1&s_psm=1&a=AbX",
            "rtmp",
            "FB-1-0-Ab?s_bl=1&s_psm=1&a=AbX",
        ),
        ("rtmp://h/live/KEY?token=abc/def==", "live", "KEY?token=abc/def=="),
        ("rtmp://h/live/KEY?sign=a%2Fb", "live", "KEY?sign=a%2Fb"),
        ("rtmp://h/live/?token=abc", "live", "?token=abc"),
        ("rtmp://h/live?auth=a&x=1/key1", "live?auth=a&x=1", "key1"),
        ("rtmp://h/live/key live=1", "live", "key"),
        ("rtmp://h/app/inst/stream", "app/inst", "stream"),
        ("rtmp://h/a/b/c/stream", "a/b/c", "stream"),
        ("rtmp://h/ondemand/a/stream", "ondemand/a", "stream"),
        ("rtmp://h/s/1234567:AbC-dEf", "s", "1234567:AbC-dEf"),
        ("rtmp://h/live/mp4:key", "live", "mp4:key"),
        ("rtmp://h/live/clip.mp4", "live", "clip.mp4"),
        ("rtmp://h/live/clip.flv", "live", "clip.flv"),
        ("rtmp://h/live/key?slist=x", "live", "key?slist=x"),
        ("rtmp://h/live/key#frag", "live", "key#frag"),
        ("rtmp://h/live/émile%20@x", "live", "émile%20@x"),
        ("rtmp://h/live/" + "k" * 600, "live", "k" * 600),
        ("rtmp://h/live/k?jwt=" + "e" * 20_000, "live", "k?jwt=" + "e" * 20_000),
        ("rtmp://h/" + "a" * 1000 + "/k", "a" * 1000, "k"),
        ("rtmp://h/live/" + "k" * 65_535, "live", "k" * 65_535),
        ("rtmp://h/app/", "app", ""),
        ("rtmp://user:secret@h/live/key", "live", "key"),
    ],
    ids=lambda value: value[:40],
)
def test_rtmp_servers_see_application_and_key_as_they_were_given(
    recorder: RtmpRecorder, url: str, app: str, stream: str
) -> None:
    dialled = stream_urls.target(url, StreamKind.RTMP).url
    # The same bytes behind the host, which has to be one that answers here.
    path = dialled.split("://", 1)[1].partition("/")[2]
    place = f"127.0.0.1:{recorder.port}"
    connection = RtmpConnection(f"rtmp://{place}/{path}", [AudioEncoder(AAC).format])
    connection.open()
    asked = recorder.published()
    connection.abandon()
    assert (asked.app, asked.stream) == (app, stream)
    assert asked.tc_url == f"rtmp://{place}/{app}"


class _SrtServer:
    """libsrt's own listener, which tells the stream id of its one caller, and the length of its key."""

    _STREAMID, _PBKEYLEN = 46, 27

    def __init__(self, passphrase: str = "") -> None:
        self._library = srt._library()
        self._library.srt_bind.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int)
        self._listener = self._library.srt_create_socket()
        if passphrase:
            self._library.srt_setsockflag(self._listener, 26, passphrase.encode(), len(passphrase))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        raw = srt._sockaddr(socket.AF_INET, "127.0.0.1", self.port)
        assert self._library.srt_bind(self._listener, raw, len(raw)) == 0
        assert self._library.srt_listen(self._listener, 1) == 0
        self.stream_id = ""
        self.key_bytes = -1
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        accepted = self._library.srt_accept(self._listener, None, None)
        text = ctypes.create_string_buffer(600)
        size = ctypes.c_int(len(text))
        self._library.srt_getsockflag(accepted, self._STREAMID, text, ctypes.byref(size))
        self.stream_id = text.raw[: size.value].decode()
        key_bytes, size = ctypes.c_int(-1), ctypes.c_int(ctypes.sizeof(ctypes.c_int))
        self._library.srt_getsockflag(accepted, self._PBKEYLEN, ctypes.byref(key_bytes), ctypes.byref(size))
        self.key_bytes = key_bytes.value

    def close(self) -> str:
        self._thread.join(10)
        self._library.srt_close(self._listener)
        return self.stream_id


@pytest.mark.parametrize(
    ("query", "stream_id", "passphrase"),
    [
        ("streamid=#!::r=live/x,m=publish", "#!::r=live/x,m=publish", ""),
        ("streamid=%23!::r=live/x,m=publish", "#!::r=live/x,m=publish", ""),
        ("passphrase=pa%23ss+word%2B10&streamid=#!::u=a,r=b", "#!::u=a,r=b", "pa#ss+word+10"),
        ("mode=caller&streamid=publish:cam/é?key=a%26b&latency=60", "publish:cam/é?key=a&b", ""),
        ("streamid=" + "s" * 512 + "&conntimeo=2000&ipttl=9&iptos=8&nakreport=1&lossmaxttl=5", "s" * 512, ""),
        ("snddropdelay=0&retransmitalgo=1&pbkeylen=0&streamid=x", "x", ""),
        ("kmpreannounce=400&kmrefreshrate=1000&streamid=x&passphrase=0123456789", "x", "0123456789"),
    ],
    ids=lambda value: value[:40],
)
def test_srt_servers_see_the_stream_id(query: str, stream_id: str, passphrase: str) -> None:
    server = _SrtServer(passphrase)
    target = stream_urls.target(f"srt://127.0.0.1:{server.port}?{query}", StreamKind.SRT)
    connection = SrtStream(target.url, [AudioEncoder(AAC).format])
    connection.open()
    connection.abandon()
    assert server.close() == stream_id


@pytest.mark.parametrize("key_bytes", [16, 24, 32])
def test_srt_keys_have_the_length_that_was_asked_for(key_bytes: int) -> None:
    server = _SrtServer("0123456789")
    url = f"srt://127.0.0.1:{server.port}?pbkeylen={key_bytes}&passphrase=0123456789&enforcedencryption=1"
    connection = SrtStream(stream_urls.target(url, StreamKind.SRT).url, [AudioEncoder(AAC).format])
    connection.open()
    connection.abandon()
    server.close()
    assert server.key_bytes == key_bytes
