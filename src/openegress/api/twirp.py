"""The Twirp wire protocol (v7): one POST route per method, JSON or protobuf in and out, errors as JSON."""

import asyncio
import hashlib
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from google.protobuf.message import DecodeError, Message
from livekit.protocol.egress import ListEgressResponse

from openegress.api import wire_json
from openegress.api.auth import Caller, Unauthorized, verify
from openegress.api.replays import MAX_ID_CHARS, REQUEST_ID_HEADER, Replays
from openegress.core.errors import Code, EgressError, Fault, internal

_log = logging.getLogger(__name__)

JSON = "application/json"
PROTOBUF = "application/protobuf"
TIMEOUT_HEADER = "X-Twirp-Timeout-Ms"
MAX_TIMEOUT_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the service. `handle` gets a decoded request of type `request`."""

    request: type[Message]
    handle: Callable[[Any, Caller], Awaitable[Message]]
    once: bool = False
    """A replay under the same request id gets the first answer."""


def for_recorders(
    request: type[Message], call: Callable[[Any], Awaitable[Message]], *, once: bool = False
) -> Method:
    """A method that needs the grant roomRecord."""

    async def handle(message: Any, caller: Caller) -> Message:
        caller.require_record()
        return await call(message)

    return Method(request, handle, once)


class TwirpService:
    """Answers `POST /twirp/<service>/<Method>`."""

    def __init__(self, service: str, methods: Mapping[str, Method], keys: Mapping[str, str]) -> None:
        self._methods = {f"/twirp/{service}/{name}": method for name, method in methods.items()}
        self._keys = keys
        self._replays = Replays()
        self._written: dict[tuple[type[Message], str], tuple[Message, bytes]] = {}

    async def close(self) -> None:
        """Waits for calls whose callers went away."""
        await self._replays.close()

    def takes(self, path: str) -> bool:
        return _single_slash(path).startswith("/twirp")

    async def handle(self, request: web.Request) -> web.StreamResponse:
        try:
            caller = verify(
                request.headers.get("Authorization"), request.query.get("access_token"), self._keys
            )
        except Unauthorized as error:
            return web.Response(status=401, text=str(error))
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            limit = request.client_max_size
            return web.Response(status=413, text=f"request body is larger than {limit} bytes")
        try:
            return await self._answer(request, body, caller)
        except EgressError as error:
            return error_response(error)
        except Exception:
            _log.exception("%s failed", request.path)
            return error_response(internal("an unexpected error; the server's log has the details"))

    async def _answer(self, request: web.Request, body: bytes, caller: Caller) -> web.Response:
        if request.method != "POST":
            raise _bad_route(f'unsupported method "{request.method}" (only POST is allowed)')
        method = self._methods.get(_single_slash(request.path))
        if method is None:
            raise _bad_route(f'no handler for path "{request.path}"')
        content_type = request.headers.get("Content-Type", "")
        media_type = content_type.partition(";")[0].strip().lower()
        message = _decode(method.request, media_type, content_type, body)
        answer = await _within(
            request.headers.get(TIMEOUT_HEADER), self._call(request, method, message, caller, body)
        )
        return web.Response(body=self._body(method, media_type, answer), content_type=media_type)

    def _body(self, method: Method, media_type: str, answer: Message) -> bytes:
        """Long lists are asked for again and again; the same object was written before."""
        written = self._written.get((method.request, media_type))
        if written is not None and written[0] is answer:
            return written[1]
        body = wire_json.dump(answer) if media_type == JSON else answer.SerializeToString()
        if isinstance(answer, ListEgressResponse):
            self._written[method.request, media_type] = (answer, body)
        return body

    def _call(
        self, request: web.Request, method: Method, message: Message, caller: Caller, body: bytes
    ) -> Awaitable[Message]:
        request_id = request.headers.get(REQUEST_ID_HEADER, "")
        if not method.once or not 0 < len(request_id) <= MAX_ID_CHARS:
            return method.handle(message, caller)
        key = (caller.api_key, request.path, request_id, hashlib.sha256(body).hexdigest())
        return self._replays.answer(key, lambda: method.handle(message, caller))


def _single_slash(path: str) -> str:
    return re.sub(r"^/+", "/", path)


def _decode(kind: type[Message], media_type: str, content_type: str, body: bytes) -> Message:
    match media_type:
        case "application/json":
            try:
                return wire_json.parse(body, kind)
            except ValueError as error:
                raise EgressError(Code.MALFORMED, "the json request could not be decoded") from error
        case "application/protobuf":
            try:
                return kind.FromString(body)
            except DecodeError as error:
                raise EgressError(Code.MALFORMED, "the protobuf request could not be decoded") from error
        case _:
            raise _bad_route(f'unexpected Content-Type: "{content_type}"')


async def _within(timeout_ms: str | None, answer: Awaitable[Message]) -> Message:
    """The answer, or deadline_exceeded after the time the caller gives it. A header that is no number of
    milliseconds sets no time."""
    if timeout_ms is None or not re.fullmatch(r"[0-9]{1,9}", timeout_ms) or int(timeout_ms) == 0:
        return await answer
    allowed_ms = min(int(timeout_ms), MAX_TIMEOUT_MS)
    try:
        async with asyncio.timeout(allowed_ms / 1000) as scope:
            return await answer
    except TimeoutError:
        if not scope.expired():
            raise
        raise EgressError(
            Code.DEADLINE_EXCEEDED,
            f"no answer within the {allowed_ms} ms that the caller allows",
            fault=Fault.SERVICE,
        ) from None


def _bad_route(message: str) -> EgressError:
    return EgressError(Code.BAD_ROUTE, message)


def error_response(error: EgressError) -> web.Response:
    body = {"code": error.code.value, "msg": error.message}
    return web.Response(status=error.code.http_status, body=json.dumps(body).encode(), content_type=JSON)
