"""What anybody may see of a plan, and of text about it."""

import json
import types
import typing
from collections.abc import Iterator
from enum import Enum
from typing import Any

import msgspec
import pytest

from openegress.core import plan
from openegress.core.public import SECRET_FIELDS, described, public_text, secrets_of, where

SHOWN_TEXTS = {
    "Plan": "egress_id room_id room_name",
    "WebSource": "url",
    "TemplateSource": "room_name base_url layout ws_url",
    "MediaSource": "room_name ws_url single_track_id participant_identity",
    "TrackVideo": "track_id",
    "ParticipantVideo": "identity",
    "AudioRoute": "value track_name",
    "VideoRoute": "value track_name",
    "DataRoute": "identity topic",
    "Selector": "pattern",
    "LayoutSource": "room_name layout ws_url",
    "LayoutSpec": "name background",
    "Looks": "logo text clock recorded_at speaker_border background",
    "TracksSource": "room_name ws_url",
    "FileOutput": "filepath",
    "TracksFile": "filepath",
    "StoragePlan": "prefix backup_prefix",
    "LocalStorage": "root setting",
    "S3Storage": "bucket assume_role_arn region endpoint tagging content_disposition server_side_encryption"
    " sse_kms_key_id storage_class",
    "Proxy": "url",
    "GCPStorage": "bucket",
    "AzureStorage": "container account_name endpoint",
    "AliOSSStorage": "bucket region endpoint",
    "SegmentOutput": "directory prefix playlist live_playlist",
    "StreamTarget": "redacted id",
    "StreamUpdate": "url error",
    "ImageOutput": "directory prefix",
    "WebsocketOutput": "redacted id",
}
"""Text that a report shows, URLs without what lets others in. Whoever adds a field says which it is."""
HIDDEN_URLS = ["StreamTarget.url", "WebsocketOutput.url"]
"""Shown in their redacted form."""


def structs(kind: Any, found: dict[str, type]) -> dict[str, type]:
    for part in typing.get_args(kind):
        structs(part, found)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__name__ not in found:
        found[kind.__name__] = kind
        for hint in typing.get_type_hints(kind).values():
            structs(hint, found)
    return found


def texts() -> Iterator[str]:
    for name, kind in structs(plan.Plan, {}).items():
        for field, hint in typing.get_type_hints(kind).items():
            if hint is str:
                yield f"{name}.{field}"


def test_each_text_of_a_plan_is_known_to_be_secret_or_not() -> None:
    secret = [name for name in texts() if name.partition(".")[2] in SECRET_FIELDS]
    shown = [f"{kind}.{name}" for kind, names in SHOWN_TEXTS.items() for name in names.split()]
    assert sorted([*shown, *HIDDEN_URLS, *secret]) == sorted(texts())


def filled(kind: Any) -> Any:
    """A value of a type. Of structs all secrets are "s3cret...", and their URLs hold more of them."""
    arguments = typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        return filled(arguments[0])
    if typing.get_origin(kind) is tuple:
        return (filled(arguments[0]),)
    if typing.get_origin(kind) is dict:
        return {}
    if typing.get_origin(kind) is typing.Literal:
        return arguments[0]
    if issubclass(kind, msgspec.Struct):
        hints = typing.get_type_hints(kind).items()
        return kind(**{name: text(name) if hint is str else filled(hint) for name, hint in hints})
    return next(iter(kind)) if issubclass(kind, Enum) else kind()


def text(field: str) -> str:
    if field in SECRET_FIELDS:
        return f"s3cret-{field}"
    if field in ("url", "base_url", "ws_url", "endpoint"):
        return f"https://u:s3cret-pw@host/path?key=s3cret-q#s3cret-f-{field}"
    return f"shown-{field}"


KINDS = [kind for kind in structs(plan.Plan, {}).values() if kind is not plan.Plan]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_secret_of_any_part_is_shown(kind: Any) -> None:
    part = filled(kind)
    whole = msgspec.structs.replace(
        plan.Plan(egress_id="EG_1", source=plan.WebSource("http://a"), outputs=(), video=None, audio=None),
        outputs=(part,),
    )
    assert "s3cret" not in json.dumps(described(whole), default=str)
    assert "s3cret" not in public_text(f"failed: {part!r}", secrets_of(whole))


def test_text_keeps_its_other_words() -> None:
    text = 'GET "https://u:pw@host/a/b?token=x#y": 403, (wss://host/?k) rtmp://h/app'
    assert public_text(text, {"403"}) == 'GET "https://host/a/b": ***, (wss://host/) rtmp://h/app'


@pytest.mark.parametrize(
    "url", ["rtmp://host/app/s3cret-key?a=s3cret-value", "srt://host:1?streamid=s3cret-key&mode=caller"]
)
def test_a_streams_key_is_hidden_by_itself_too(url: str) -> None:
    output = plan.StreamOutput("rtmp", (plan.StreamTarget(url, "rtmp://host/{...}"),))
    whole = plan.Plan("EG_1", plan.WebSource("http://a"), (output,), video=None, audio=None)
    assert public_text("it says s3cret-key, no caller", secrets_of(whole)) == "it says ***, no caller"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://ann:pw@h:8443/p?token=t#x", "https://h:8443/p"),
        ("wss://[::1]:7880/rtc?access_token=t", "wss://[::1]:7880/rtc"),
        ("livekit.example.com", "livekit.example.com"),
        ("http://ann:pass?word@h/p", "***"),
        ("http://ann:pass/word@h/p", "***"),
        ("http://[::1?token=t", "***"),
        ("http://ann:pw@/p", "***"),
        ("ann:pw@h/p", "***"),
        ("/p?token=t", "***"),
    ],
)
def test_where_a_url_leads(url: str, shown: str) -> None:
    assert where(url) == shown


def test_what_follows_a_url_in_a_sentence_is_not_its_own() -> None:
    assert (
        public_text("no answer (http://h:80), or http://h:81.") == "no answer (http://h:80), or http://h:81."
    )
