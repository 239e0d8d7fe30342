"""Checks the URLs of pages, makes those of templates, and hides the secrets in them."""

import re
from urllib.parse import unquote_plus, urlencode, urlsplit, urlunsplit

from openegress.core.errors import missing_or_invalid
from openegress.core.plan import TemplateSource
from openegress.core.shown_url import SECRET_NAMES, page_secrets

SCHEMES = ("http", "https")
HIDDEN = "***"
_SECRET_VALUE = re.compile(rf"(?i)([?&#;](?:{SECRET_NAMES})=)[^&#;\s\"'<>)]+")
_USER_INFO = re.compile(r"(?i)(\b[a-z][a-z0-9+.-]*://)[^/@\s\"']+@")
MIN_SECRET_LENGTH = 6
"""Minimum length of a hidden value: hiding shorter ones would hide ordinary words too."""


def check(url: str, field: str = "web url") -> str:
    """Returns the URL. Raises EgressError with upstream's text if a browser may not open it."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise missing_or_invalid(field) from None
    if parts.scheme.lower() not in SCHEMES or not host:
        raise missing_or_invalid(field)
    return url


def template_url(source: TemplateSource) -> str:
    """The base_url with layout, url and token in its query. They replace parameters of the same names; others
    stay byte for byte, as they may be signed."""
    check(source.base_url, "template base url")
    parts = urlsplit(source.base_url)
    given = {"layout": source.layout, "url": source.ws_url, "token": source.token}
    kept = [pair for pair in parts.query.split("&") if pair and _name(pair) not in given]
    return urlunsplit(parts._replace(query="&".join([*kept, urlencode(given)])))


def _name(pair: str) -> str:
    return unquote_plus(pair.partition("=")[0])


def redact(text: str) -> str:
    """Hides the values of secret parameters, and the user part of any URL, in a text."""
    return _USER_INFO.sub(rf"\1{HIDDEN}@", _SECRET_VALUE.sub(rf"\1{HIDDEN}", text))


class Redactor:
    """Hides one page's secrets in every text about it, wherever they occur."""

    def __init__(self, url: str) -> None:
        written = set(page_secrets(url))
        # A secret as it is in the URL, and as the page's scripts read it.
        found = written | {unquote_plus(each) for each in written}
        self._secrets = sorted((v for v in found if len(v) >= MIN_SECRET_LENGTH), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return redact(text)
