"""Speaks the Twirp wire protocol (v7): one POST route per method, JSON or protobuf in and out, errors as
JSON.

The caller is known before the first byte of a body is read: nothing of a stranger's body is read,
decompressed or kept.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sized
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Any

import structlog
from aiohttp import web
from google.protobuf.message import DecodeError, Message
from livekit.protocol.egress import ListEgressResponse

from openegress.api import connections, wire_json
from openegress.api.auth import Caller, Unauthorized, verify
from openegress.api.bodies import Bodies, TooLarge
from openegress.api.idempotent_calls import MAX_ID_CHARS, REQUEST_ID_HEADER, IdempotentCalls
from openegress.core.errors import Code, EgressError, Fault, internal, invalid
from openegress.core.text import shown
from openegress.request import options, redact, unknown
from openegress.request.unknown import UnknownFields

_log = structlog.get_logger(__name__)

JSON = "application/json"
PROTOBUF = "application/protobuf"
TIMEOUT_HEADER = "X-Twirp-Timeout-Ms"
MAX_TIMEOUT_MS = 3_600_000
MAX_VALUES = 10_000
"""Limit for the values in one request. The largest sensible requests have some hundreds; decoding tens of
thousands would block the interpreter for too long."""


class MethodKind(Enum):
    ANSWERED_HERE = auto()
    """This server reports unknown fields of the request."""
    ORDER = auto()
    """A worker gets the request, and reports its unknown fields itself."""
    START = auto()
    """An order that starts an egress: options may come with the request, and a repeated call with the same
    request id gets the first answer."""


@dataclass(frozen=True, slots=True)
class TwirpMethod:
    """One method of the service. `call` gets a decoded request of type `request`."""

    request: type[Message]
    call: Callable[[Any], Awaitable[Message]]
    authorise: Callable[[Caller], None]
    """Raises EgressError for a caller without permission. It is called before the body is read."""
    kind: MethodKind = MethodKind.ANSWERED_HERE


def for_recorders(
    request: type[Message],
    call: Callable[[Any], Awaitable[Message]],
    kind: MethodKind = MethodKind.ANSWERED_HERE,
) -> TwirpMethod:
    """A method that needs the grant roomRecord."""

    last: tuple[Message, Message] | None = None
    """The last answer and its redacted form. An unchanged list is the same object, so it is redacted once."""

    async def shown_call(message: Any) -> Message:
        nonlocal last
        answer = await call(message)
        if last is None or last[0] is not answer:
            last = answer, redact.shown(answer)
        return last[1]

    return TwirpMethod(request, shown_call, Caller.require_record, kind)


class TwirpService:
    """Answers `POST /twirp/<service>/<Method>` for each service."""

    def __init__(
        self,
        services: Mapping[str, Mapping[str, TwirpMethod]],
        keys: Mapping[str, str],
        unknown_fields: UnknownFields = UnknownFields.WARN,
    ) -> None:
        self._methods = {
            f"/twirp/{service}/{name}": method
            for service, methods in services.items()
            for name, method in methods.items()
        }
        self._keys = keys
        self._unknown_fields = unknown_fields
        self._replays = IdempotentCalls()
        self._bodies = Bodies()
        self._written: dict[tuple[type[Message], str], tuple[Message, bytes]] = {}

    async def close(self) -> None:
        """Waits for calls whose callers have disconnected."""
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
            return await self._answer(request, caller)
        except TooLarge:
            limit = request.client_max_size
            return web.Response(status=413, text=f"request body is larger than {limit} bytes")
        except EgressError as error:
            return error_response(error)
        except Exception:
            _log.exception("a call failed", path=request.path)
            return error_response(internal("an unexpected error; the server's log has the details"))

    async def _answer(self, request: web.Request, caller: Caller) -> web.Response:
        if request.method != "POST":
            raise _bad_route(f'unsupported method "{request.method}" (only POST is allowed)')
        method = self._methods.get(_single_slash(request.path))
        if method is None:
            raise _bad_route(f'no handler for path "{shown(request.path)}"')
        method.authorise(caller)
        connections.trust(request)
        content_type = request.headers.get("Content-Type", "")
        media_type = content_type.partition(";")[0].strip().lower()
        if media_type not in (JSON, PROTOBUF):
            raise _bad_route(f'unexpected Content-Type: "{shown(content_type)}"')
        body = await self._bodies.read(request)
        message = await self._bodies.decode(body, partial(_decode, method, media_type))
        if method.kind is MethodKind.ANSWERED_HERE:
            self._log_unknown(message, request.path)
        if method.kind is MethodKind.START and (text := _options_of(request)):
            message = options.carry(message, options.of_query(text, options.HEADER))
        answer = await _within(
            request.headers.get(TIMEOUT_HEADER), self._call(request, method, message, caller, body)
        )
        return web.Response(body=self._body(method, media_type, answer), content_type=media_type)

    def _log_unknown(self, message: Message, path: str) -> None:
        """Logs unknown fields that do no harm. Raises EgressError if the configuration refuses them."""
        for notice in unknown.told(message, self._unknown_fields):
            _log.warning("unknown fields in a request", path=path, notice=notice)

    def _body(self, method: TwirpMethod, media_type: str, answer: Message) -> bytes:
        """The encoded answer, cached for lists, which are requested again and again. An unchanged list is the
        same object."""
        written = self._written.get((method.request, media_type))
        if written is not None and written[0] is answer:
            return written[1]
        body = wire_json.dump(answer) if media_type == JSON else answer.SerializeToString()
        if isinstance(answer, ListEgressResponse):
            self._written[method.request, media_type] = (answer, body)
        return body

    def _call(
        self, request: web.Request, method: TwirpMethod, message: Message, caller: Caller, body: bytes
    ) -> Awaitable[Message]:
        request_id = request.headers.get(REQUEST_ID_HEADER, "")
        if method.kind is not MethodKind.START or not 0 < len(request_id) <= MAX_ID_CHARS:
            return method.call(message)
        header = _options_of(request).encode()
        asked = hashlib.sha256(header + b"\0" + body)
        key = (caller.api_key, request.path, request_id, asked.hexdigest())
        return self._replays.answer(key, lambda: method.call(message))


def _options_of(request: web.Request) -> str:
    """The options of all headers, as a header may be repeated. Raises EgressError for bytes that are not
    UTF-8."""
    text = "&".join(request.headers.getall(options.HEADER, ()))
    try:
        text.encode()
    except UnicodeEncodeError:
        raise invalid(f'{options.HEADER}: "{shown(text)}" is not UTF-8; write other bytes as %XX') from None
    return text


def _single_slash(path: str) -> str:
    return re.sub(r"^/+", "/", path)


def _decode(method: TwirpMethod, media_type: str, body: bytes) -> Message:
    kind = method.request
    if media_type == JSON:
        # Count the characters that begin or separate values, before anything is decoded.
        if body.count(b"{") + body.count(b",") > MAX_VALUES:
            raise _too_many_values()
        try:
            return wire_json.parse(body, kind, has_options=method.kind is MethodKind.START)
        except ValueError as error:
            raise EgressError(Code.MALFORMED, "the json request could not be decoded") from error
    try:
        if len(body) > MAX_VALUES and _values(kind.FromString(body), MAX_VALUES) > MAX_VALUES:
            raise _too_many_values()
        return wire_json.parse_binary(body, kind)
    except DecodeError as error:
        raise EgressError(Code.MALFORMED, "the protobuf request could not be decoded") from error


def _values(message: Message, most: int) -> int:
    """The number of values in a message. Counting stops above `most`."""
    count = 0
    for field, value in message.ListFields():
        count += len(value) if isinstance(value, Sized) and not isinstance(value, str | bytes) else 1
        if count > most:
            return count
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for child in (value,) if isinstance(value, Message) else value:
            count += _values(child, most - count)
            if count > most:
                return count
    return count


def _too_many_values() -> EgressError:
    return EgressError(Code.MALFORMED, f"the request has more than {MAX_VALUES} values")


async def _within(timeout_ms: str | None, answer: Awaitable[Message]) -> Message:
    """Awaits the answer. Raises EgressError (DEADLINE_EXCEEDED) after the time that the caller's header gives
    in milliseconds; an invalid header is ignored."""
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
