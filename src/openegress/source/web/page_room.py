"""Reads what a LiveKit server sends a template about its own participant, from the page's WebSocket.

UpdateLayout and UpdateParticipant reach the participant of a recorder, which for a template is the page.
It sends nothing, and the page notices nothing. Events are those of CDP's domain Network
(https://chromedevtools.github.io/devtools-protocol/tot/Network/).
"""

import base64
import binascii
from collections.abc import Iterable
from urllib.parse import parse_qs, urlsplit

from google.protobuf.message import DecodeError
from livekit.protocol.models import ParticipantInfo
from livekit.protocol.rtc import SignalResponse

from openegress.core.recent import Recent
from openegress.room.signalling.own_participant import OwnParticipant
from openegress.source.room_orders import OwnParticipantChange
from openegress.source.web.cdp import Params

_BINARY = 2
"""The opcode of a binary frame (RFC 6455 section 5.2)."""
_PORTS = {"ws": 80, "http": 80, "wss": 443, "https": 443}
MAX_SOCKETS = 16
"""Limit for concurrent sockets to the room's server: a page has one, and another while it reconnects."""


class PageRoom:
    """The room of a template. Runs on the event loop. It reads only sockets to the room's server, because the
    page itself may open any others."""

    def __init__(self, ws_url: str, token: str, identity: str) -> None:
        """Takes the URL and token that the page gets."""
        self._server = _server(ws_url)
        self._token = token
        self._self = OwnParticipant(identity)
        self._sockets: Recent[str, None] = Recent(MAX_SOCKETS)
        """Request ids of sockets to the room's server, oldest first."""

    def take(self, method: str, params: Params) -> list[OwnParticipantChange]:
        """Handles an event of the domain Network. Returns changes of the participant."""
        match method:
            case "Network.webSocketCreated" if self._is_ours(params["url"]):
                self._sockets[params["requestId"]] = None
            case "Network.webSocketClosed":
                self._sockets.pop(params["requestId"], None)
            case "Network.webSocketFrameReceived" if params["requestId"] in self._sockets:
                response = params["response"]
                if response["opcode"] == _BINARY:
                    return self._read(response["payloadData"])
        return []

    def _is_ours(self, url: str) -> bool:
        """Whether a socket goes to the room's server, by its address or our token: LiveKit Cloud redirects
        people to other servers of its own."""
        try:
            query = parse_qs(urlsplit(url).query)
            return _server(url) == self._server or self._token in query.get("access_token", ())
        except ValueError:
            return False

    def _read(self, payload: str) -> list[OwnParticipantChange]:
        try:
            message = SignalResponse.FromString(base64.b64decode(payload))
        except (DecodeError, binascii.Error):
            return []
        match message.WhichOneof("message"):
            case "join":
                self._self.join()
                return self._of_self([message.join.participant])
            case "update":
                return self._of_self(message.update.participants)
        return []

    def _of_self(self, infos: Iterable[ParticipantInfo]) -> list[OwnParticipantChange]:
        return [
            event for info in infos if info.identity == self._self.identity for event in self._self.told(info)
        ]


def _server(url: str) -> tuple[str, int]:
    """(host, port). Raises ValueError for an invalid URL."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
