"""Which URLs can be those of web pages, webhooks and proxies."""

import pytest

from openegress.core.http_url import is_http


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "HTTPS://Host.example:443/x?y#z",
        "http://user:word@h/",
        "http://[2001:db8::1]:80/x",
        "http://h./a b",
        "http://bücher.example/",
        f"http://{'a' * 63}.example/",
    ],
)
def test_what_can_be_opened(url: str) -> None:
    assert is_http(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h",
        "//h/x",
        "ftp://h",
        "http://",
        "http:///x",
        "http://:80/x",
        "http://h:0/",
        "http://h:65536/",
        "http://h:x/",
        "http://[::1",
        "http://a b/",
        "http://a%20b/",
        "http://a\\b/",
        "http://user:wo/rd@h/",
        "http://h\\@a/",
        " http://h/",
        "http://h/ ",
        "http://h/\n",
        "ht\ttp://h/",
        "http://h/a\rb",
        "http://a..b/",
        "http://.a/",
        f"http://{'a' * 64}.example/",
        f"http://{'a.' * 127}a/",
    ],
)
def test_what_cannot(url: str) -> None:
    assert not is_http(url)
