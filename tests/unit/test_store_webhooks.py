import base64
import hashlib
import json
import time

import jwt
import pytest
from livekit.api import TokenVerifier, WebhookReceiver
from livekit.protocol.egress import EgressInfo, EgressStatus, FileInfo, WebEgressRequest
from livekit.protocol.models import FilterParams, WebhookConfig

from openegress.config.load import load
from openegress.core.errors import Code, EgressError
from openegress.core.values import Secret
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
    ("webhook", "fallback", "message"),
    [
        (
            WebhookConfig(url="https://a", signing_key="who"),
            "key",
            'no secret for provided signing key "who"',
        ),
        (WebhookConfig(url="https://a"), "", "webhook without signing_key"),
        (WebhookConfig(url="ftp://a", signing_key="key"), "key", 'webhook url "ftp://a" is not an http'),
        (WebhookConfig(url="https://", signing_key="key"), "key", "is not an http"),
        (WebhookConfig(url="https://a b/x", signing_key="key"), "key", "is not an http"),
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
    good = WebhookConfig(url="https://a", signing_key="other")
    check_webhooks([good], KEYS, fallback)
    with pytest.raises(EgressError) as caught:
        check_webhooks([good, webhook], KEYS, fallback)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert message in caught.value.message
    assert "hunter2" not in caught.value.message
