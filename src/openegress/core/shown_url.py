"""Redacts URLs wherever they leave the service: EgressInfo, events, log, errors, dashboard. Pure.

Any part of a URL but its host may let others in. A webhook's or a WebSocket's path is often its only key
(https://hooks.example/T000/B000/XXXX), so of a receiver's path no more is shown than of a stream key. A
page's path says which page it is; of it only what nobody would choose as a word is hidden.
"""

import re
from collections.abc import Iterator

HIDDEN = "{...}"

SECRET_NAMES = (
    r"(?:[\w-]*[_-])?(?:access_?|auth_?|id_?|refresh_?)?(?:token|api_?(?:key|secret)|secret|key|password|pass"
    r"|passphrase|passwd|pwd|signature|sig|jwt|credentials?|session_?id)"
)
"""Parameters whose value gives access."""

_URL = re.compile(r"([a-z][a-z0-9+.-]*://|)([^/?#]*)(/[^?#]*|)([?#].*|)", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(r"(?:(.*)@)?((?:\[[^\[\]\s]*\]|[^:@\[\]\s]*)(?::\d*)?)", re.DOTALL)
_ALREADY = re.compile(r"\{\S{0,3}\.\.\.\S{0,3}\}")
_PAIR = re.compile(r"[^&]+")
_NAME = re.compile(r"[\w.~%+\[\]-]+")
_NAMED = re.compile(rf"(?<=[?&#;/])({SECRET_NAMES})=([^&#;]*)", re.IGNORECASE)
_WORD = re.compile(r"[^/?&#;=\s]+")
_RUN = re.compile(r"[A-Za-z0-9]+")
_HEX = re.compile(r"(?=.*[0-9])(?=.*[a-f])[0-9a-f-]{16,}", re.IGNORECASE)
_MIN_ENDS_CHARS = 16
"""The length from which the ends of a path are shown: they would be half of a shorter one."""
_MIN_RUN_CHARS = 12
_MIN_LETTERS = 32


def redact_endpoint(url: str) -> str:
    """For a webhook, WebSocket, proxy or server: scheme, host, port, and the names of its parameters. Of a
    long path it shows the first and last three characters, which tell two receivers apart. Idempotent; takes
    any text."""
    scheme, user, host, path, tail = _parts(url)
    return f"{scheme}{user}{host}{_path(path)}{redact_query(tail)}"


def redact_query(tail: str) -> str:
    """The names of parameters in "?..."; nothing of a fragment, nor of a query with an "@": it may end a
    password that has a "?"."""
    if len(tail) > 1 and (tail[0] == "#" or "@" in tail):
        return f"{tail[0]}{HIDDEN}"
    return tail[:1] + _PAIR.sub(lambda found: _pair(found[0]), tail[1:])


def redact_page(url: str) -> str:
    """For a web page: without its user, the values of parameters with names of secrets, and words of path,
    query and fragment that look like tokens. Idempotent; takes any text."""
    scheme, user, host, path, tail = _parts(url)
    rest = _NAMED.sub(lambda found: f"{found[1]}={HIDDEN}" if found[2] else found[0], path + tail)
    rest = _WORD.sub(lambda found: HIDDEN if is_token(found[0]) else found[0], rest)
    return f"{scheme}{user}{host}{rest}"


def page_secrets(url: str) -> Iterator[str]:
    """The parts of a URL that redact_page() hides."""
    match = _URL.fullmatch(url)
    assert match is not None, "it matches any text"
    yield from re.split("[:@]", match[2].rpartition("@")[0])
    rest = match[3] + match[4]
    yield from (found[2] for found in _NAMED.finditer(rest))
    yield from (found[0] for found in _WORD.finditer(rest) if is_token(found[0]))


def path_of(url: str) -> str:
    """A receiver's path, which may be its key, without the slashes around it."""
    match = _URL.fullmatch(url)
    assert match is not None, "it matches any text"
    return match[3].strip("/")


def redact_identifier(secret: str) -> str:
    """{abc...xyz}: 3, 2 or 1 characters of each end, from a length of 9, 6 or 3; otherwise {...}."""
    if _ALREADY.fullmatch(secret):
        return secret
    kept = min(len(secret) // 3, 3)
    head, tail = secret[:kept], secret[len(secret) - kept :]
    if "/" in tail:  # of a key's query: read again, it would pass for the end of the application
        head = tail = ""
    return f"{{{head}...{tail}}}"


def is_token(word: str) -> bool:
    """Whether a word looks generated: random letters and digits, hexadecimal, or very long."""
    runs = _RUN.findall(word)
    return bool(_HEX.fullmatch(word)) or any(
        (len(run) >= _MIN_RUN_CHARS and not run.isalpha() and not run.isdigit()) or len(run) >= _MIN_LETTERS
        for run in runs
    )


def _parts(url: str) -> tuple[str, str, str, str, str]:
    """(scheme, user, host, path, tail), of which the user is hidden. Where the host cannot be identified
    ("http://user:pass?word@host"), it and everything behind it are hidden."""
    match = _URL.fullmatch(url)
    assert match is not None, "it matches any text"
    scheme, authority, path, tail = match.groups()
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        return scheme, "", HIDDEN, "", ""
    return scheme, f"{HIDDEN}@" if parts[1] is not None else "", parts[2], path, tail


def _path(path: str) -> str:
    inner = path.strip("/")
    if not inner:
        return path
    if (len(inner) < _MIN_ENDS_CHARS and not _ALREADY.fullmatch(inner)) or any(c.isspace() for c in inner):
        return f"/{HIDDEN}"
    return f"/{redact_identifier(inner)}"


def _pair(pair: str) -> str:
    """The name of a parameter. A word without a name may be a key itself, and other text a part of one."""
    name, equals, _ = pair.partition("=")
    return f"{name}={HIDDEN}" if equals and _NAME.fullmatch(name) and not is_token(name) else HIDDEN
