import base64
import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from google.protobuf import json_format
from livekit.api import TokenVerifier, WebhookReceiver
from livekit.protocol.egress import EgressInfo, EgressStatus, FileInfo, WebEgressRequest
from livekit.protocol.models import FilterParams, WebhookConfig

from openegress.config.load import load
from openegress.core.errors import Code, EgressError
from openegress.core.values import Secret
from openegress.proto import today
from openegress.store import Change
from openegress.store.webhooks import Webhooks, body_of, check_webhooks, events_of, sign

STARTING, ACTIVE, ENDING = (
    EgressStatus.EGRESS_STARTING,
    EgressStatus.EGRESS_ACTIVE,
    EgressStatus.EGRESS_ENDING,
)
COMPLETE = EgressStatus.EGRESS_COMPLETE
NOW_S = 1_780_000_000
KEYS = {
    "key": Secret("secret-of-key-0123456789-0123456789"),
    "other": Secret("another-0123456789-0123456789-01"),
}


@pytest.mark.parametrize(
    ("change", "status", "events"),
    [
        (Change.NEW, STARTING, ("egress_started",)),
        (Change.NEW, ACTIVE, ("egress_started", "egress_updated")),
        (Change.NEW, EgressStatus.EGRESS_FAILED, ("egress_ended",)),
        (Change.UPDATED, STARTING, ()),
        (Change.UPDATED, ACTIVE, ("egress_updated",)),
        (Change.UPDATED, ENDING, ("egress_updated",)),
        (Change.ENDED, COMPLETE, ("egress_ended",)),
        (Change.ENDED, EgressStatus.EGRESS_LIMIT_REACHED, ("egress_ended",)),
        (Change.REVISED, COMPLETE, ("egress_updated",)),
        (Change.STALE, COMPLETE, ()),
    ],
)
def test_events(change: Change, status: EgressStatus, events: tuple[str, ...]) -> None:
    assert events_of(change, EgressInfo(status=status)) == events


def test_body() -> None:
    info = EgressInfo(
        egress_id="EG_1", room_id="RM_1", room_name="röom", status=COMPLETE, started_at=NOW_S * 10**9,
        file_results=[FileInfo(filename="a.mp4", duration=5_000_000_000)],
    )  # fmt: skip
    assert json.loads(body_of("egress_ended", info, "EV_1", NOW_S)) == {
        "event": "egress_ended",
        "id": "EV_1",
        "createdAt": "1780000000",
        "room": {"sid": "RM_1", "name": "röom"},
        "egressInfo": {
            "egressId": "EG_1",
            "roomId": "RM_1",
            "roomName": "röom",
            "status": "EGRESS_COMPLETE",
            "startedAt": "1780000000000000000",
            "fileResults": [{"filename": "a.mp4", "duration": "5000000000"}],
        },
    }


def test_a_started_event_has_no_status_and_a_web_egress_an_empty_room() -> None:
    info = EgressInfo(egress_id="EG_1", status=STARTING, web=WebEgressRequest(url="https://x"))
    body = json.loads(body_of("egress_started", info, "EV_1", NOW_S))
    assert body["egressInfo"] == {"egressId": "EG_1", "web": {"url": "https://x"}}
    assert body["room"] == {}


def test_signature() -> None:
    body = b'{"event":"egress_started"}'
    token = sign(body, "key", KEYS["key"], NOW_S)
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}
    claims = jwt.decode(
        token, KEYS["key"].reveal(), algorithms=["HS256"], options={"verify_nbf": False, "verify_exp": False}
    )
    assert claims == {
        "iss": "key",
        "nbf": NOW_S,
        "exp": NOW_S + 300,
        "sha256": base64.b64encode(hashlib.sha256(body).digest()).decode(),
    }


def announcer(config: str) -> Webhooks:
    settings = load(body=config, environ={}).settings
    return Webhooks(settings, now_ns=lambda: NOW_S * 10**9)


PROJECT = """
api_key: key
api_secret: secret-of-key-0123456789-0123456789
keys: {other: another-0123456789-0123456789-01}
webhook: {urls: [https://a, https://b]}
"""


def asks_for(*webhooks: WebhookConfig, status: EgressStatus = STARTING) -> EgressInfo:
    return EgressInfo(egress_id="EG_1", status=status, web=WebEgressRequest(webhooks=webhooks))


def test_project_and_request_get_the_same_event() -> None:
    own = WebhookConfig(url="https://c", signing_key="other")
    deliveries = announcer(PROJECT).announce(Change.NEW, asks_for(own, WebhookConfig(url="https://d")))
    assert [(d.url, d.signing_key, d.event) for d in deliveries] == [
        ("https://c", "other", "egress_started"),
        ("https://d", "key", "egress_started"),
        ("https://a", "key", "egress_started"),
        ("https://b", "key", "egress_started"),
    ]
    assert len({d.body for d in deliveries}) == 1
    event = WebhookReceiver(TokenVerifier("key", KEYS["key"].reveal())).receive(
        deliveries[0].body.decode(), sign(deliveries[0].body, "key", KEYS["key"], int(time.time()))
    )
    assert (event.event, event.created_at, event.egress_info.egress_id) == ("egress_started", NOW_S, "EG_1")
    assert event.id.startswith("EV_")


@pytest.mark.parametrize(
    ("lists", "started", "ended"),
    [
        ("", True, True),
        ("include_events: [egress_ended]", False, True),
        ("exclude_events: [egress_ended]", True, False),
        ("include_events: [egress_ended], exclude_events: [egress_ended]", False, True),
    ],
)
def test_events_are_chosen_per_project(lists: str, started: bool, ended: bool) -> None:
    webhooks = announcer(PROJECT.replace("https://b]", "https://b], " + lists))
    assert bool(webhooks.announce(Change.NEW, asks_for())) is started
    assert bool(webhooks.announce(Change.ENDED, asks_for(status=COMPLETE))) is ended


def test_events_are_chosen_per_request() -> None:
    webhooks = announcer("api_key: key\napi_secret: s")
    own = WebhookConfig(url="https://c", filter_params=FilterParams(include_events=["egress_ended"]))
    assert not webhooks.announce(Change.NEW, asks_for(own))
    assert webhooks.announce(Change.ENDED, asks_for(own, status=COMPLETE))


@pytest.mark.parametrize(
    ("project", "webhooks", "told"),
    [
        ("", [{"url": "https://a"}, {"url": "https://a"}], [("https://a", "key")]),
        (
            "",
            [{"url": "https://a", "signing_key": "other"}],
            [("https://a", "other"), ("https://a", "key")],
        ),
        ("include_events: [egress_ended]", [{"url": "https://a"}], [("https://a", "key")]),
        (
            "",
            [
                {"url": "https://a", "filter_params": {"include_events": ["egress_ended"]}},
                {"url": "https://a", "filter_params": {"exclude_events": ["egress_started"]}},
            ],
            [("https://a", "key")],
        ),
    ],
)
def test_a_url_that_is_asked_for_twice(
    project: str, webhooks: list[dict[str, Any]], told: list[tuple[str, str]]
) -> None:
    """It is told once by each key, of what any of them asks for."""
    config = PROJECT.replace("urls: [https://a, https://b]", f"urls: [https://a], {project}")
    asked = [json_format.ParseDict(each, WebhookConfig()) for each in webhooks]
    deliveries = announcer(config).announce(Change.NEW, asks_for(*asked))
    assert [(each.url, each.signing_key) for each in deliveries] == told


HOOK = {
    "url": "https://c",
    "signing_key": "key",
    "filter_params": {"include_events": ["egress_started"], "exclude_events": ["egress_ended"]},
}
CHANGED = {
    "url": "https://d",
    "signing_key": "other",
    "filter_params.include_events": ["egress_ended"],
    "filter_params.exclude_events": ["egress_started"],
}


def test_every_field_of_a_webhook_has_an_effect() -> None:
    def leaves(kind: Any, path: str = "") -> Iterator[str]:
        for field in kind.fields:
            inner = field.message_type
            yield from leaves(inner, f"{path}{field.name}.") if inner else (f"{path}{field.name}",)

    newest = today.kind_of("livekit.WebhookConfig").DESCRIPTOR
    assert set(leaves(newest)) == set(CHANGED)
    for path, value in CHANGED.items():
        base = json.loads(json.dumps(HOOK))
        if path.endswith("exclude_events"):
            base["filter_params"].pop("include_events")  # it wins
        changed = json.loads(json.dumps(base))
        owner, name = (changed["filter_params"], path.partition(".")[2]) if "." in path else (changed, path)
        owner[name] = value
        told = [
            [
                (each.url, each.signing_key)
                for each in announcer("api_key: key\napi_secret: s").announce(Change.NEW, asks_for(asked))
            ]
            for asked in (json_format.ParseDict(each, WebhookConfig()) for each in (base, changed))
        ]
        assert told[0] != told[1], path


@pytest.mark.parametrize(
    ("webhook", "fallback", "message"),
    [
        (
            WebhookConfig(url="https://a", signing_key="who"),
            "key",
            "no secret for provided signing key {w...o}: name an API key of this server",
        ),
        (
            WebhookConfig(url="https://a", signing_key="hunter2-and-more"),
            "key",
            "no secret for provided signing key {hun...ore}: name",
        ),
        (WebhookConfig(url="https://a"), "", "webhook without signing_key"),
        (WebhookConfig(url="ftp://a", signing_key="key"), "key", 'webhook url "ftp://a" is not an http'),
        (WebhookConfig(url="https://", signing_key="key"), "key", "is not an http"),
        (WebhookConfig(url="https://a b/x", signing_key="key"), "key", "is not an http"),
        *(
            (WebhookConfig(url=f"https://{host}/x", signing_key="key"), "key", "is not an http")
            for host in ("127.1", "2130706433", "127.0.0.01", "h\\@h", "h\u00adh")
        ),
        (
            WebhookConfig(url="https://a", filter_params=FilterParams(include_events=["egress_end"])),
            "key",
            'no event is called "egress_end"; those of an egress are egress_started,',
        ),
        (
            WebhookConfig(url="https://a", filter_params=FilterParams(exclude_events=["egress\nupdated"])),
            "key",
            'no event is called "egress\\nupdated"',
        ),
        (
            WebhookConfig(url="https://a", filter_params=FilterParams(include_events=["room_started"])),
            "key",
            "include_events has no event of an egress",
        ),
        (
            WebhookConfig(url="https://[hunter2/", signing_key="key"),
            "key",
            'webhook url "https://{...}" is not an http',
        ),
        (
            WebhookConfig(url="https://a:hunter2/", signing_key="key"),
            "key",
            'webhook url "https://{...}" is not an http',
        ),
        (
            WebhookConfig(url="x://u:hunter2@a/?t=hunter2", signing_key="key"),
            "",
            'webhook url "x://{...}@a/?t={...}" is not an http',
        ),
    ],
)
def test_what_could_not_be_delivered_is_refused_at_once(
    webhook: WebhookConfig, fallback: str, message: str
) -> None:
    events = FilterParams(include_events=["room_started", "egress_ended"], exclude_events=["room_finished"])
    good = WebhookConfig(url="https://a", signing_key="other", filter_params=events)
    check_webhooks([good], KEYS, fallback)
    with pytest.raises(EgressError) as caught:
        check_webhooks([good, webhook], KEYS, fallback)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert message in caught.value.message
    assert "hunter2" not in caught.value.message
