"""The configuration as the parts of the service are told it."""

import pytest

from openegress.app.worker_config import handler_settings
from openegress.config.load import load
from openegress.config.settings import CLOUD_METADATA
from openegress.source.web.chromium import webrtc_preferences

MORE = [*CLOUD_METADATA, "10.0.0.0/8"]


@pytest.mark.parametrize(
    ("body", "has_udp"),
    [
        ("", True),
        ("deny_networks: []", True),
        ("deny_networks: [169.254.0.0/16]", True),
        (f"deny_networks: {MORE}", False),
        (f"{{deny_networks: {MORE}, page_udp: allow}}", True),
        ("page_udp: deny", False),
    ],
)
def test_pages_have_udp_as_long_as_nothing_that_is_denied_speaks_it(body: str, has_udp: bool) -> None:
    settings = load(body=body.replace("'", '"'), environ={}).settings
    browser = handler_settings(settings).browser
    assert browser.udp is has_udp
    assert ("ip_handling_policy" in webrtc_preferences(browser)) is not has_udp


def test_the_operators_template_has_udp_all_the_same() -> None:
    settings = load(
        body='{page_udp: deny, template_base: "http://u:p@t.example:81/x?y"}', environ={}
    ).settings
    preferences = webrtc_preferences(handler_settings(settings).browser)
    assert preferences["ip_handling_url"] == [{"url": "http://t.example:81", "handling": "default"}]
