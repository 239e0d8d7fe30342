"""Stream URLs: what is dialled, what is shown, what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.core import srt_url, stream_urls
from openegress.core.errors import Code, EgressError
from openegress.core.stream_urls import StreamKind

RTMP_FORM = "rtmp urls must be of format rtmp(s)://{host}(/{path})/{app}/{stream_key}( live=1)"


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
    url = "srt://h:9000?latency=60&maxbw=-1&passphrase=a%20b&mode=caller&transtype=live"
    assert srt_url.parse(url) == srt_url.SrtUrl(
        "h", 9000, {"latency": 60, "maxbw": -1}, {"passphrase": "a b"}
    )


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
        ("srt://h", StreamKind.SRT, "no port; write srt://host:port?streamid=..."),
        ("srt://h:0", StreamKind.SRT, "no port; write srt://host:port?streamid=..."),
        ("srt://h:70000", StreamKind.SRT, "no port between 1 and 65535"),
        ("srt://h:9?mode=listener", StreamKind.SRT, "SRT mode 'listener' is not supported, only caller"),
        ("srt://h:9?latency=--5", StreamKind.SRT, "SRT parameter latency must be a whole number"),
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
        ("rtmp://h/app/", "rtmp://h/app/"),
        ("RTMP://h/app/key-of-nine", "RTMP://h/app/{key...ine}"),
        ("MUX://key-of-nine", "MUX://{key...ine}"),
        ("rtmp://h/app/key-of-nine pubPasswd=x", "rtmp://h/{...}"),
        ("SRT://h:1?passphrase=x", "SRT://h:1?passphrase={...}"),
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


def test_unknown_scheme() -> None:
    with pytest.raises(EgressError, match="invalid url ftp://h: invalid protocol"):
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
    st.text(
        st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/{"), min_size=9, max_size=40
    )
)
def test_of_a_stream_key_only_its_ends_are_shown(key: str) -> None:
    assert stream_urls.redact(f"rtmp://h/app/{key}") == f"rtmp://h/app/{{{key[:3]}...{key[-3:]}}}"
    assert stream_urls.redact(f"mux://{key}") == f"mux://{{{key[:3]}...{key[-3:]}}}"
