"""What a service warns of when it starts."""

import argparse

import pytest
from structlog.testing import capture_logs

from openegress.app import log
from openegress.cli import core_files, descriptors, serve
from openegress.config.settings import Settings
from openegress.core import lookup_loop


@pytest.mark.parametrize("insecure", [False, True])
def test_unchecked_certificates_are_logged(monkeypatch: pytest.MonkeyPatch, insecure: bool) -> None:
    monkeypatch.setattr(serve, "settings_of", lambda arguments: (Settings(insecure=insecure), ()))
    monkeypatch.setattr(lookup_loop, "run", lambda served: served.close())
    for module, name in ((core_files, "forbid"), (descriptors, "allow")):
        monkeypatch.setattr(module, name, lambda: None)
    monkeypatch.setattr(log, "configure", lambda logging: None)
    with capture_logs() as lines:
        assert serve.worker(argparse.Namespace()) == 0
    told = [line["event"] for line in lines if line["log_level"] == "warning"]
    text = (
        "insecure: certificates of pages and of the LiveKit server are not checked: others may pose as them"
    )
    assert told == ([text] if insecure else [])
