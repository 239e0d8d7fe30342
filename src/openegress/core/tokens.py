"""LiveKit access tokens for the server's own business: joining rooms to record and asking RoomService.

A token is a JWT (HS256) with LiveKit's claims: `video` holds the grants, `kind` the participant kind.
"""

import time
from datetime import timedelta
from typing import Any

import jwt

DEFAULT_TTL = timedelta(hours=24)
"""Longer than any reconnect of a long recording; the server renews it over signalling while connected."""

CLOCK_LEEWAY_S = 60
"""How far a server's clock may lag behind ours."""


def recorder_token(
    api_key: str, api_secret: str, room: str, identity: str, ttl: timedelta = DEFAULT_TTL
) -> str:
    """A token to join `room` as a hidden recorder of kind egress that only receives.

    `identity` is the egress id, so that a recorder that joins again replaces itself.
    """
    grants = {
        "roomJoin": True,
        "room": room,
        "canSubscribe": True,
        "canPublish": False,
        "canPublishData": False,
        "hidden": True,
        "recorder": True,
    }
    return _sign(api_key, api_secret, grants, ttl, identity=identity, kind="egress")


def participant_token(
    api_key: str, api_secret: str, room: str, identity: str, ttl: timedelta = DEFAULT_TTL
) -> str:
    """A token to join `room` as a participant who publishes and subscribes."""
    return _sign(api_key, api_secret, {"roomJoin": True, "room": room}, ttl, identity=identity)


def room_service_token(
    api_key: str, api_secret: str, room: str = "", ttl: timedelta = timedelta(minutes=10)
) -> str:
    """A token for RoomService: listing rooms, and administering `room` when one is named."""
    grants: dict[str, Any] = {"roomList": True}
    if room:
        grants |= {"roomAdmin": True, "room": room}
    return _sign(api_key, api_secret, grants, ttl)


def egress_token(api_key: str, api_secret: str, ttl: timedelta = timedelta(minutes=10)) -> str:
    """A token for the Egress API."""
    return _sign(api_key, api_secret, {"roomRecord": True}, ttl)


def _sign(
    api_key: str,
    api_secret: str,
    grants: dict[str, Any],
    ttl: timedelta,
    *,
    identity: str = "",
    kind: str = "",
) -> str:
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": api_key,
        "nbf": now - CLOCK_LEEWAY_S,
        "exp": now + int(ttl.total_seconds()),
        "video": grants,
    }
    if identity:
        claims["sub"] = identity
    if kind:
        claims["kind"] = kind
    return jwt.encode(claims, api_secret, algorithm="HS256")
