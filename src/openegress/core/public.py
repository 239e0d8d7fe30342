"""What anybody may see: where a URL leads, and a plan without anything that gives access. Pure."""

import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from openegress.core.plan import Plan, TemplateSource, WebsocketOutput, WebSource
from openegress.core.shown_url import page_secrets, path_of, redact_endpoint, redact_page
from openegress.core.storages import Proxy

SECRET_FIELDS = frozenset(
    {
        "access_key",
        "account_key",
        "assume_role_external_id",
        "credentials",
        "password",
        "sas_token",
        "secret",
        "session_token",
        "token",
        "username",
    }
)
"""Fields of a plan's structs that hold secrets."""
HIDDEN = "***"

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>`]*[^\s\"'<>`.,:;)]")
"""Punctuation that follows a URL in a text is not part of it."""
_STARTS_AS_URL = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*://")
MIN_SECRET_CHARS = 4
"""Shorter secrets are not replaced in texts, as they occur in many words."""
_MIN_VALUE_CHARS = 8
"""Minimum length of a secret value in a query; shorter ones include words such as "publish"."""


def public(value: Any) -> Any:
    """Reduces each URL in JSON to where it leads. Its user, query and fragment may give access: they hold a
    page's token, a webhook's key, a storage's signature."""
    match value:
        case dict():
            return {name: public(one) for name, one in value.items()}
        case list() | tuple():
            return [public(one) for one in value]
        case str() if _STARTS_AS_URL.match(value):
            return where(value)
        case str():
            return public_text(value)
        case _:
            return value


def where(url: str) -> str:
    """Where a URL leads: without its user, query and fragment. HIDDEN for a damaged URL, as nobody can tell
    where its secrets are: no scheme or host, or an invalid port ("http://user:pass?word@host"). Text that is
    not a URL, such as a bare host, stays as it is."""
    if "://" not in url and not any(mark in url for mark in "@?#"):
        return url
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return HIDDEN
    host = parts.netloc.rpartition("@")[2]
    if not parts.scheme or not host.removesuffix(port):
        return HIDDEN
    return f"{parts.scheme}://{host}{parts.path}"


def public_text(text: str, secrets: Iterable[str] = ()) -> str:
    """Text in which URLs and secrets may occur."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _URL.sub(lambda found: where(found[0]), text)


def described(plan: Plan) -> dict[str, Any]:
    """The plan as JSON, without secrets."""
    shown = public(_described(plan))
    assert isinstance(shown, dict)
    return shown


def secrets_of(plan: Plan) -> frozenset[str]:
    """All texts of a plan that must not be shown anywhere."""
    return frozenset(secret for secret in _secrets(plan) if len(secret) >= MIN_SECRET_CHARS)


def _described(value: Any) -> Any:
    match value:
        case msgspec.Struct():
            kind = {"type": value.__struct_config__.tag} if value.__struct_config__.tag else {}
            return kind | {
                name: HIDDEN if name in SECRET_FIELDS and one else _described(_shown(value, name, one))
                for name, one in msgspec.structs.asdict(value).items()
                if not (name == "url" and hasattr(value, "redacted"))
            }
        case dict():
            return {str(name): _described(one) for name, one in value.items()}
        case list() | tuple():
            return [_described(one) for one in value]
        case _:
            return value


def _shown(owner: msgspec.Struct, name: str, value: Any) -> Any:
    """What may be shown of the URL of a page or a proxy."""
    match owner:
        case WebSource() | TemplateSource() if name in ("url", "base_url"):
            return redact_page(value)
        case Proxy() if name == "url":
            return redact_endpoint(value)
        case _:
            return value


def _secrets(value: Any) -> Iterator[str]:
    match value:
        case msgspec.Struct():
            for name, one in msgspec.structs.asdict(value).items():
                if name in SECRET_FIELDS and isinstance(one, str):
                    yield one
                elif name == "url" and hasattr(value, "redacted"):
                    yield one
                    yield _key_of(one)
                    yield from _secrets_of_url(one)
                    if isinstance(value, WebsocketOutput):
                        yield path_of(one)
                elif isinstance(value, Proxy) and name == "url":
                    yield path_of(one)
                    yield from _secrets_of_url(one)
                elif isinstance(one, str) and "://" in one:
                    yield from _secrets_of_url(one)
                else:
                    yield from _secrets(one)
        case list() | tuple():
            for one in value:
                yield from _secrets(one)
        case _:
            return


def _secrets_of_url(url: str) -> Iterator[str]:
    """Its password, query and tokens, which a log may quote by themselves."""
    yield from page_secrets(url)
    rest = url.partition("://")[2]
    where, *hidden = re.split(r"[?#]", rest, maxsplit=1)
    for query in hidden:
        yield query
        yield from (value for _, value in parse_qsl(query) if len(value) >= _MIN_VALUE_CHARS)
    user, at, _ = where.partition("/")[0].rpartition("@")
    if at:
        yield user


def _key_of(url: str) -> str:
    """The last part of a stream's path, which servers use as its key."""
    return re.split(r"[?#]", url.partition("://")[2], maxsplit=1)[0].partition("/")[2].rpartition("/")[2]
