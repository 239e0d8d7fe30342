"""Splits rtmp:// and rtmps:// URLs into the application and the stream that they name. Pure.

The application is the path up to its last "/". The stream key is the rest with the query, as nginx-rtmp, OBS
and GStreamer's rtmp2sink read it. Neither is decoded or rewritten: servers compare keys byte for byte.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote

from openegress.core.errors import invalid

FORM = "rtmp urls must be of format rtmp(s)://{host}(/{path})/{app}/{stream_key}( live=1)"

DEFAULT_PORT = 1935
MAX_HOST = 253
"""Limit for the characters of a host name (RFC 1035, section 2.3.4)."""
MAX_TC_URL_BYTES = 1023
"""Limit for scheme, host and application together. Servers keep them in small buffers; FFmpeg sends no
more."""
MAX_KEY_BYTES = 65_535
"""Limit for the key: AMF0 strings count their bytes in 16 bits."""
MAX_CREDENTIAL_BYTES = 49
"""Limit for a user name or password, as in FFmpeg."""

_URL = re.compile(r"(rtmps?)://(?:([^/?#]*)@)?([^/?#@]+)/(.+)", re.IGNORECASE)
_LIVE_FLAG = " live=1"
"""A parameter of librtmp, which has no meaning any more."""
_NOT_IN_URLS = re.compile(r"[\s\x00-\x1f\x7f]")
_PORT = re.compile(r":([0-9]{1,5})\Z")


@dataclass(frozen=True, slots=True)
class RtmpUrl:
    scheme: str
    """The scheme in lower case."""
    credentials: str
    """user:password, as written in the URL; empty: none."""
    place: str
    """Host and port, as written in the URL."""
    app: str
    key: str
    """The stream's name with its query; may be empty."""

    @property
    def tc_url(self) -> str:
        """The connect command's tcUrl: server and application."""
        return f"{self.scheme}://{self.place}/{self.app}"

    @property
    def host(self) -> str:
        """The host without the brackets of an IPv6 address."""
        return _PORT.sub("", self.place).strip("[]")

    @property
    def port(self) -> int:
        """The port; without one in the URL, it is 1935, or 443 with TLS."""
        match = _PORT.search(self.place)
        if match:
            return int(match[1])
        return DEFAULT_PORT if self.scheme == "rtmp" else 443


def split(url: str) -> RtmpUrl | None:
    """Splits an RTMP URL. Returns None if there is no host, or no application before the key.

    An application may have a query of its own, as that of YouTube's backup servers does
    (rtmp://b.rtmp.youtube.com/live2?backup=1/KEY). This is so if the path is a single part, and so has no
    key.
    """
    url = url.removesuffix(_LIVE_FLAG)
    match = _URL.fullmatch(url)
    if match is None or _NOT_IN_URLS.search(url):
        return None
    path, question, query = match[4].partition("?")
    if "/" in path:
        app, _, key = path.rpartition("/")
        key += question + query
    else:
        app, slash, key = match[4].rpartition("/")
        if not slash:
            return None
    if not app:
        return None
    return RtmpUrl(match[1].lower(), match[2] or "", match[3], app, key)


def parse(url: str) -> RtmpUrl:
    """Like split(). Raises EgressError invalid_argument, which names no secret, for a URL that cannot be sent
    whole."""
    parts = split(url)
    if parts is None:
        raise invalid(FORM)
    if not parts.host or len(parts.host) > MAX_HOST:
        raise invalid(f"the host must have 1 to {MAX_HOST} characters")
    if not 0 < parts.port < 65_536 or ":" in _PORT.sub("", re.sub(r"\[.*\]", "", parts.place)):
        raise invalid("no port between 1 and 65535")
    _check_length("URL without its stream key", parts.tc_url, MAX_TC_URL_BYTES)
    _check_length("stream key", parts.key, MAX_KEY_BYTES)
    user, _, password = map(unquote, parts.credentials.partition(":"))
    _check_length("user name", user, MAX_CREDENTIAL_BYTES)
    _check_length("password", password, MAX_CREDENTIAL_BYTES)
    return parts


def _check_length(what: str, text: str, most_bytes: int) -> None:
    try:
        size_bytes = len(text.encode())
    except UnicodeEncodeError:
        raise invalid(f"the {what} is not valid Unicode") from None
    if size_bytes > most_bytes:
        raise invalid(f"the {what} has {size_bytes} bytes; RTMP clients can send at most {most_bytes}")
