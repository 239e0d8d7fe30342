"""The commands that call a service: `openegress start`, `list`, `stop`, `pause` and so on."""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from openegress.cli import egress_row, table, terminal
from openegress.cli.errors import Exit, report
from openegress.cli.flags import key_of
from openegress.cli.quantities import duration_text
from openegress.core.errors import Code, EgressError, invalid
from openegress.core.http_failure import why_unreachable
from openegress.core.http_url import is_http
from openegress.core.text import shown
from openegress.core.tokens import egress_token

DEFAULT_URL = "http://127.0.0.1:7980"
TIMEOUT_S = 60.0
"""The server may look for a worker for half a minute."""
CLIP_TIMEOUT_S = 130.0
"""Longer than the server waits for one."""
WATCH_EVERY_S = 2.0
CLEAR = "\x1b[H\x1b[2J"
"""Moves the cursor to the top and clears the screen (ECMA-48: CUP, ED)."""

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
    return _show(arguments, _call(arguments, METHODS[arguments.type], request))


def list_egresses(arguments: argparse.Namespace) -> int:
    if arguments.limit < 0:
        raise invalid(f"--limit {arguments.limit} is less than none")
    if not arguments.watch:
        return _list(arguments)
    if not sys.stdout.isatty() or arguments.json:
        raise invalid("--watch needs a terminal and no --json; run the command again instead")
    try:
        while True:
            items = _items(arguments)
            sys.stdout.write(CLEAR)
            _print_table(items)
            time.sleep(WATCH_EVERY_S)
    except KeyboardInterrupt:
        return Exit.DONE  # the usual end of watching


def stop(arguments: argparse.Namespace) -> int:
    """Stops as many as it can, and prints an error for each of the others."""
    status = Exit.DONE
    for egress_id in arguments.id:
        try:
            _show(arguments, _call(arguments, "StopEgress", {"egress_id": egress_id}))
        except EgressError as error:
            status = report(EgressError(error.code, f"{shown(egress_id)}: {error.text}"))
    return status


def update_layout(arguments: argparse.Namespace) -> int:
    request = {"egress_id": arguments.id, "layout": arguments.layout}
    return _show(arguments, _call(arguments, "UpdateLayout", request), with_details=True)


def pause(arguments: argparse.Namespace) -> int:
    return _show(arguments, _control(arguments, "PauseEgress"), with_details=True)


def resume(arguments: argparse.Namespace) -> int:
    return _show(arguments, _control(arguments, "ResumeEgress"), with_details=True)


def set_options(arguments: argparse.Namespace) -> int:
    options: dict[str, str] = {}
    for each in arguments.options:
        key, mark, value = each.partition("=")
        if not mark or key in options:
            why = "is there twice" if mark else "has no value; write KEY=VALUE"
            raise invalid(f'"{shown(key, 64)}" {why}')
        options[key] = value
    return _show(arguments, _control(arguments, "SetOptions", options=options), with_details=True)


def marker(arguments: argparse.Namespace) -> int:
    return _show(arguments, _control(arguments, "AddMarker", name=arguments.name, ago=arguments.ago))


def clip(arguments: argparse.Namespace) -> int:
    span = {"last": arguments.last, "from": arguments.begin, "to": arguments.end}
    answer = _control(arguments, "Clip", filepath=arguments.file, **span)
    if arguments.json:
        return _print_json(answer)
    made = answer.get("clip") or {}
    length_s = int(made.get("duration", 0)) / 1e9
    print(f"{shown(str(made.get('location', '')), 2000)}  {duration_text(length_s)}")
    return Exit.DONE


def update_stream(arguments: argparse.Namespace) -> int:
    if not arguments.add_urls and not arguments.remove_urls:
        raise invalid("nothing to change: name streams with --add-urls or --remove-urls")
    request = {
        "egress_id": arguments.id,
        "add_output_urls": arguments.add_urls or [],
        "remove_output_urls": arguments.remove_urls or [],
    }
    info = _call(arguments, "UpdateStream", request)
    if arguments.json:
        return _print_json(info)
    out = sys.stdout
    rows = egress_row.stream_rows(info)
    out.write(table.render(egress_row.STREAM_COLUMNS, rows, terminal.palette(out), terminal.width(out)))
    return 0


def _list(arguments: argparse.Namespace) -> int:
    items = _items(arguments)
    if arguments.json:
        return _print_json(items)
    if items:
        _print_table(items)
    else:
        print("no egress matches", file=sys.stderr)
    return 0


def _items(arguments: argparse.Namespace) -> list[Any]:
    request = {"active": arguments.active, "room_name": arguments.room or ""}
    items: list[Any] = []
    for egress_id in arguments.id or [""]:
        items += _call(arguments, "ListEgress", request | {"egress_id": egress_id}).get("items") or []
    return items[: arguments.limit or None]


def _print_table(items: list[Any]) -> None:
    out = sys.stdout
    columns, rows = egress_row.rows(items, time.time())
    out.write(table.render(columns, rows, terminal.palette(out), terminal.width(out)))
    out.flush()


def _show(arguments: argparse.Namespace, info: Mapping[str, Any], *, with_details: bool = False) -> int:
    """The current state of one egress: its id, status and source."""
    if arguments.json:
        return _print_json(info)
    palette = terminal.palette(sys.stdout)
    status = palette.paint(egress_row.status_text(info), egress_row.status_colour(info))
    what = f"{egress_row.kind_text(info)} of {egress_row.source_text(info)}"
    print(f"{shown(str(info.get('egress_id', '')))}  {status}  {what}")
    if with_details and info.get("details"):
        print(shown(str(info["details"]), 1000))
    return 0


def _call(arguments: argparse.Namespace, method: str, request: Mapping[str, object]) -> Any:
    return asyncio.run(_post(arguments, method, request))


def _control(arguments: argparse.Namespace, method: str, **more: object) -> Any:
    request = {"egress_id": arguments.id, **more}
    return asyncio.run(_post(arguments, method, request, "openegress.Control"))


async def _post(
    arguments: argparse.Namespace,
    method: str,
    request: Mapping[str, object],
    service: str = "livekit.Egress",
) -> Any:
    url = _server_url(arguments.url or os.environ.get("OPENEGRESS_URL") or DEFAULT_URL)
    headers = {"Authorization": f"Bearer {egress_token(*key_of(arguments))}"}
    timeout_s = CLIP_TIMEOUT_S if method == "Clip" else TIMEOUT_S
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(timeout_s)) as http,
            http.post(f"{url}/twirp/{service}/{method}", json=request, headers=headers) as answer,
        ):
            text = await answer.text()
    except TimeoutError:
        raise EgressError(Code.UNAVAILABLE, f"{url}: no answer within {timeout_s:g} s") from None
    except (aiohttp.ClientError, OSError) as error:
        hint = "is openegress serving there? Another address: --url or OPENEGRESS_URL"
        raise EgressError(Code.UNAVAILABLE, f"{url}: {why_unreachable(error)}; {hint}") from None
    if answer.status != 200:
        raise _refusal(answer.status, text)
    try:
        return json.loads(text)
    except ValueError:
        raise EgressError(
            Code.UNKNOWN, f"{url} answers, but not as an Egress API does; check --url or OPENEGRESS_URL"
        ) from None


def _server_url(text: str) -> str:
    url = text.rstrip("/").replace("ws://", "http://", 1).replace("wss://", "https://", 1)
    if not is_http(url):
        raise invalid(f'"{text}" is not the address of a server: write http://HOST:PORT')
    return url


def _refusal(status: int, text: str) -> EgressError:
    try:
        body = json.loads(text)
        return EgressError(Code(body["code"]), f"{body['code']}: {body['msg']}")
    except (ValueError, KeyError, TypeError):
        hint = "; check LIVEKIT_API_KEY and LIVEKIT_API_SECRET" if status == 401 else ""
        return EgressError(Code.UNKNOWN, f"HTTP {status}: {text.strip()[:300]}{hint}")


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError as error:
        raise invalid(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise invalid(f"{path} is not text in UTF-8") from None


def _print_json(value: object) -> int:
    print(json.dumps(value, indent=2))
    return 0
