"""Reads URLs that media is sent to: their protocol, what to connect to, and what may be shown of them."""

import re
from enum import StrEnum
from urllib.parse import parse_qsl, urlsplit

from openegress.core.errors import EgressError, invalid
from openegress.core.http_url import is_http
from openegress.core.plan import StreamTarget, WebsocketOutput
from openegress.core.shown_url import HIDDEN, redact_endpoint, redact_identifier, redact_query
from openegress.request import rtmp_url, srt_url


class StreamKind(StrEnum):
    RTMP = "rtmp"
    SRT = "srt"
    WEBSOCKET = "websocket"


SCHEMES: dict[str, StreamKind] = {
    "rtmp": StreamKind.RTMP,
    "rtmps": StreamKind.RTMP,
    "mux": StreamKind.RTMP,
    "twitch": StreamKind.RTMP,
    "srt": StreamKind.SRT,
    "ws": StreamKind.WEBSOCKET,
    "wss": StreamKind.WEBSOCKET,
}

MAX_AT_ONCE = 50
"""Limit for the URLs of an egress: each has a connection, a thread and a queue of its own."""

MUX_INGEST = "rtmps://global-live.mux.com:443/app/"
TWITCH_INGEST = "rtmps://ingest.global-contribute.live-video.net:443/app/"
"""Twitch's own name that resolves to the nearest ingest server."""

WEBSOCKET_RATES_HZ = (8_000, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)

_KEY_LIKE = re.compile(r"(rtmps?://[^/?#\s]+/)([^/\s]+)", re.IGNORECASE)
"""A URL with what may be a key and no application before it: it is refused, and must not be shown either."""
_RTMP_HOST = re.compile(
    r"(rtmps?://(?:\{\.\.\.\}@)?(?:\[[\w:.%]*\]|[\w.~-]*)(?::[0-9]*)?)(?=[/?#\s]|\Z).*",
    re.DOTALL | re.IGNORECASE,
)
"""A URL with a valid host: otherwise, what stands in its place may be a part of a password or a key."""
_SHORTHAND = re.compile(r"(mux|twitch)://([^/?\s]+(?:\?\S*)?|\?\S+)/?", re.IGNORECASE)
_SHORTHAND_LIKE = re.compile(r"(mux|twitch)://.*", re.DOTALL | re.IGNORECASE)
_USERINFO = re.compile(r"^(rtmps?://)[^/?#]*@", re.IGNORECASE)
_DIALLED = re.compile(rf"(?:{re.escape(MUX_INGEST)}|{re.escape(TWITCH_INGEST)})(\S+)", re.IGNORECASE)


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme.lower()
    except ValueError:
        # The error's text may quote a secret of the URL.
        raise _bad(url, "the host is not a valid name") from None


def _bad(url: str, why: str) -> EgressError:
    return invalid(f"invalid url {redact(url)}: {why}")


def kind_of(url: str) -> StreamKind:
    """The protocol that a URL's scheme names. Raises EgressError invalid_argument."""
    kind = SCHEMES.get(_scheme(url))
    if kind is None:
        raise _bad(url, "invalid protocol")
    return kind


def target(url: str, kind: StreamKind, stream_id: str = "") -> StreamTarget:
    """The target for `url`, with shorthands resolved. Raises EgressError invalid_argument."""
    if SCHEMES.get(_scheme(url)) is not kind:
        raise _bad(url, "invalid scheme")
    dialled = _normal(url)
    try:
        match kind:
            case StreamKind.RTMP:
                if shorthand := _SHORTHAND.fullmatch(dialled):
                    ingest = MUX_INGEST if shorthand[1] == "mux" else TWITCH_INGEST
                    dialled = ingest + shorthand[2]
                rtmp_url.parse(dialled)
            case StreamKind.SRT:
                srt_url.parse(dialled)
            case StreamKind.WEBSOCKET:
                if re.search(r"[\s\x00-\x1f\x7f]", dialled):
                    raise invalid("spaces and control characters must be percent-encoded")
                from openegress.core.exact_url import can_be_sent  # loads yarl, which other URLs do not need

                if not (is_http(f"http{dialled.removeprefix('ws')}") and can_be_sent(dialled)):
                    raise invalid("no valid host, or no port between 1 and 65535")
                if "#" in dialled:
                    raise invalid("websocket URLs have no fragment (RFC 6455, section 3); write # as %23")
    except EgressError as error:
        raise _bad(url, error.message) from None
    return StreamTarget(url=dialled, redacted=redact(dialled), id=stream_id)


def websocket(url: str, stream_id: str = "") -> WebsocketOutput:
    """A WebSocket output; ?channels=1|2 and ?rate= choose the format of the sound. Raises EgressError
    invalid_argument."""
    dialled = target(url, StreamKind.WEBSOCKET)
    asked = dict(parse_qsl(urlsplit(url).query))
    channels, rate = asked.get("channels", "2"), asked.get("rate", "48000")
    if channels not in ("1", "2"):
        raise _bad(url, f"channels={channels} is neither 1 nor 2")
    if rate not in {str(hz) for hz in WEBSOCKET_RATES_HZ}:
        raise _bad(url, f"rate={rate} is not one of {', '.join(map(str, WEBSOCKET_RATES_HZ))}")
    return WebsocketOutput(
        url=dialled.url,
        redacted=dialled.redacted,
        sample_rate=int(rate),
        channels=int(channels),
        id=stream_id,
    )


def _normal(url: str) -> str:
    """`url` with its scheme in lower case: schemes are case-insensitive (RFC 3986 section 3.1)."""
    scheme, colon, rest = url.partition(":")
    return scheme.lower() + colon + rest


def redact(url: str) -> str:
    """`url` without its stream key, path, query values and password, whatever its form. Idempotent."""
    if shorthand := _SHORTHAND.fullmatch(url):
        return f"{shorthand[1]}://{redact_identifier(shorthand[2])}"
    if match := _SHORTHAND_LIKE.fullmatch(url):
        return f"{match[1]}://{{...}}"
    scheme, colon, _ = url.partition("://")
    if not colon or scheme.lower() not in (*SCHEMES, "http", "https"):
        # A URL that was pasted into the wrong field may be a key alone.
        return f"{scheme}://{HIDDEN}" if colon and scheme.isalpha() else HIDDEN
    if SCHEMES.get(scheme.lower()) is not StreamKind.RTMP:
        return redact_endpoint(url)
    url = _USERINFO.sub(rf"\1{HIDDEN}@", url)
    host = _RTMP_HOST.fullmatch(url)
    if host is None:
        return f"{scheme}://{HIDDEN}"
    if parts := rtmp_url.split(url):
        return _redact_rtmp(url, parts)
    if match := _KEY_LIKE.fullmatch(url):
        return f"{match[1]}{redact_identifier(match[2])}"
    return f"{host[1]}/{HIDDEN}"


def _redact_rtmp(url: str, parts: rtmp_url.RtmpUrl) -> str:
    """Redacts an RTMP URL. If nothing but a query follows the application, the last part of its path may be
    the key."""
    app, end = parts.app, redact_identifier(parts.key) if parts.key else ""
    if "@" in app:  # the @ follows a password with a "/"
        return f"{parts.scheme}://{HIDDEN}@{_without_values(app.rpartition('@')[2])}/{end}"
    path = re.split("[?#]", app, maxsplit=1)[0]
    if "@" in parts.key and ":" in parts.place:  # place and application may be the parts of a password
        app = HIDDEN
    elif parts.key[:1] in ("", "?", "#") and "/" in path:
        head, _, last = path.rpartition("/")
        app = f"{head}/{redact_identifier(last)}{app[len(path) :]}"
    written = url.removesuffix(f"{parts.app}/{parts.key} live=1").removesuffix(f"{parts.app}/{parts.key}")
    flag = " live=1" if url.endswith(" live=1") else ""
    return f"{written}{_without_values(app)}/{end}{flag}"


def _without_values(app: str) -> str:
    """An application without anything after the first "?" or "#"."""
    cut = re.search(r"[?#]", app)
    return app if cut is None else app[: cut.start()] + redact_query(app[cut.start() :])


def shown_alike(dialled: str, asked: str) -> bool:
    """Whether `asked` (in full, shorthand or redacted form) names the stream that is connected to
    `dialled`."""
    asked = _normal(asked)
    if asked in (dialled, redact(dialled)):
        return True
    if shorthand := _SHORTHAND.fullmatch(asked):
        match = _DIALLED.fullmatch(dialled)
        return match is not None and match[1] == shorthand[2]
    return False
