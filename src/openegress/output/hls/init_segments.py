"""Makes the initialisation segments of an HLS recording in fragmented MP4 (RFC 8216, 3.3)."""

from collections.abc import Callable
from pathlib import Path

from openegress.output.hls import layout
from openegress.output.spool_file import replace
from openegress.request import naming


class InitSegments:
    """Makes a new initialisation segment for each change of format. Confined to the writer's thread."""

    def __init__(self, folder: Path, prefix: str, on_init: Callable[[Path, str], None]) -> None:
        """`on_init` gets the local file of each initialisation segment, and its URI relative to the
        playlist."""
        self._folder = folder
        self._prefix = prefix
        self._on_init = on_init
        self._content = b""
        """Content of the current initialisation segment."""
        self._count = 0

    def go_on(self) -> None:
        """Continues the initialisation segments that another process has left. Raises OSError."""
        inits = layout.inits(self._folder)
        self._count = len(inits)
        self._content = inits[-1].read_bytes() if inits else b""
        for number, local in enumerate(inits):
            # That process may have died before the storage got the initialisation segment.
            self._on_init(local, naming.init_file(self._prefix, number))

    @property
    def uri(self) -> str:
        """The URI of the current initialisation segment; "" if there is none, as in MPEG-TS."""
        return naming.init_file(self._prefix, self._count - 1) if self._count else ""

    def use(self, content: bytes) -> None:
        """Makes the initialisation segment that the next segment needs. Raises EgressError when the disk
        refuses."""
        if content == self._content:
            return
        self._content = content
        self._count += 1
        # It reaches the disk before any media that needs it: after a crash, the last one belongs to the
        # segment that was being written.
        local = layout.init(self._folder, self._count - 1)
        replace(local, content)
        self._on_init(local, self.uri)
