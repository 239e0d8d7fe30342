"""`openegress start | list | stop | update-layout | update-stream`: a client of any Egress API."""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from openegress.core.errors import Code, EgressError, invalid
from openegress.core.tokens import egress_token

DEFAULT_URL = "http://127.0.0.1:7980"
TIMEOUT_S = 60.0
"""A start may be looked for among workers for half a minute."""

METHODS = {
    "room-composite": "StartRoomCompositeEgress",
    "web": "StartWebEgress",
    "participant": "StartParticipantEgress",
    "track-composite": "StartTrackCompositeEgress",
    "track": "StartTrackEgress",
    "egress": "StartEgress",
}


def start(arguments: argparse.Namespace) -> int:
    text = sys.stdin.read() if arguments.request == "-" else _read(arguments.request)
    try:
        request = json.loads(text)
    except ValueError as error:
        raise invalid(f"{arguments.request} is not JSON: {error}") from None
    return _print(_call(arguments, METHODS[arguments.type], request))


def list_egresses(arguments: argparse.Namespace) -> int:
    request = {"active": arguments.active, "room_name": arguments.room or ""}
    items = []
    for egress_id in arguments.id or [""]:
        items += _call(arguments, "ListEgress", request | {"egress_id": egress_id})["items"]
    items = items[: arguments.limit or None]
    if arguments.json:
        return _print(items)
    for item in items:
        started = int(item["started_at"]) / 1e9
        where = item["room_name"] or _page(item)
        print(f"{item['egress_id']}  {item['status']:<20}  {started:.0f}  {where}  {item['error']}".rstrip())
    return 0


def stop(arguments: argparse.Namespace) -> int:
    for egress_id in arguments.id:
        _print(_call(arguments, "StopEgress", {"egress_id": egress_id}))
    return 0


def update_layout(arguments: argparse.Namespace) -> int:
    request = {"egress_id": arguments.id, "layout": arguments.layout}
    return _print(_call(arguments, "UpdateLayout", request))


def update_stream(arguments: argparse.Namespace) -> int:
    request = {
        "egress_id": arguments.id,
        "add_output_urls": arguments.add_urls or [],
        "remove_output_urls": arguments.remove_urls or [],
    }
    return _print(_call(arguments, "UpdateStream", request))


def _call(arguments: argparse.Namespace, method: str, request: Mapping[str, object]) -> Any:
    return asyncio.run(_post(arguments, method, request))


async def _post(arguments: argparse.Namespace, method: str, request: Mapping[str, object]) -> Any:
    url = (arguments.url or os.environ.get("OPENEGRESS_URL") or DEFAULT_URL).rstrip("/")
    url = url.replace("ws://", "http://", 1).replace("wss://", "https://", 1)
    key = arguments.api_key or os.environ.get("LIVEKIT_API_KEY", "")
    secret = arguments.api_secret or os.environ.get("LIVEKIT_API_SECRET", "")
    if not key or not secret:
        raise invalid("no API key: set LIVEKIT_API_KEY and LIVEKIT_API_SECRET, or --api-key and --api-secret")
    headers = {"Authorization": f"Bearer {egress_token(key, secret)}"}
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.post(f"{url}/twirp/livekit.Egress/{method}", json=request, headers=headers) as answer,
        ):
            text = await answer.text()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise EgressError(
            Code.UNAVAILABLE, f"{url}: {error or 'no answer'}; is openegress serving there?"
        ) from None
    if answer.status != 200:
        raise _refusal(answer.status, text)
    return json.loads(text)


def _refusal(status: int, text: str) -> EgressError:
    try:
        body = json.loads(text)
        return EgressError(Code(body["code"]), f"{body['code']}: {body['msg']}")
    except (ValueError, KeyError, TypeError):
        return EgressError(Code.UNKNOWN, f"HTTP {status}: {text.strip()[:300]}")


def _page(item: Mapping[str, Any]) -> str:
    web = item.get("web") or (item.get("egress") or {}).get("web") or {}
    url: str = web.get("url", "")
    return url


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError as error:
        raise invalid(f"{path}: {error.strerror}") from None


def _print(value: object) -> int:
    print(json.dumps(value, indent=2))
    return 0
