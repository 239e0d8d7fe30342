"""A clip to be made: what it is cut from, and where it goes. The worker sends it to a handler of its own."""

import msgspec

from openegress.core.looks import PictureFiles
from openegress.core.plan import FileOutput, SegmentOutput
from openegress.core.plan_struct import Struct


class StoredPart(Struct, frozen=True):
    """A file that an egress has stored."""

    path: str
    """Path in the storage, without the configured prefix."""
    length_ns: int
    size_bytes: int


class ClipPlan(Struct, frozen=True):
    """Either `last_ns`, or a begin and an end; None: not given (core.span.SpanWish)."""

    clip_id: str
    """Its folder in the spool has this name."""
    recorded: FileOutput | SegmentOutput
    """The output that the clip is cut from."""
    target: FileOutput
    """Its path still has {from} and {to}; its container is that of the recording."""
    last_ns: int | None = None
    begin_ns: int | None = None
    end_ns: int | None = None
    left_in: str = ""
    """The folder of this output in the spool, while the egress runs."""
    stored: tuple[StoredPart, ...] = ()
    """Files in order: all of them once the egress has ended, or those that it has so far."""
    playlist: str = ""
    """Path in the storage, of segments."""
    taken: tuple[str, ...] = ()
    """Paths that the clip may not have."""

    @property
    def egress_id(self) -> str:
        """The clip's own id, which names its folder in the spool."""
        return self.clip_id

    @property
    def outputs(self) -> tuple[FileOutput]:
        """What is written. It is in the storage that the clip is cut from."""
        return (self.target,)

    @property
    def pictures(self) -> PictureFiles:
        return PictureFiles()


class ClipMade(msgspec.Struct, frozen=True, tag="clip_made"):
    """The answer to MakeClip. With a code, the clip could not be made."""

    code: str = ""
    error: str = ""
    filename: str = ""
    location: str = ""
    presign_error: str = ""
    begin_ns: int = 0
    """In media time, like `end_ns`."""
    end_ns: int = 0
    size_bytes: int = 0
    backup_used: bool = False
    copied: int = 0
    """Pictures copied from the recording."""
    encoded: int = 0
    """Pictures encoded again."""


class ClipStored(msgspec.Struct, frozen=True, tag="clip_stored"):
    """For the handler that records: its manifest lists the clip."""

    filename: str
    location: str
    presign_error: str
    begin_ns: int
    end_ns: int
