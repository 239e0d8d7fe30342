"""URLs that media is sent to: which protocol they speak, what is dialled, and what may be shown of them."""

import re
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import parse_qsl, urlsplit

from openegress.core import srt_url
from openegress.core.errors import EgressError, invalid
from openegress.core.plan import StreamTarget, WebsocketOutput


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

MUX_INGEST = "rtmps://global-live.mux.com:443/app/"
TWITCH_INGEST = "rtmps://ingest.global-contribute.live-video.net:443/app/"
"""Twitch's own name that resolves to the nearest ingest server."""

RTMP_FORM = "rtmp urls must be of format rtmp(s)://{host}(/{path})/{app}/{stream_key}( live=1)"

WEBSOCKET_RATES_HZ = (8_000, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)

_RTMP = re.compile(r"(rtmps?://)([^/\s]+/.*?)([^/\s]*)( live=1)?", re.DOTALL | re.IGNORECASE)
_KEY_LIKE = re.compile(r"(rtmps?://[^/\s]+/)([^/\s]+)", re.IGNORECASE)
"""No app before what may be a key: such a URL is refused, and is not to be seen either."""
_RTMP_HOST = re.compile(r"(rtmps?://[^/?#\s]*).*", re.DOTALL | re.IGNORECASE)
_SHORTHAND = re.compile(r"(mux|twitch)://([^/\s]+)/?", re.IGNORECASE)
_USERINFO = re.compile(r"^([a-z][a-z0-9+.-]*://)[^/?#]*@", re.IGNORECASE)
_QUERY_VALUE = re.compile(r"=[^&#]*")
_DIALLED = re.compile(rf"(?:{re.escape(MUX_INGEST)}|{re.escape(TWITCH_INGEST)})(\S+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Parts:
    scheme: str
    host: str


def _parts(url: str) -> _Parts:
    try:
        split = urlsplit(url)
        return _Parts(split.scheme.lower(), split.hostname or "")
    except ValueError as error:
        raise _bad(url, str(error)) from None


def _bad(url: str, why: str) -> EgressError:
    return invalid(f"invalid url {redact(url)}: {why}")


def kind_of(url: str) -> StreamKind:
    """The protocol a URL's scheme says. Raises EgressError invalid_argument."""
    kind = SCHEMES.get(_parts(url).scheme)
    if kind is None:
        raise _bad(url, "invalid protocol")
    return kind


def target(url: str, kind: StreamKind, stream_id: str = "") -> StreamTarget:
    """What to dial for `url`, shorthands resolved. Raises EgressError invalid_argument."""
    parts = _parts(url)
    if SCHEMES.get(parts.scheme) is not kind:
        raise _bad(url, "invalid scheme")
    dialled = _normal(url)
    if kind is StreamKind.RTMP:
        if shorthand := _SHORTHAND.fullmatch(dialled):
            ingest = MUX_INGEST if shorthand[1] == "mux" else TWITCH_INGEST
            dialled = ingest + shorthand[2]
        match = _rtmp_match(dialled)
        if match is None or not parts.host:
            raise _bad(url, RTMP_FORM)
    elif not parts.host:
        raise _bad(url, "no host")
    if kind is StreamKind.SRT:
        try:
            srt_url.parse(url)
        except EgressError as error:
            raise _bad(url, error.message) from None
    return StreamTarget(url=dialled, redacted=redact(dialled), id=stream_id)


def websocket(url: str) -> WebsocketOutput:
    """A websocket output; ?channels=1|2 and ?rate= choose the sound's form.

    Raises EgressError invalid_argument.
    """
    dialled = target(url, StreamKind.WEBSOCKET)
    query = dict(parse_qsl(urlsplit(url).query))
    channels, rate = query.get("channels", "2"), query.get("rate", "48000")
    if channels not in ("1", "2"):
        raise _bad(url, f"channels={channels} is neither 1 nor 2")
    if rate not in {str(hz) for hz in WEBSOCKET_RATES_HZ}:
        raise _bad(url, f"rate={rate} is none of {', '.join(map(str, WEBSOCKET_RATES_HZ))}")
    return WebsocketOutput(
        url=dialled.url, redacted=dialled.redacted, sample_rate=int(rate), channels=int(channels)
    )


def _rtmp_match(url: str) -> re.Match[str] | None:
    """(scheme, host to app with its "/", key, live flag); host and app are both needed."""
    match = _RTMP.fullmatch(url)
    if match is None or not match[2].endswith("/") or match[2].count("/") < 2:
        return None
    return match


def _normal(url: str) -> str:
    """Schemes are the same in any case (RFC 3986 section 3.1)."""
    scheme, colon, rest = url.partition(":")
    return scheme.lower() + colon + rest


def redact(url: str) -> str:
    """`url` without its stream key, query values and password, whatever its form. Idempotent."""
    if shorthand := _SHORTHAND.fullmatch(url):
        return f"{shorthand[1]}://{identifier(shorthand[2])}"
    url = _USERINFO.sub(r"\1{...}@", url)
    if match := _rtmp_match(url):
        return f"{match[1]}{_redact_app(match[2], match[3])}{match[4] or ''}"
    if match := _KEY_LIKE.fullmatch(url):
        return f"{match[1]}{identifier(match[2])}"
    if match := _RTMP_HOST.fullmatch(url):
        return f"{match[1]}/{{...}}"
    head, question, query = url.partition("?")
    return head + question + _QUERY_VALUE.sub("={...}", query)


def _redact_app(place: str, key: str) -> str:
    """`place` is host to app with its "/". Where nothing follows it, its last part may be the key."""
    place, end = place[:-1], "/" + identifier(key)
    if not key:
        app, _, last = place.rpartition("/")
        place, end = (app, f"/{identifier(last)}/") if "/" in app else (place, "/")
    head, question, query = place.partition("?")
    return head + question + _QUERY_VALUE.sub("={...}", query) + end


def identifier(secret: str) -> str:
    """{abc...xyz}: 3, 2 or 1 characters of each end, from a length of 9, 6 or 3; else {...}."""
    if re.fullmatch(r"\{\S{0,3}\.\.\.\S{0,3}\}", secret):
        return secret
    kept = min(len(secret) // 3, 3)
    return f"{{{secret[:kept]}...{secret[len(secret) - kept :]}}}"


def shown_alike(dialled: str, asked: str) -> bool:
    """Whether `asked` (full, shorthand or redacted form) means the stream that is dialled as `dialled`."""
    asked = _normal(asked)
    if asked in (dialled, redact(dialled)):
        return True
    if shorthand := _SHORTHAND.fullmatch(asked):
        match = _DIALLED.fullmatch(dialled)
        return match is not None and match[1] == shorthand[2]
    return False
