"""URLs of pages: accepted, put together, redacted."""

import pytest

from openegress.core.errors import Code, EgressError
from openegress.core.plan import TemplateSource
from openegress.source.web.url import Redactor, check, redact, template_url

TOKEN = "eyJhbGciOi.J9c2Vj.cmV0"


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("http://h/t", "http://h/t?layout=grid&url=wss%3A%2F%2Flk%3A443&token=eyJhbGciOi.J9c2Vj.cmV0"),
        (
            "http://h/t/?theme=a+b&token=old&x=",
            "http://h/t/?theme=a+b&x=&layout=grid&url=wss%3A%2F%2Flk%3A443&token=eyJhbGciOi.J9c2Vj.cmV0",
        ),
        (
            "http://h/?name=M%FCller&sig=%7E/=&debug&%74oken=old",
            "http://h/?name=M%FCller&sig=%7E/=&debug&layout=grid&url=wss%3A%2F%2Flk%3A443&token=" + TOKEN,
        ),
        ("https://h/#/r", "https://h/?layout=grid&url=wss%3A%2F%2Flk%3A443&token=eyJhbGciOi.J9c2Vj.cmV0#/r"),
    ],
)
def test_template_url(base: str, expected: str) -> None:
    source = TemplateSource(room_name="r", base_url=base, layout="grid", ws_url="wss://lk:443", token=TOKEN)
    assert template_url(source) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h/t",
        "file:///etc/passwd",
        "chrome://version",
        "javascript:alert(1)",
        "http://",
        "http://[::1",
        "http://h:x",
    ],
)
def test_what_is_no_page_is_refused(url: str) -> None:
    with pytest.raises(EgressError) as caught:
        check(url)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message == "request has missing or invalid field: web url"


@pytest.mark.parametrize("url", ["http://h", "https://h:8443/p?q#f", "HTTP://[::1]:80/"])
def test_what_is_a_page_is_taken_as_it_is(url: str) -> None:
    assert check(url) == url


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET http://h/?a=1&token=abc&b=2 failed", "GET http://h/?a=1&token=***&b=2 failed"),
        ("wss://h/rtc?access_token=abc.def", "wss://h/rtc?access_token=***"),
        ("http://h/#Token=abc", "http://h/#Token=***"),
        ("http://me:pass@h/", "http://***@h/"),
        ("http://h/?tokens=3", "http://h/?tokens=3"),
        ("plain", "plain"),
    ],
)
def test_redaction(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_a_pages_secrets_are_hidden_wherever_they_turn_up() -> None:
    hide = Redactor(f"http://u:hunter22@h/?token={TOKEN}&layout=grid")
    assert hide(f"bad token {TOKEN}, user hunter22, layout grid") == "bad token ***, user ***, layout grid"
