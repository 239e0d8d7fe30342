"""Serves the built-in pages: the recording template at /, the dashboard at /dashboard."""

from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

STATIC = Path(__file__).parent / "static"

NO_CACHE = "no-cache"
"""Value of Cache-Control: built files keep their names, so browsers have to revalidate them each time."""

CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpeg": "image/jpeg",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
}
"""Content types by extension. The system's table differs from host to host."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "frame-ancestors 'none'",
}
"""Headers of all pages. A template's URL holds a token, which must not leak to other sites as a referrer.
Other sites may not show the dashboard in a frame, where they could trick users into stopping recordings
(clickjacking)."""


class Pages:
    """Serves files below mounted folders; `mounts` maps URL prefixes ("/", "/dashboard") to folders."""

    def __init__(self, mounts: Mapping[str, Path] | None = None) -> None:
        mounts = mounts or {"/": STATIC / "template", "/dashboard": STATIC / "dashboard"}
        self._mounts = {
            prefix.rstrip("/"): folder.resolve()
            for prefix, folder in sorted(mounts.items(), key=lambda mount: -len(mount[0]))
        }

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            return not_found(request.path)
        for prefix, folder in self._mounts.items():
            if request.path == prefix and prefix:
                # Relative URLs of the page need the slash.
                # The path as received: decoded, it may contain what a header cannot.
                query = f"?{raw}" if (raw := request.rel_url.raw_query_string) else ""
                return web.Response(status=308, headers={"Location": f"{prefix}/{query}"})
            if request.path.startswith(prefix + "/"):
                return _file(folder, request.path[len(prefix) + 1 :], request.path)
        return not_found(request.path)


def _file(folder: Path, name: str, path: str) -> web.StreamResponse:
    if name in ("", "index.html"):
        index = folder / "index.html"
        if not index.is_file():
            return web.Response(
                status=404,
                text=f"{path} is not built into this installation: run `make web` and install again\n",
            )
        return web.FileResponse(index, headers=HEADERS | {"Cache-Control": NO_CACHE})
    try:
        file = (folder / name).resolve()
        found = file.is_relative_to(folder) and file.is_file()
    except (OSError, ValueError):
        found = False  # not a valid file name
    if not found:
        return not_found(path)
    content_type = CONTENT_TYPES.get(file.suffix, "application/octet-stream")
    return web.FileResponse(file, headers=HEADERS | {"Cache-Control": NO_CACHE, "Content-Type": content_type})


def not_found(path: str) -> web.Response:
    shown = path[:200].encode("ascii", "backslashreplace").decode()
    return web.Response(
        status=404,
        text=f"nothing at {shown}: the Egress API is at /twirp/livekit.Egress/<Method>, "
        "the dashboard at /dashboard, health at /healthz\n",
    )
