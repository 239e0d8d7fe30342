"""Flags of the browser, and what its identity and networks allow."""

from pathlib import Path

import pytest

from openegress.core.errors import EgressError, Phase
from openegress.source.web.chromium import arguments, command_flags
from openegress.source.web.gate import parse_networks

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
def test_flags(overrides, present, absent):
    given = arguments(command_flags(1280, 720, PROFILE, overrides))
    assert set(present) <= set(given)
    assert not set(absent) & set(given)
    assert "--no-sandbox" not in given


def test_features_are_added_to_ours():
    flags = command_flags(16, 16, PROFILE, {"disable-features": "Mine,Translate", "enable-features": "Yours"})
    disabled = str(flags["disable-features"]).split(",")
    assert {"Mine", "Translate", "MediaRouter"} <= set(disabled)
    assert len(disabled) == len(set(disabled))
    assert "Yours" in str(flags["enable-features"]).split(",")


def test_what_is_no_network():
    with pytest.raises(EgressError, match=r"browser\.deny_networks: 'intranet'") as caught:
        parse_networks(["intranet"])
    assert caught.value.phase is Phase.BROWSER_START
