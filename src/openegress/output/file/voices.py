"""Records the sound of a room's tracks unchanged, in the spool: stems are made of it when the recording
ends."""

import logging
from pathlib import Path

from openegress.core.codecs import Container, MediaKind
from openegress.core.errors import EgressError
from openegress.media import Packet
from openegress.output import Opening
from openegress.output.disk_thread import CLOSE_TIMEOUT_S, OPEN_TIMEOUT_S
from openegress.output.file.job import FileJob
from openegress.output.spool_file import folder
from openegress.output.writer import QueuedWriter

_log = logging.getLogger(__name__)

FOLDER, NAME = "voices", f"voices.{Container.MKA.value}"
"""Folder and file in the folder of the egress."""


class VoicesFile:
    """A PacketSink that writes voices. The file plays at any instant, also after a kill, and is never
    finalised."""

    def __init__(self, opening: Opening) -> None:
        """Raises EgressError when the disk refuses."""
        self.path: Path = folder(opening.spool, FOLDER) / NAME
        job = FileJob(self.path, Container.MKA, opening, _tell_nobody, None)
        self._writer = QueuedWriter("the voices of stems", job, _note)
        self._writer.start(OPEN_TIMEOUT_S)

    def write(self, packet: Packet) -> None:
        if packet.kind is MediaKind.AUDIO and packet.track is not None:
            self._writer.put(packet)

    async def finish(self) -> None:
        """Closes the file. Raises EgressError for what could not be written; the rest is in the file."""
        await self._writer.finish(CLOSE_TIMEOUT_S)


def _note(failure: EgressError) -> None:
    """The error is raised at the end: the recording continues."""
    _log.error("stems end before the recording", extra={"error": failure.text})


def _tell_nobody() -> None:
    """Does nothing, as nobody needs to know its progress."""
