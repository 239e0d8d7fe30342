"""Flags of the browser, and what its identity and networks allow."""

from pathlib import Path

import pytest

from openegress.core.errors import EgressError, Phase
from openegress.core.ipc import BrowserSettings
from openegress.source.web.chromium import arguments, command_flags
from openegress.source.web.filtering_proxy import parse_networks

PROFILE = Path("/run/profile")


@pytest.mark.parametrize(
    ("overrides", "present", "absent"),
    [
        ({}, ["--kiosk", "--disable-gpu", "--window-size=1280,720", "--user-data-dir=/run/profile"], []),
        ({"disable-gpu": None}, [], ["--disable-gpu"]),
        ({"--disable-gpu": False}, [], ["--disable-gpu"]),
        ({"use-gl": "angle"}, ["--use-gl=angle"], []),
        ({"incognito": True}, ["--incognito"], []),
        ({"password-store": "gnome"}, ["--password-store=gnome"], ["--password-store=basic"]),
        (
            {"user-data-dir": "/home/me", "remote-debugging-pipe": None},
            ["--remote-debugging-pipe"],
            ["--user-data-dir=/home/me"],
        ),
    ],
)
def test_flags(overrides: dict[str, str | bool | None], present: list[str], absent: list[str]) -> None:
    given = arguments(command_flags(BrowserSettings(flags=overrides), 1280, 720, PROFILE))
    assert set(present) <= set(given)
    assert not set(absent) & set(given)
    assert "--no-sandbox" not in given


def test_no_flag_leads_round_our_own_proxy() -> None:
    flags = BrowserSettings(flags={"proxy-bypass-list": "*"})
    given = arguments(command_flags(flags, 16, 16, PROFILE, "socks5://127.0.0.1:1"))
    assert {"--proxy-server=socks5://127.0.0.1:1", "--proxy-bypass-list=<-loopback>"} <= set(given)
    assert "--proxy-bypass-list=*" not in given


def test_features_are_added_to_ours() -> None:
    features: dict[str, str | bool | None] = {
        "disable-features": "Mine,Translate",
        "enable-features": "Yours",
    }
    flags = command_flags(BrowserSettings(flags=features), 16, 16, PROFILE)
    disabled = str(flags["disable-features"]).split(",")
    assert {"Mine", "Translate", "MediaRouter"} <= set(disabled)
    assert len(disabled) == len(set(disabled))
    assert "Yours" in str(flags["enable-features"]).split(",")


def test_an_insecure_page_may_reach_what_has_no_tls() -> None:
    assert "--allow-running-insecure-content" in arguments(
        command_flags(BrowserSettings(insecure=True), 16, 16, PROFILE)
    )
    assert "allow-running-insecure-content" not in command_flags(BrowserSettings(), 16, 16, PROFILE)


def test_what_is_no_network() -> None:
    with pytest.raises(EgressError, match=r"^deny_networks: 'intranet'") as caught:
        parse_networks(["intranet"])
    assert caught.value.phase is Phase.BROWSER_START
