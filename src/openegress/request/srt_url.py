"""Reads srt:// URLs as this service dials them: a caller's host, port and parameters. Pure.

Values are percent-decoded and no more: "+" is a plus, as for GStreamer and libsrt's own tools. A stream id in
the form "#!::r=..." (SRT access control guidelines) may be written as it is: SRT URLs have no fragment.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from openegress.core.errors import invalid

NUMBERS: dict[str, tuple[int, int]] = {
    "latency": (0, 65_535),
    "rcvlatency": (0, 65_535),
    "peerlatency": (0, 65_535),
    "pbkeylen": (0, 32),
    "oheadbw": (5, 100),
    "enforcedencryption": (0, 1),
    "maxbw": (-1, 2**63 - 1),
    "inputbw": (0, 2**63 - 1),
    "conntimeo": (1, 60_000),
    "snddropdelay": (-1, 60_000),
    "nakreport": (0, 1),
    "retransmitalgo": (0, 1),
    "lossmaxttl": (0, 65_535),
    "kmrefreshrate": (0, 2**31 - 1),
    "kmpreannounce": (0, 2**31 - 1),
    "ipttl": (1, 255),
    "iptos": (0, 255),
}
"""Integer parameters with their bounds, under the names of libsrt's own tools and GStreamer (libsrt's
API-socket-options). Times are in ms, of which a handshake carries 16 bits. Bandwidths are in bytes a second;
-1: unlimited."""

KEY_LENGTHS_BYTES = (0, 16, 24, 32)
"""Key lengths of AES; 0: the peer decides."""

_OF_ENCRYPTION = ("pbkeylen", "enforcedencryption", "kmrefreshrate", "kmpreannounce")
"""Parameters that have an effect only with a passphrase, unless they are 0, which asks for nothing."""

_KEY_REFRESH_PACKETS = 2**24
"""How many packets libsrt sends with one key if kmrefreshrate is 0 or missing (API-socket-options)."""

TEXTS: dict[str, tuple[int, int]] = {"passphrase": (10, 79), "streamid": (1, 512), "packetfilter": (1, 512)}
"""Text parameters with the bytes of UTF-8 that libsrt takes."""

FIXED: dict[str, tuple[str, ...]] = {
    "mode": ("caller", "client", "default"),
    "transtype": ("live",),
    "pkt_size": ("1316",),
    "payloadsize": ("1316",),
    "payload_size": ("1316",),
    "tlpktdrop": ("1", "true"),
    "messageapi": ("1", "true"),
}
"""Parameters whose values a sender of live MPEG-TS always has; another value would have no effect."""

_NOT_IN_URLS = re.compile(r"[\s\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class SrtUrl:
    host: str
    port: int
    numbers: dict[str, int]
    texts: dict[str, str]


def parse(url: str) -> SrtUrl:
    """Reads srt://host:port?streamid=... Raises EgressError invalid_argument, which names no secret, for an
    invalid URL and for parameters that would have no effect."""
    if _NOT_IN_URLS.search(url):
        raise invalid("spaces and control characters must be percent-encoded")
    address, _, query = url.partition("?")
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        raise invalid("no port between 1 and 65535") from None
    if not parts.hostname:
        raise invalid("no host")
    if parts.username is not None:
        raise invalid("SRT URLs have no user name; give a passphrase, or u=... in the streamid")
    if parts.path not in ("", "/") or parts.fragment:
        raise invalid("SRT URLs have no path; write srt://host:port?streamid=...")
    if not port:
        raise invalid("no port; write srt://host:port?streamid=...")
    given = _parameters(query)
    for key, value in given.items():
        _check(key, value)
    # In the order of NUMBERS, whatever that of the URL: libsrt lets an option change another one.
    numbers = {key: int(given[key]) for key in NUMBERS if key in given}
    _check_encryption(numbers, has_passphrase="passphrase" in given)
    return SrtUrl(
        parts.hostname,
        port,
        numbers=numbers,
        texts={key: value for key, value in given.items() if key in TEXTS},
    )


def _check_encryption(numbers: dict[str, int], *, has_passphrase: bool) -> None:
    """Raises EgressError for parameters of an encryption that would not be as they say, or would not be."""
    for key in _OF_ENCRYPTION:
        if numbers.get(key) and not has_passphrase:
            raise invalid(f"SRT parameter {key} needs a passphrase: without one, nothing is encrypted")
    most = ((numbers.get("kmrefreshrate") or _KEY_REFRESH_PACKETS) - 1) // 2
    if numbers.get("kmpreannounce", 0) > most:
        raise invalid(f"SRT parameter kmpreannounce must be less than half of kmrefreshrate: at most {most}")


def _parameters(query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise invalid("an SRT parameter without a value; write & as %26 where it belongs to one")
        if key in found:
            raise invalid(f"SRT parameter {_named(key)} is given twice")
        try:
            found[key] = unquote(value, errors="strict")
        except UnicodeDecodeError:
            raise invalid(f"SRT parameter {_named(key)} is not UTF-8") from None
    return found


def _named(key: str) -> str:
    """A key that may be shown: an unknown one may be the end of a secret that contains an "&"."""
    return key if key in (*NUMBERS, *TEXTS, *FIXED) else "{...}"


def _check(key: str, value: str) -> None:
    if key in NUMBERS:
        least, most = NUMBERS[key]
        if not re.fullmatch(r"-?[0-9]{1,19}", value):
            raise invalid(f"SRT parameter {key} must be a whole number")
        if not least <= int(value) <= most:
            unit = " ms" if "latency" in key else ""
            raise invalid(f"SRT parameter {key} must be between {least} and {most}{unit}, not {value}")
        if key == "pbkeylen" and int(value) not in KEY_LENGTHS_BYTES:
            lengths = ", ".join(map(str, KEY_LENGTHS_BYTES))
            raise invalid(f"SRT parameter pbkeylen must be one of {lengths}, not {value}")
    elif key in TEXTS:
        least, most = TEXTS[key]
        try:
            size_bytes = len(value.encode())
        except UnicodeEncodeError:
            raise invalid(f"SRT parameter {key} is not valid Unicode") from None
        if not least <= size_bytes <= most:
            raise invalid(f"SRT parameter {key} must have {least} to {most} bytes, not {size_bytes}")
    elif key == "mode":
        if value not in FIXED[key]:
            raise invalid(f"SRT mode {value!r} is not supported, only caller")
    elif key in FIXED:
        if value not in FIXED[key]:
            raise invalid(f"SRT parameter {key} can only be {FIXED[key][0]}")
    else:
        known = ", ".join(sorted((*NUMBERS, *TEXTS, *FIXED)))
        raise invalid(
            f"an SRT parameter is unknown (known are {known}); write & as %26 where it belongs to a value"
        )
