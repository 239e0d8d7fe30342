"""Rules of auto_start that would record nothing."""

from typing import Any

import pytest
import yaml

from openegress.app.auto_start_faults import auto_start_faults
from openegress.cli import main
from openegress.config.finding import Level
from openegress.config.load import load

FILE = [{"filepath": "{room_name}.mp4"}]


def body(egress: dict[str, Any], **more: Any) -> str:
    rules = [{"rooms": ["class-*", "[ab]?"], "egress": egress}]
    keys = {"api_key": "devkey", "api_secret": "a-secret-of-at-least-32-characters"}
    return yaml.safe_dump({**keys, "ws_url": "ws://localhost:7880", "auto_start": rules, **more})


def found(egress: dict[str, Any], **more: Any) -> list[tuple[Level, str, str]]:
    settings = load(body=body(egress, **more), environ={}).settings
    return [(each.level, each.path, each.text) for each in auto_start_faults(settings)]


@pytest.mark.parametrize(
    ("egress", "path", "text"),
    [
        (
            {"room": {"layout": "speaker?max_duratoin=1h", "file_outputs": FILE}},
            "auto_start[0].egress.room",
            "layout.max_duratoin: unknown key; did you mean max_duration?",
        ),
        ({"room": {"layout": "speaker"}}, "auto_start[0].egress.room", "missing or invalid field: output"),
        (
            {"room": {"file_outputs": FILE}, "participant": {"file_outputs": [*FILE, *FILE]}},
            "auto_start[0].egress.participant",
            "multiple file outputs",
        ),
        ({"tracks": {"filepath": "x", "s3": {}}}, "auto_start[0].egress.tracks", "s3 bucket"),
    ],
)
def test_a_rule_that_no_worker_would_carry_out(egress: dict[str, Any], path: str, text: str) -> None:
    """By what the worker would say to its request; a warning where the worker is another process."""
    ((level, where, why),) = found(egress)
    assert (level, where) == (Level.ERROR, path) and text in why
    assert main(["config", "check", "--config-body", body(egress)]) == 1
    elsewhere = found(egress, redis={"address": "localhost:6379"})
    assert [(each[0], each[1]) for each in elsewhere] == [(Level.WARNING, path)]


def test_a_rule_that_records_something_else_than_it_says() -> None:
    ((level, where, why),) = found({"room": {"layout": "Speaker", "file_outputs": FILE}})
    assert (level, where) == (Level.WARNING, "auto_start[0].egress.room")
    assert why.startswith("layout 'Speaker' is unknown and taken for grid")


def test_rules_that_are_fine() -> None:
    tracks = {"filepath": "tracks/{room_name}/{publisher_identity}-{track_source}"}
    assert (
        found({"room": {"file_outputs": FILE}, "participant": {"file_outputs": FILE}, "tracks": tracks}) == []
    )
