"""Speaks LiveKit's signalling: protobuf messages over a websocket at /rtc.

It uses the `websockets` library, which takes a third of the import time and memory of an HTTP framework's
client.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from google.protobuf.message import DecodeError
from livekit.protocol.models import DisconnectReason
from livekit.protocol.rtc import JoinResponse, LeaveRequest, Ping, SignalRequest, SignalResponse
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.shown_url import HIDDEN, redact_endpoint
from openegress.room.signalling.enum_names import name_of

_log = logging.getLogger(__name__)

PROTOCOL_VERSION = 16
SDK_VERSION = "1.2.1"
"""Version of the Python SDK, for which the server knows our protocol."""
OPEN_TIMEOUT_S = 8.0
"""Time-out for TCP, TLS and the upgrade; a host that drops packets never answers."""
JOIN_TIMEOUT_S = 8.0
CLOSE_TIMEOUT_S = 2.0
EXCERPT_CHARACTERS = 200


def signal_url(url: str) -> str:
    """The websocket address of a LiveKit server whose URL begins with ws(s):// or http(s)://, with or without
    path. Raises EgressError for an invalid address."""
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise _error(
            Code.INVALID_ARGUMENT,
            f"{redact_endpoint(url)!r} is not the address of a LiveKit server: it should look like"
            " wss://host or ws://host:7880",
            Fault.CALLER,
        )
    query = {
        "auto_subscribe": "0",
        "adaptive_stream": "0",
        "protocol": str(PROTOCOL_VERSION),
        "sdk": "python",
        "version": SDK_VERSION,
        "os": "linux",
    }
    path = parts.path.rstrip("/").removesuffix("/rtc") + "/rtc"
    return urlunsplit((scheme, parts.netloc, path, urlencode(query), ""))


def _tls(url: str, *, insecure: bool) -> ssl.SSLContext | bool | None:
    """The TLS settings in the form that `connect` takes."""
    if not url.startswith("wss:"):
        return None
    if not insecure:
        return True
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Signalling:
    """One websocket, for one join. Use it as a context manager, or call `close`. Errors of `open` are
    EgressError with phase SIGNALLING; later errors end `messages`."""

    def __init__(self, url: str, *, insecure: bool = False) -> None:
        """`insecure`: accepts any certificate of the server."""
        self._url = signal_url(url)
        self._insecure = insecure
        self._address = redact_endpoint(url)
        self._socket: ClientConnection | None = None
        self.rtt_ms = 0
        self.ended = ""
        """Why `messages` ended."""

    async def open(self, token: str) -> JoinResponse:
        """Connects, and waits for the server's first message."""
        try:
            self._socket = await connect(
                self._url,
                ssl=_tls(self._url, insecure=self._insecure),
                additional_headers={"Authorization": f"Bearer {token}"},
                user_agent_header="openegress",
                open_timeout=OPEN_TIMEOUT_S,
                close_timeout=CLOSE_TIMEOUT_S,
                ping_interval=None,  # LiveKit's own ping_req replaces it
                compression=None,
                max_size=None,
            )
        except InvalidStatus as error:
            raise self._refused(error, token) from error
        except TimeoutError as error:
            raise self._unreachable(f"no answer within {OPEN_TIMEOUT_S:g} s") from error
        except (OSError, InvalidHandshake, InvalidURI, EOFError) as error:
            raise self._unreachable(str(error) or type(error).__name__) from error
        return await self._first()

    async def _first(self) -> JoinResponse:
        try:
            async with asyncio.timeout(JOIN_TIMEOUT_S):
                async for message in self.messages():
                    match message.WhichOneof("message"):
                        case "join":
                            return message.join
                        case "leave":
                            reason = name_of(DisconnectReason, message.leave.reason)
                            raise _error(
                                Code.UNAVAILABLE,
                                f"{self._address} rejected the recorder at once: {reason}",
                                Fault.SERVICE,
                            )
        except TimeoutError as error:
            raise self._unreachable(f"connected, but no join response within {JOIN_TIMEOUT_S:g} s") from error
        raise self._unreachable(f"the connection was closed before the join response ({self.ended})")

    async def messages(self) -> AsyncIterator[SignalResponse]:
        """The messages until either side closes the connection; `ended` then says why."""
        assert self._socket is not None
        try:
            while True:
                data = await self._socket.recv(decode=False)
                message = SignalResponse.FromString(data)
                if message.WhichOneof("message") == "pong_resp":
                    self.rtt_ms = int(time.time() * 1000) - message.pong_resp.last_ping_timestamp
                yield message
        except ConnectionClosed as error:
            self.ended = str(error)
        except DecodeError as error:
            self.ended = f"the server sent something other than a signalling message: {error}"

    async def send(self, **message: Any) -> None:
        """Sends one SignalRequest with one field. On a closed connection it is dropped silently: `messages`
        reports the end."""
        assert self._socket is not None
        try:
            await self._socket.send(SignalRequest(**message).SerializeToString())
        except ConnectionClosed:
            _log.debug("signalling is closed, not sent: %s", ", ".join(message))

    async def ping(self) -> None:
        await self.send(ping_req=Ping(timestamp=int(time.time() * 1000), rtt=self.rtt_ms))

    @property
    def loopback(self) -> bool:
        """Whether the server is on this host. Then media may use the loopback interface too."""
        peer = self._socket.remote_address if self._socket else None
        return peer is not None and str(peer[0]).startswith(("127.", "::1"))

    async def leave(self) -> None:
        await self.send(
            leave=LeaveRequest(
                reason=DisconnectReason.CLIENT_INITIATED, action=LeaveRequest.Action.DISCONNECT
            )
        )

    async def close(self) -> None:
        """Idempotent."""
        if self._socket is not None:
            await self._socket.close()

    async def __aenter__(self) -> "Signalling":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _refused(self, error: InvalidStatus, token: str) -> EgressError:
        status = error.response.status_code
        # livekit-server repeats a token that it refuses, and which may be valid a minute later.
        body = bytes(error.response.body or b"").decode(errors="replace").replace(token, HIDDEN)
        body = body[:EXCERPT_CHARACTERS].strip()
        said = f" ({body})" if body else ""
        match status:
            case 401 | 403:
                return _error(
                    Code.UNAUTHENTICATED,
                    f"{self._address} refused the token{said}: check that api_key and api_secret are those "
                    "of this server, and the clocks of both hosts",
                    Fault.CALLER,
                )
            case 404:
                return _error(
                    Code.NOT_FOUND,
                    f"{self._address} has no such room{said}: is it the right server, and is "
                    "anyone in the room?",
                    Fault.CALLER,
                )
        return _error(
            Code.UNAVAILABLE, f"{self._address} answered with HTTP status {status}{said}", Fault.SERVICE
        )

    def _unreachable(self, why: str) -> EgressError:
        return _error(
            Code.UNAVAILABLE, f"cannot reach the LiveKit server at {self._address}: {why}", Fault.SERVICE
        )


def _error(code: Code, message: str, fault: Fault) -> EgressError:
    return EgressError(code, message, fault=fault, phase=Phase.SIGNALLING)
