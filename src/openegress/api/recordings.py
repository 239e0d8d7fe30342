"""Serves recordings on the local disk to the dashboard: lists the files of an egress, and sends them.

Only files that a record names are served, and only from the server's own storage folders. A player cannot
send a header, and a token in a URL would be shared together with the URL. Callers who may see the record
therefore get a ticket for each file, which opens only that file.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import PurePosixPath
from urllib.parse import quote

import jwt
from aiohttp import web
from livekit.protocol.egress import EgressInfo, FileInfo

from openegress.api import connections
from openegress.api.auth import Caller, Unauthorized, signer, verify
from openegress.core.errors import Code, EgressError
from openegress.core.ids import is_egress_id
from openegress.core.info import is_terminal
from openegress.core.storages import LocalStorage
from openegress.storage.local import LocalFolder

FILES_PATH = "/dashboard/api/egress/{egress_id}/files"
FILE_PATH = FILES_PATH + "/{place}"

TICKET_S = 12 * 3600
"""Lifetime of a ticket. A player requests more of a file while it plays, so this is longer than anybody
watches."""
TICKET_AUDIENCE = "openegress file"
CHUNK_BYTES = 256 * 1024

CONTENT_TYPES = {
    ".mp4": "video/mp4",
    ".m4a": "audio/mp4",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".mka": "audio/x-matroska",
    ".mcap": "application/x-mcap",
    ".ogg": "audio/ogg",
    ".mp3": "audio/mpeg",
    ".aac": "audio/aac",
    ".ivf": "video/x-ivf",
}
"""Content types by extension. Other files are sent as BYTES, so that a browser never shows one as a page."""
BYTES = "application/octet-stream"

HEADERS = {
    "Cache-Control": "no-store",
    "Accept-Ranges": "bytes",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
}

Find = Callable[[str], Awaitable[EgressInfo]]
"""Returns the record of an egress id. Raises EgressError with code NOT_FOUND."""


class Recordings:
    """Serves FILES_PATH and FILE_PATH. `folders` are those in which this server stores recordings."""

    def __init__(self, find: Find, folders: Sequence[LocalStorage], keys: Mapping[str, str]) -> None:
        self._find = find
        self._folders = [LocalFolder(folder) for folder in folders]
        self._keys = keys

    async def files(self, request: web.Request) -> web.Response:
        """Answers {"files": [{"name", "size_bytes", "content_type", "url"}]} with the files of an ended
        egress that are on this disk. `url` is relative to FILES_PATH and holds a ticket. Needs a token with
        roomRecord."""
        try:
            caller = self._caller(request)
            info = await self._record(request)
            files = await asyncio.to_thread(self._listed, info, caller)
        except (Unauthorized, EgressError) as error:
            return _refused(error)
        return web.json_response({"files": files}, headers={"Cache-Control": "no-store"})

    async def file(self, request: web.Request) -> web.StreamResponse:
        """Sends one file, or a range of it (RFC 9110, 14). With ?download, browsers save it."""
        try:
            self._check_ticket(request)
            info = await self._record(request)
            result = _result(info, request.match_info["place"])
            fd = await asyncio.to_thread(self._open, result)
        except (Unauthorized, EgressError) as error:
            return _refused(error)
        try:
            return await _send(request, fd, PurePosixPath(result.location).name)
        finally:
            os.close(fd)

    def _caller(self, request: web.Request) -> Caller:
        caller = verify(request.headers.get("Authorization"), request.query.get("access_token"), self._keys)
        caller.require_record()
        connections.trust(request)
        return caller

    def _check_ticket(self, request: web.Request) -> None:
        """Accepts a ticket for this file, or a token as for files(). Raises Unauthorized and EgressError."""
        ticket = request.query.get("ticket")
        if ticket is None:
            self._caller(request)
            return
        subject = f"{request.match_info['egress_id']}/{request.match_info['place']}"
        try:
            found = signer(ticket, self._keys)
            if found is None:
                raise Unauthorized("invalid ticket")
            claims = jwt.decode(
                ticket,
                found[1],
                algorithms=["HS256"],
                audience=TICKET_AUDIENCE,
                options={"require": ["exp", "aud", "sub"]},
            )
        except (jwt.PyJWTError, ValueError):
            raise Unauthorized("the link has expired: open the recording from the dashboard again") from None
        if claims["sub"] != subject:
            raise Unauthorized("invalid ticket")
        connections.trust(request)

    def _ticket(self, caller: Caller, subject: str) -> str:
        claims = {
            "iss": caller.api_key,
            "aud": TICKET_AUDIENCE,
            "sub": subject,
            "exp": int(time.time()) + TICKET_S,
        }
        return jwt.encode(claims, self._keys[caller.api_key], algorithm="HS256")

    async def _record(self, request: web.Request) -> EgressInfo:
        egress_id = request.match_info["egress_id"]
        if not is_egress_id(egress_id):
            raise EgressError(Code.NOT_FOUND, "egress does not exist")
        return await self._find(egress_id)

    def _listed(self, info: EgressInfo, caller: Caller) -> list[dict[str, str | int]]:
        found: list[dict[str, str | int]] = []
        for place, result in enumerate(info.file_results):
            try:
                fd = self._open(result) if is_terminal(info) else None
            except EgressError:
                continue  # it is in another storage, or was removed
            if fd is None:
                continue
            os.close(fd)
            name = PurePosixPath(result.location).name
            ticket = self._ticket(caller, f"{info.egress_id}/{place}")
            found.append(
                {
                    "name": name,
                    "size_bytes": result.size,
                    "content_type": _content_type(name),
                    "url": f"files/{place}?ticket={ticket}",
                }
            )
        return found

    def _open(self, result: FileInfo) -> int:
        """Opens a file and returns its descriptor. Raises EgressError with code NOT_FOUND if the file is not
        here, or has another size: another recording may have the name since."""
        for folder in self._folders:
            if not result.location.startswith(f"{folder.root}/"):
                continue
            fd = folder.open(result.location)
            if os.fstat(fd).st_size == result.size:
                return fd
            os.close(fd)
        raise EgressError(Code.NOT_FOUND, "the file is not on this server's disk, or not as it was recorded")


def _result(info: EgressInfo, place: str) -> FileInfo:
    """The result of that number in the record. Raises EgressError with code NOT_FOUND."""
    if is_terminal(info) and place.isascii() and place.isdigit() and len(place) < 4:
        number = int(place)
        if number < len(info.file_results):
            return info.file_results[number]
    raise EgressError(Code.NOT_FOUND, "the record names no such file")


def _content_type(name: str) -> str:
    return CONTENT_TYPES.get(PurePosixPath(name).suffix.lower(), BYTES)


def _refused(error: Unauthorized | EgressError) -> web.Response:
    if isinstance(error, Unauthorized):
        return web.Response(status=401, text=str(error))
    return web.Response(status=error.code.http_status, text=error.message)


async def _send(request: web.Request, fd: int, name: str) -> web.StreamResponse:
    status = os.fstat(fd)
    size = status.st_size
    etag = f'"{status.st_mtime_ns:x}-{size:x}"'
    content_type = _content_type(name)
    kind = "attachment" if "download" in request.query or content_type == BYTES else "inline"
    headers = HEADERS | {
        "ETag": etag,
        "Content-Type": content_type,
        "Content-Disposition": f"{kind}; filename*=UTF-8''{quote(name, safe='')}",
    }
    wanted = _range(request, etag, size)
    if wanted is None:
        return web.Response(status=416, headers=headers | {"Content-Range": f"bytes */{size}"})
    is_part = len(wanted) < size
    if is_part:
        headers["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{size}"
    response = web.StreamResponse(status=206 if is_part else 200, headers=headers)
    response.content_length = len(wanted)
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    try:
        for start in range(wanted.start, wanted.stop, CHUNK_BYTES):
            length = min(CHUNK_BYTES, wanted.stop - start)
            await response.write(await asyncio.to_thread(os.pread, fd, length, start))
        await response.write_eof()
    except ConnectionResetError:
        pass  # a player that seeks drops the connection
    return response


def _range(request: web.Request, etag: str, size: int) -> range | None:
    """The requested bytes; None if the range lies outside the file. Anything but a single range is ignored,
    and so is the range of a file that has changed (If-Range)."""
    whole = range(size)
    if "Range" not in request.headers or request.headers.get("If-Range", etag) != etag:
        return whole
    try:
        asked = request.http_range
    except ValueError:
        return whole
    wanted = whole[asked]
    return wanted if len(wanted) > 0 else None
