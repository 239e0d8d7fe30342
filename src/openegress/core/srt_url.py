"""srt:// URLs as this service dials them: a caller's host, port and parameters. Pure."""

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from openegress.core.errors import invalid

NUMBERS = frozenset(
    {
        "latency",
        "rcvlatency",
        "peerlatency",
        "pbkeylen",
        "oheadbw",
        "enforcedencryption",
        "maxbw",
        "inputbw",
    }
)
"""Parameters that are whole numbers, named as libsrt's own tools and GStreamer name them; times in ms."""

TEXTS = frozenset({"passphrase", "streamid", "packetfilter"})


@dataclass(frozen=True, slots=True)
class SrtUrl:
    host: str
    port: int
    numbers: dict[str, int]
    texts: dict[str, str]


def parse(url: str) -> SrtUrl:
    """srt://host:port?streamid=... Parameters nobody here knows are passed over.

    Raises EgressError invalid_argument for what is no such thing, naming no secret.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise invalid("no port between 1 and 65535") from None
    if not parts.hostname:
        raise invalid("no host")
    if not port:
        raise invalid("no port; write srt://host:port?streamid=...")
    given = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    if given.get("mode", "caller") != "caller":
        raise invalid(f"SRT mode {given['mode']!r} is not supported, only caller")
    for key in NUMBERS & given.keys():
        if not re.fullmatch(r"-?[0-9]{1,18}", given[key]):
            raise invalid(f"SRT parameter {key} must be a whole number")
    return SrtUrl(
        parts.hostname,
        port,
        numbers={key: int(value) for key, value in given.items() if key in NUMBERS},
        texts={key: value for key, value in given.items() if key in TEXTS},
    )
