"""Stream URLs: what is dialled, what is shown, what is refused."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.core.errors import Code, EgressError
from openegress.request import rtmp_url, srt_url, stream_urls
from openegress.request.stream_urls import StreamKind

RTMP_FORM = "rtmp urls must be of format rtmp(s)://{host}(/{path})/{app}/{stream_key}( live=1)"
ENCODE = "spaces and control characters must be percent-encoded"


@pytest.mark.parametrize(
    ("url", "dialled", "shown"),
    [
        ("rtmp://h/app/abcdefghi", "", "rtmp://h/app/{abc...ghi}"),
        ("rtmp://h/app/abcdef", "", "rtmp://h/app/{ab...ef}"),
        ("rtmp://h/app/abc", "", "rtmp://h/app/{a...c}"),
        ("rtmp://h/app/ab", "", "rtmp://h/app/{...}"),
        ("rtmps://h:443/a/b/c/0123456789", "", "rtmps://h:443/a/b/c/{012...789}"),
        ("rtmp://h/app/0123456789 live=1", "", "rtmp://h/app/{012...789} live=1"),
        ("rtmp://user:pass@h/app/0123456789", "", "rtmp://{...}@h/app/{012...789}"),
        (
            "mux://0123456789",
            "rtmps://global-live.mux.com:443/app/0123456789",
            "rtmps://global-live.mux.com:443/app/{012...789}",
        ),
        (
            "twitch://live_0123456789",
            "rtmps://ingest.global-contribute.live-video.net:443/app/live_0123456789",
            "rtmps://ingest.global-contribute.live-video.net:443/app/{liv...789}",
        ),
    ],
)
def test_rtmp(url: str, dialled: str, shown: str) -> None:
    target = stream_urls.target(url, StreamKind.RTMP)
    assert target.url == (dialled or url)
    assert target.redacted == shown
    assert stream_urls.shown_alike(target.url, url)
    assert stream_urls.shown_alike(target.url, shown)
    assert not stream_urls.shown_alike(target.url, "rtmp://h/app/other")


def test_srt_hides_its_passphrase() -> None:
    target = stream_urls.target("srt://h:9000?streamid=read:x&passphrase=0123456789", StreamKind.SRT)
    assert target.redacted == "srt://h:9000?streamid={...}&passphrase={...}"


def test_srt_parameters() -> None:
    url = "srt://h:9000?latency=60&maxbw=-1&passphrase=a%20b%26c+01234&mode=caller&transtype=live"
    assert srt_url.parse(url) == srt_url.SrtUrl(
        "h", 9000, {"latency": 60, "maxbw": -1}, {"passphrase": "a b&c+01234"}
    )


def test_srt_keys_are_asked_of_libsrt_with_their_passphrase() -> None:
    url = "srt://h:9?kmpreannounce=499&pbkeylen=32&passphrase=0123456789&kmrefreshrate=1000&latency=60"
    parsed = srt_url.parse(url)
    assert list(parsed.numbers.items()) == [
        ("latency", 60),
        ("pbkeylen", 32),
        ("kmrefreshrate", 1000),
        ("kmpreannounce", 499),
    ]
    assert parsed.texts == {"passphrase": "0123456789"}


def test_srt_parameters_that_ask_for_no_encryption_need_no_passphrase() -> None:
    url = "srt://h:9?pbkeylen=0&enforcedencryption=0&kmrefreshrate=0&kmpreannounce=0"
    assert set(srt_url.parse(url).numbers.values()) == {0}


@pytest.mark.parametrize(
    ("query", "stream_id"),
    [
        ("streamid=#!::r=live/x,m=publish", "#!::r=live/x,m=publish"),
        ("streamid=%23!::r=live/x,m=publish", "#!::r=live/x,m=publish"),
        ("passphrase=0123456789&streamid=#!::u=admin,r=foo", "#!::u=admin,r=foo"),
        ("streamid=publish/live/cam?key=a", "publish/live/cam?key=a"),
        ("streamid=publish/live/cam?key=a%26b=1", "publish/live/cam?key=a&b=1"),
        ("streamid=publish:room/é&pkt_size=1316", "publish:room/é"),
        ("streamid=" + "s" * 512, "s" * 512),
    ],
)
def test_srt_stream_ids_reach_the_server_as_they_were_meant(query: str, stream_id: str) -> None:
    url = f"srt://h:9000?{query}"
    assert srt_url.parse(url).texts["streamid"] == stream_id
    assert "r=" not in stream_urls.redact(url) and "r={" not in stream_urls.redact(url)


@pytest.mark.parametrize(
    ("url", "kind", "why"),
    [
        ("rtmp://h/key", StreamKind.RTMP, RTMP_FORM),
        ("rtmp://", StreamKind.RTMP, RTMP_FORM),
        ("rtmp://h", StreamKind.RTMP, RTMP_FORM),
        ("srt://h:1", StreamKind.RTMP, "invalid scheme"),
        ("rtmp://h/app/k", StreamKind.SRT, "invalid scheme"),
        ("http://h/app/k", StreamKind.RTMP, "invalid scheme"),
        ("srt://", StreamKind.SRT, "no host"),
        ("ws://h:99999/in", StreamKind.WEBSOCKET, "no valid host, or no port between 1 and 65535"),
        ("ws://h:0/in", StreamKind.WEBSOCKET, "no valid host, or no port between 1 and 65535"),
        ("wss://:443/in", StreamKind.WEBSOCKET, "no valid host, or no port between 1 and 65535"),
        ("srt://h", StreamKind.SRT, "no port; write srt://host:port?streamid=..."),
        ("srt://h:0", StreamKind.SRT, "no port; write srt://host:port?streamid=..."),
        ("srt://h:70000", StreamKind.SRT, "no port between 1 and 65535"),
        ("srt://h:9?mode=listener", StreamKind.SRT, "SRT mode 'listener' is not supported, only caller"),
        ("srt://h:9?latency=--5", StreamKind.SRT, "SRT parameter latency must be a whole number"),
        ("srt://h:9?mode=rendezvous", StreamKind.SRT, "SRT mode 'rendezvous' is not supported, only caller"),
        (
            "srt://h:9?passphrase=short",
            StreamKind.SRT,
            "SRT parameter passphrase must have 10 to 79 bytes, not 5",
        ),
        (
            "srt://h:9?streamid=" + "s" * 513,
            StreamKind.SRT,
            "SRT parameter streamid must have 1 to 512 bytes, not 513",
        ),
        (
            "srt://h:9?latency=2000000",
            StreamKind.SRT,
            "SRT parameter latency must be between 0 and 65535 ms, not 2000000",
        ),
        (
            "srt://h:9?latency=-5",
            StreamKind.SRT,
            "SRT parameter latency must be between 0 and 65535 ms, not -5",
        ),
        (
            "srt://h:9?pbkeylen=15",
            StreamKind.SRT,
            "SRT parameter pbkeylen must be one of 0, 16, 24, 32, not 15",
        ),
        (
            "srt://h:9?pbkeylen=15&passphrase=0123456789",
            StreamKind.SRT,
            "SRT parameter pbkeylen must be one of 0, 16, 24, 32, not 15",
        ),
        *(
            (
                f"srt://h:9?{key}={value}&streamid=x",
                StreamKind.SRT,
                f"SRT parameter {key} needs a passphrase: without one, nothing is encrypted",
            )
            for key, value in (
                ("pbkeylen", 16),
                ("pbkeylen", 32),
                ("enforcedencryption", 1),
                ("kmrefreshrate", 1000),
                ("kmpreannounce", 400),
            )
        ),
        (
            "srt://h:9?kmpreannounce=500&kmrefreshrate=1000&passphrase=0123456789",
            StreamKind.SRT,
            "SRT parameter kmpreannounce must be less than half of kmrefreshrate: at most 499",
        ),
        (
            "srt://h:9?kmpreannounce=8388608&passphrase=0123456789",
            StreamKind.SRT,
            "SRT parameter kmpreannounce must be less than half of kmrefreshrate: at most 8388607",
        ),
        ("srt://h:9?transtype=file", StreamKind.SRT, "SRT parameter transtype can only be live"),
        ("srt://h:9?latency=1&latency=2", StreamKind.SRT, "SRT parameter latency is given twice"),
        ("srt://h:9?streamid=%ff", StreamKind.SRT, "SRT parameter streamid is not UTF-8"),
        ("srt://h:9?streamid=a b", StreamKind.SRT, ENCODE),
        ("srt://h:9/live", StreamKind.SRT, "SRT URLs have no path; write srt://host:port?streamid=..."),
        (
            "srt://u:p@h:9",
            StreamKind.SRT,
            "SRT URLs have no user name; give a passphrase, or u=... in the streamid",
        ),
        ("rtmp://h/mystream?user=a&pass=b", StreamKind.RTMP, RTMP_FORM),
        ("rtmp://h/live/my key", StreamKind.RTMP, RTMP_FORM),
        ("rtmp://h/live/key\n", StreamKind.RTMP, RTMP_FORM),
        ("rtmp://h:0/live/key", StreamKind.RTMP, "no port between 1 and 65535"),
        ("rtmp://h:x/live/key", StreamKind.RTMP, "no port between 1 and 65535"),
        (
            f"rtmp://h/{'a' * 1015}/k",
            StreamKind.RTMP,
            "the URL without its stream key has 1024 bytes; RTMP clients can send at most 1023",
        ),
        (
            f"rtmp://h/a/{'k' * 65_536}",
            StreamKind.RTMP,
            "the stream key has 65536 bytes; RTMP clients can send at most 65535",
        ),
        (
            f"rtmp://u:{'p' * 50}@h/a/k",
            StreamKind.RTMP,
            "the password has 50 bytes; RTMP clients can send at most 49",
        ),
        (
            f"rtmp://u:{'%2F' * 50}@h/a/k",
            StreamKind.RTMP,
            "the password has 50 bytes; RTMP clients can send at most 49",
        ),
        *(
            (f"ws://{host}/in", StreamKind.WEBSOCKET, "no valid host, or no port between 1 and 65535")
            for host in ("127.1", "2130706433", "127.0.0.01", "1.2.3.4.5", "h\\@h", "a..b")
        ),
        ("ws://h/x y", StreamKind.WEBSOCKET, ENCODE),
        (
            "ws://h/x#y",
            StreamKind.WEBSOCKET,
            "websocket URLs have no fragment (RFC 6455, section 3); write # as %23",
        ),
        ("", StreamKind.SRT, "invalid scheme"),
        ("http://h", StreamKind.WEBSOCKET, "invalid scheme"),
    ],
)
def test_refused(url: str, kind: StreamKind, why: str) -> None:
    with pytest.raises(EgressError) as refused:
        stream_urls.target(url, kind)
    assert refused.value.code is Code.INVALID_ARGUMENT
    assert refused.value.message == f"invalid url {stream_urls.redact(url)}: {why}"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtmp://h/app?token=SECRET/key-of-nine", "rtmp://h/app?token={...}/{key...ine}"),
        ("rtmp://h/app?token=SEC/RET/key-of-nine", "rtmp://h/app?token={...}/{key...ine}"),
        ("rtmp://user:p@ss@h/app/key-of-nine", "rtmp://{...}@h/app/{key...ine}"),
        ("rtmp://h/app/inst/key-of-nine/", "rtmp://h/app/inst/{key...ine}/"),
        ("rtmp://h/app/inst/key-of-nine/?a=b", "rtmp://h/app/inst/{key...ine}/{?...b}"),
        ("rtmp://h/app/key-of-nine/#a", "rtmp://h/app/{key...ine}/{...}"),
        ("rtmp://h/app/", "rtmp://h/app/"),
        ("RTMP://h/app/key-of-nine", "RTMP://h/app/{key...ine}"),
        ("MUX://key-of-nine", "MUX://{key...ine}"),
        ("rtmp://h/app/key-of-nine pubPasswd=x", "rtmp://h/{...}"),
        ("SRT://h:1?passphrase=x", "SRT://h:1?passphrase={...}"),
        ("srt://h:1?streamid=#!::r=SECRET,u=SECRET", "srt://h:1?streamid={...}"),
        ("srt://h:1?streamid=a&SECRET", "srt://h:1?streamid={...}&{...}"),
        ("srt://ann:?SECRET=@h", "srt://ann:?{...}"),
        ("srt://h:1#!::SECRET", "srt://h:1#{...}"),
        ("wss://h/in?SECRET", "wss://h/{...}?{...}"),
        ("wss://h/in#token=SECRET", "wss://h/{...}#{...}"),
        ("wss://h/ingest/SECRET-of-many-more", "wss://h/{ing...ore}"),
        ("https://h/#/room?token=SECRET", "https://h/#{...}"),
        ("ann:SECRET@proxy:3128", "{...}"),
        ("SECRET", "{...}"),
        ("youtube://SECRET", "youtube://{...}"),
        ("live_SECRET://x", "{...}"),
        ("rtmp:/h/app/SECRET", "{...}"),
        (" rtmp://h/app/SECRET", "{...}"),
        ("http://ann:SECRET?word@proxy", "http://{...}"),
        ("rtmp://h/live/key-of-nine?token=abc/def==", "rtmp://h/live/{key...f==}"),
        ("rtmp://h/live/key-of-nine?token=abc/d", "rtmp://h/live/{...}"),
        (
            "rtmp://b.rtmp.youtube.com/live2?backup=1/key-of-nine",
            "rtmp://b.rtmp.youtube.com/live2?backup={...}/{key...ine}",
        ),
        ("twitch://key-of-nine?a=b/c", "twitch://{...}"),
        ("twitch://key/of/nine", "twitch://{...}"),
        ("rtmp://[SECRET/app/key-of-nine", "rtmp://{...}"),
        ("rtmp://h\\app\\SECRET", "rtmp://{...}"),
        ("rtmp://ann:SEC/RET@h/app/key-of-nine", "rtmp://{...}"),
        ("rtmp://ann:1/SECRET@h/app/key-of-nine", "rtmp://{...}@h/app/{key...ine}"),
        ("rtmp://ann:1/SECRET@h/key-of-nine", "rtmp://{...}@h/{key...ine}"),
        ("rtmp://ann:/SECRET/@h", "rtmp://ann:/{...}/{...}"),
        ("rtmp://ann:1/SECRET/a@host/app", "rtmp://{...}@host/{a...p}"),
        ("rtmp://h/app/key@of@nine", "rtmp://h/app/{key...ine}"),
        ("rtmp://ann:1/SECRET/a@host", "rtmp://ann:1/{...}/{a@...st}"),
        ("rtmps://[2001:db8::1]:443/app/key-of-nine", "rtmps://[2001:db8::1]:443/app/{key...ine}"),
        ("rtmp://ümlaut.example/app/key-of-nine", "rtmp://ümlaut.example/app/{key...ine}"),
    ],
)
def test_what_is_shown_of_unusual_forms(url: str, shown: str) -> None:
    assert stream_urls.redact(url) == shown
    assert stream_urls.redact(shown) == shown


@pytest.mark.parametrize(
    ("url", "dialled"),
    [("RTMP://h/app/Key", "rtmp://h/app/Key"), ("Twitch://Key", f"{stream_urls.TWITCH_INGEST}Key")],
)
def test_schemes_are_the_same_in_any_case(url: str, dialled: str) -> None:
    assert stream_urls.target(url, StreamKind.RTMP).url == dialled
    assert stream_urls.shown_alike(dialled, url)


@pytest.mark.parametrize(
    ("path", "app", "key"),
    [
        ("/live/key", "live", "key"),
        ("/live/key live=1", "live", "key"),
        ("/live/key?token=abc/def==", "live", "key?token=abc/def=="),
        ("/live/key?sign=a%2Fb", "live", "key?sign=a%2Fb"),
        ("/live/?token=abc/def", "live", "?token=abc/def"),
        ("/live2?backup=1/key", "live2?backup=1", "key"),
        ("/live?auth=a&x=1/2/key", "live?auth=a&x=1/2", "key"),
        ("/app/inst/stream", "app/inst", "stream"),
        ("/a/b/c/stream", "a/b/c", "stream"),
        ("/s/1234567:AbC-dEf", "s", "1234567:AbC-dEf"),
        ("/live/mp4:key", "live", "mp4:key"),
        ("/live/key#frag", "live", "key#frag"),
        ("/live/clip.mp4", "live", "clip.mp4"),
        ("/live/émile%20x", "live", "émile%20x"),
        ("/app/", "app", ""),
        ("//app/key", "/app", "key"),
    ],
)
@pytest.mark.parametrize("server", ["rtmp://h", "rtmps://h:4430", "rtmp://[::1]:1935"])
def test_the_application_is_all_before_the_last_slash_of_the_path(
    server: str, path: str, app: str, key: str
) -> None:
    url = rtmp_url.parse(server + path)
    assert (url.app, url.key, url.tc_url) == (app, key, f"{server}/{app}")


_IN_PATHS = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters="/?\x7f"))


@given(
    app=_IN_PATHS.filter(len),
    key=_IN_PATHS,
    query=st.text(st.characters(min_codepoint=33, max_codepoint=126)),
)
def test_every_key_is_sent_as_it_was_given_and_never_shown(app: str, key: str, query: str) -> None:
    whole = f"SECRET{key}?{query}SECRET"
    url = f"rtmp://h/{app}/{whole}"
    try:
        parts = rtmp_url.parse(url)
    except EgressError:
        assert any(c.isspace() or ord(c) < 33 for c in url)
    else:
        assert (parts.app, parts.key) == (app, whole)
    assert "SECRET" not in stream_urls.redact(url)


_OF_SRT = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f"), max_size=40
)


@given(stream_id=_OF_SRT, passphrase=_OF_SRT, spelt=st.booleans())
def test_every_stream_id_is_sent_as_it_was_given_and_never_shown(
    stream_id: str, passphrase: str, spelt: bool
) -> None:
    secrets = {"streamid": f"#!::r=SECRET{stream_id}", "passphrase": f"SECRETphrase{passphrase[:20]}"}
    safe = "#!:=,/" if spelt else ""  # as people write it, and as programs do
    query = "&".join(f"{name}={quote(value, safe=safe)}" for name, value in secrets.items())
    url = f"srt://h:9000?{query}"
    assert srt_url.parse(url).texts == secrets
    assert stream_urls.target(url, StreamKind.SRT).url == url
    assert "SECRET" not in stream_urls.redact(url)


def test_unknown_scheme() -> None:
    with pytest.raises(EgressError, match=r"invalid url ftp://\{\.\.\.\}: invalid protocol"):
        stream_urls.kind_of("ftp://h")


@pytest.mark.parametrize(
    ("query", "rate", "channels"),
    [("", 48_000, 2), ("?channels=1&rate=16000", 16_000, 1), ("?token=t&channels=2", 48_000, 2)],
)
def test_websocket(query: str, rate: int, channels: int) -> None:
    output = stream_urls.websocket(f"wss://h/in{query}")
    assert (output.sample_rate, output.channels) == (rate, channels)
    assert output.url == f"wss://h/in{query}"


@pytest.mark.parametrize("query", ["channels=3", "channels=x", "rate=1", "rate=-1"])
def test_websocket_refused(query: str) -> None:
    with pytest.raises(EgressError, match=query):
        stream_urls.websocket(f"ws://h/in?{query}")


@given(st.text(max_size=60))
def test_any_text_is_redacted_once_and_never_crashes(text: str) -> None:
    once = stream_urls.redact(text)
    assert stream_urls.redact(once) == once
    for kind in StreamKind:
        try:
            stream_urls.target(text, kind)
        except EgressError as error:
            assert error.code is Code.INVALID_ARGUMENT


@given(
    scheme=st.sampled_from(["rtmp", "RTMPS", "srt", "ws", "WSS", "https", "rtmpt", "youtube"]),
    before=st.text("a1:/?#&=. \\", max_size=6),
    after=st.text("a1:@/?#&=. \\", max_size=6),
    end=st.sampled_from(["@h", "@h:1", "@[::1]:1/"]),
    path=st.sampled_from(["", "/k", "/app/k", "/a/b/k?x=y", "/app/"]),
)
def test_no_password_is_shown_however_it_is_written(
    scheme: str, before: str, after: str, end: str, path: str
) -> None:
    """An "@" ends a user name: what is behind it is a host."""
    url = f"{scheme}://ann:{before}SECRET{after}{end}{path}"
    shown = [stream_urls.redact(url)]
    for kind in StreamKind:
        try:
            shown.append(stream_urls.target(url, kind).redacted)
        except EgressError as error:
            shown.append(error.message)
    assert "SECRET" not in "".join(shown)


@given(
    st.text(
        st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/{"), min_size=9, max_size=40
    )
)
def test_of_a_stream_key_only_its_ends_are_shown(key: str) -> None:
    assert stream_urls.redact(f"rtmp://h/app/{key}") == f"rtmp://h/app/{{{key[:3]}...{key[-3:]}}}"
    assert stream_urls.redact(f"mux://{key}") == f"mux://{{{key[:3]}...{key[-3:]}}}"
