"""Decides which webhook events a change of a record requires, who gets them, and how they are signed.

Names, body and signature are livekit-server's (livekit/protocol webhook/): JSON in lowerCamelCase without
defaults, and a JWT whose claim sha256 is the standard base64 of the body's SHA-256.
"""

import base64
import hashlib
import json
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import jwt
from google.protobuf import json_format
from livekit.protocol.egress import EgressInfo, EgressStatus
from livekit.protocol.models import Room, WebhookConfig
from livekit.protocol.webhook import WebhookEvent

from openegress.config.settings import Settings
from openegress.core.errors import invalid
from openegress.core.exact_url import can_be_sent
from openegress.core.http_url import is_http
from openegress.core.ids import new_id
from openegress.core.info import is_terminal
from openegress.core.shown_url import redact_endpoint, redact_identifier
from openegress.core.text import shown
from openegress.core.values import Secret
from openegress.proto.today import today
from openegress.request import redact
from openegress.store import Change, Delivery

STARTED, UPDATED, ENDED = "egress_started", "egress_updated", "egress_ended"

_OTHER_EVENTS = frozenset(
    (
        *("room_started", "room_finished", "track_published", "track_unpublished"),
        *("participant_joined", "participant_left", "participant_connection_aborted"),
        *("ingress_started", "ingress_ended"),
    )
)
"""Events of livekit-server that are not about egresses (livekit/protocol webhook/): filters may name them."""

HEADERS = {"Content-Type": "application/webhook+json", "User-Agent": "LiveKit"}

TOKEN_TTL_S = 300

MAX_WEBHOOKS = 20
"""Limit for webhooks of one request, as each gets every event, with retries."""


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """One URL that gets events: those of `include`, or all except those of `exclude` if `include` is
    empty."""

    url: str
    signing_key: str
    include: frozenset[str] = frozenset()
    exclude: frozenset[str] = frozenset()

    def wants(self, event: str) -> bool:
        if self.include:
            return event in self.include
        return event not in self.exclude


def events_of(change: Change, info: EgressInfo) -> tuple[str, ...]:
    """The events for a change. A record ends once; later changes are updates."""
    match change:
        case Change.NEW if is_terminal(info):
            return (ENDED,)
        case Change.NEW if info.status == EgressStatus.EGRESS_STARTING:
            return (STARTED,)
        case Change.NEW:
            return (STARTED, UPDATED)
        case Change.ENDED:
            return (ENDED,)
        case Change.REVISED:
            return (UPDATED,)
        case Change.UPDATED if info.status != EgressStatus.EGRESS_STARTING:
            return (UPDATED,)
        case _:
            return ()


def body_of(event: str, info: EgressInfo, event_id: str, created_at_s: int) -> bytes:
    """The JSON that is sent and signed."""
    # Without a room it is empty but present, as receivers read its name.
    room = Room(sid=info.room_id, name=info.room_name)
    message = WebhookEvent(event=event, room=room, egress_info=info, id=event_id, created_at=created_at_s)
    body = json_format.MessageToDict(message)
    body["egressInfo"] = json_format.MessageToDict(today(redact.shown(info)))
    return json.dumps(body).encode()


def sign(body: bytes, key: str, secret: Secret, now_s: int) -> str:
    """The value of the Authorization header: the bare token, without "Bearer"."""
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    claims = {"iss": key, "nbf": now_s, "exp": now_s + TOKEN_TTL_S, "sha256": digest}
    return jwt.encode(claims, secret.reveal(), algorithm="HS256")


def requested(info: EgressInfo) -> Sequence[WebhookConfig]:
    """The webhooks that the request of an egress asks for."""
    kind = info.WhichOneof("request")
    return getattr(getattr(info, kind), "webhooks", ()) if kind else ()


def default_key(settings: Settings) -> str:
    """The name of the key that signs if a webhook names none; "" if no key is configured."""
    return settings.webhook.api_key or settings.api_key or next(iter(settings.all_keys), "")


def check_webhooks(webhooks: Sequence[WebhookConfig], keys: Collection[str], fallback_key: str = "") -> None:
    """Refuses webhooks that could not be delivered later. Raises EgressError (INVALID_ARGUMENT)."""
    if len(webhooks) > MAX_WEBHOOKS:
        raise invalid(f"the request has {len(webhooks)} webhooks, and at most {MAX_WEBHOOKS} are accepted")
    for webhook in webhooks:
        if not (is_http(webhook.url) and can_be_sent(webhook.url)):
            raise invalid(
                f'webhook url "{redact_endpoint(webhook.url)}" is not an http or https URL with a host'
            )
        key = webhook.signing_key or fallback_key
        if not key:
            raise invalid("webhook without signing_key: this server has no key of its own to sign with")
        if key not in keys:
            # It may be a secret, as the field sounds like one.
            name = shown(redact_identifier(key))
            raise invalid(f"no secret for provided signing key {name}: name an API key of this server")
        _check_filter(webhook)


def _check_filter(webhook: WebhookConfig) -> None:
    """Refuses a filter that drops what was requested, or everything."""
    chosen = webhook.filter_params
    for event in (*chosen.include_events, *chosen.exclude_events):
        if event not in _OTHER_EVENTS and event not in (STARTED, UPDATED, ENDED):
            raise invalid(
                f'webhook filter_params: no event is called "{shown(event)}"; those of an egress are '
                f"{STARTED}, {UPDATED} and {ENDED}"
            )
    if chosen.include_events and _OTHER_EVENTS.issuperset(chosen.include_events):
        raise invalid("webhook filter_params: include_events has no event of an egress")


class Webhooks:
    """The webhooks of the configuration and of each request."""

    def __init__(self, settings: Settings, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._fallback_key = default_key(settings)
        self._keys = settings.all_keys
        self._now_ns = now_ns
        include = frozenset(settings.webhook.include_events)
        exclude = frozenset(settings.webhook.exclude_events)
        self.deny_networks = settings.deny_networks
        self.project_urls = frozenset(settings.webhook.urls)
        self._project = [
            WebhookTarget(url, self._fallback_key, include, exclude) for url in settings.webhook.urls
        ]

    def announce(self, change: Change, info: EgressInfo) -> Sequence[Delivery]:
        """The deliveries for a change: each event once for each URL and key, whoever requests it."""
        targets = [*self._requested(info), *self._project]
        deliveries = []
        for event in events_of(change, info) if targets else ():
            now_ns = self._now_ns()
            event_id = new_id("EV_")
            body = body_of(event, info, event_id, now_ns // 1_000_000_000)
            wanted = dict.fromkeys((each.url, each.signing_key) for each in targets if each.wants(event))
            deliveries += [Delivery(info.egress_id, url, key, event, body, now_ns) for url, key in wanted]
        return deliveries

    def _requested(self, info: EgressInfo) -> list[WebhookTarget]:
        return [
            WebhookTarget(
                webhook.url,
                webhook.signing_key or self._fallback_key,
                frozenset(webhook.filter_params.include_events),
                frozenset(webhook.filter_params.exclude_events),
            )
            for webhook in requested(info)
        ]
