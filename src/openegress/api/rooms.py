"""Calls LiveKit's RoomService: finds rooms and participants, and sets the metadata of recorders, which holds
their layout."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar
from urllib.parse import urlsplit, urlunsplit

import aiohttp
from google.protobuf.message import DecodeError, Message
from livekit.protocol.models import ParticipantInfo, Room
from livekit.protocol.room import (
    ListParticipantsRequest,
    ListParticipantsResponse,
    ListRoomsRequest,
    ListRoomsResponse,
    UpdateParticipantRequest,
)

from openegress.core import foreign_json
from openegress.core.errors import Code, EgressError, Fault
from openegress.core.http_failure import why_unreachable
from openegress.core.shown_url import HIDDEN, redact_endpoint
from openegress.core.tokens import room_service_token

TIMEOUT_S = 5.0
"""Time-out for a call: long enough for a busy server on another continent, short enough for a caller who
waits."""

M = TypeVar("M", bound=Message)


class Rooms(Protocol):
    """The calls of the API to a LiveKit server."""

    async def find(self, name: str) -> str | None:
        """Returns the room's id, or None if there is no such room. Raises EgressError."""

    async def set_metadata(self, room: str, identity: str, metadata: str) -> None:
        """Sets a participant's metadata. Raises EgressError, with code NOT_FOUND if the participant is not in
        the room."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class LiveKitServer:
    url: str
    """The URL of the server: ws(s):// or http(s)://."""
    api_key: str
    api_secret: str
    insecure: bool = False
    """Whether any certificate is accepted."""

    @property
    def shown(self) -> str:
        return redact_endpoint(self.http_url)

    @property
    def http_url(self) -> str:
        parts = urlsplit(self.url)
        scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
        return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


class RoomService:
    """Calls the Twirp API of one server. Holds one HTTP session until close()."""

    def __init__(self, server: LiveKitServer, timeout_s: float = TIMEOUT_S) -> None:
        self._server = server
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def find(self, name: str) -> str | None:
        rooms = await self._call("ListRooms", ListRoomsRequest(names=[name]), ListRoomsResponse, "")
        return next((room.sid for room in _named(rooms, name)), None)

    async def metadata(self, name: str) -> str:
        """The metadata of a room; "" if there is no such room. Raises EgressError."""
        rooms = await self._call("ListRooms", ListRoomsRequest(names=[name]), ListRoomsResponse, "")
        return next((room.metadata for room in _named(rooms, name)), "")

    async def rooms(self) -> Sequence[Room]:
        """All open rooms. Raises EgressError."""
        return (await self._call("ListRooms", ListRoomsRequest(), ListRoomsResponse, "")).rooms

    async def participants(self, room: str) -> Sequence[ParticipantInfo]:
        """The participants of a room. Raises EgressError."""
        request = ListParticipantsRequest(room=room)
        return (await self._call("ListParticipants", request, ListParticipantsResponse, room)).participants

    async def set_metadata(self, room: str, identity: str, metadata: str) -> None:
        request = UpdateParticipantRequest(room=room, identity=identity, metadata=metadata)
        await self._call("UpdateParticipant", request, ParticipantInfo, room)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _call(self, method: str, request: Message, answer: type[M], room: str) -> M:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=not self._server.insecure)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=aiohttp.ClientTimeout(self._timeout_s)
            )
        url = f"{self._server.http_url}/twirp/livekit.RoomService/{method}"
        token = room_service_token(self._server.api_key, self._server.api_secret, room)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/protobuf"}
        try:
            async with self._session.post(url, data=request.SerializeToString(), headers=headers) as response:
                body = await response.read()
                if response.status == 200:
                    return answer.FromString(body)
                # livekit-server repeats a token that it refuses.
                raise self._refusal(method, response.status, body.replace(token.encode(), HIDDEN.encode()))
        except TimeoutError:
            raise self._unreachable(f"no answer within {self._timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._unreachable(why_unreachable(error)) from None
        except DecodeError:
            raise self._unreachable("the answer does not come from LiveKit") from None

    def _unreachable(self, why: str) -> EgressError:
        return EgressError(
            Code.UNAVAILABLE,
            f"LiveKit server at {self._server.shown} cannot be reached: {why}; check LIVEKIT_URL",
            fault=Fault.SERVICE,
        )

    def _refusal(self, method: str, status: int, body: bytes) -> EgressError:
        code, message = _twirp_error(body)
        if code is Code.NOT_FOUND and status == 404:
            # livekit-server prefixes the error of its internal call.
            return EgressError(code, message.removeprefix("twirp error unknown: "))
        if status in (401, 403):
            return EgressError(
                Code.INTERNAL,
                f"LiveKit server at {self._server.shown} refuses our API key for {method}: {message}; "
                "check LIVEKIT_API_KEY and LIVEKIT_API_SECRET",
                fault=Fault.SERVICE,
            )
        return EgressError(
            code,
            f"LiveKit server at {self._server.shown} answers {status} to {method}: {message}",
            fault=Fault.SERVICE,
        )


def _named(rooms: ListRoomsResponse, name: str) -> list[Room]:
    return [room for room in rooms.rooms if room.name == name]


def _twirp_error(body: bytes) -> tuple[Code, str]:
    """The code and message of an error body; UNAVAILABLE if it is not Twirp's."""
    try:
        error = foreign_json.loads(body)
        return Code(error["code"]), str(error["msg"])
    except (ValueError, KeyError, TypeError):
        text = body[:200].decode(errors="replace").strip()
        return Code.UNAVAILABLE, text or "no reason given"
