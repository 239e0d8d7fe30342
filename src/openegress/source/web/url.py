"""URLs of pages: which may be recorded, how a template's is made, how one is shown without secrets."""

import re
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit, urlunsplit

from openegress.core.errors import missing_or_invalid
from openegress.core.plan import TemplateSource
from openegress.core.shown_url import SECRET_NAMES, page_secrets

SCHEMES = ("http", "https")
HIDDEN = "***"
_SECRET_VALUE = re.compile(rf"(?i)([?&#;](?:{SECRET_NAMES})=)[^&#;\s\"'<>)]+")
_USER_INFO = re.compile(r"(?i)(\b[a-z][a-z0-9+.-]*://)[^/@\s\"']+@")
MIN_SECRET_LENGTH = 6
"""Hiding shorter values would hide ordinary words too."""


def check(url: str, field: str = "web url") -> str:
    """The URL, or EgressError with upstream's text when it is none that a browser may be sent to."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise missing_or_invalid(field) from None
    if parts.scheme.lower() not in SCHEMES or not host:
        raise missing_or_invalid(field)
    return url


def template_url(source: TemplateSource) -> str:
    """base_url with layout, url and token in its query, in place of any it had by these names."""
    check(source.base_url, "template base url")
    parts = urlsplit(source.base_url)
    given = {"layout": source.layout, "url": source.ws_url, "token": source.token}
    kept = [(k, v) for k, v in parse_qsl(parts.query, keep_blank_values=True) if k not in given]
    return urlunsplit(parts._replace(query=urlencode([*kept, *given.items()])))


def redact(text: str) -> str:
    """Text with the values of secret parameters and the user part of any URL in it hidden."""
    return _USER_INFO.sub(rf"\1{HIDDEN}@", _SECRET_VALUE.sub(rf"\1{HIDDEN}", text))


class Redactor:
    """Hides one page's secrets in whatever is said about it, wherever they turn up."""

    def __init__(self, url: str) -> None:
        written = set(page_secrets(url))
        # As it is in the URL, and as the page's scripts read it.
        found = written | {unquote_plus(each) for each in written}
        self._secrets = sorted((v for v in found if len(v) >= MIN_SECRET_LENGTH), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return redact(text)
