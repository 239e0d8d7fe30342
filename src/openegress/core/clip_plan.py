"""A clip that is to be made: what of, where it goes. It travels from the worker to a handler of its own."""

import msgspec

from openegress.core.looks import PictureFiles
from openegress.core.plan import FileOutput, SegmentOutput, Struct


class StoredPart(Struct, frozen=True):
    """A file that an egress has stored."""

    path: str
    """In the storage, without the prefix of the configuration."""
    length_ns: int
    size_bytes: int
    on_backup: bool = False


class ClipPlan(Struct, frozen=True):
    """`last_ns`, or from where to where; None: not said (core.span.SpanWish)."""

    clip_id: str
    """Its folder in the spool has this name."""
    recorded: FileOutput | SegmentOutput
    """The output that it is part of."""
    target: FileOutput
    """Its path has {from} and {to}, the container what the recording turns out to be."""
    last_ns: int | None = None
    begin_ns: int | None = None
    end_ns: int | None = None
    left_in: str = ""
    """The folder of this output in the spool, while the egress runs."""
    stored: tuple[StoredPart, ...] = ()
    """Files in their order: once it has ended, or of one that is split also those that are stored before."""
    playlist: str = ""
    """Path in the storage, of segments."""
    taken: tuple[str, ...] = ()
    """Paths that the clip must not have."""

    @property
    def egress_id(self) -> str:
        """Of its folder in the spool."""
        return self.clip_id

    @property
    def outputs(self) -> tuple[FileOutput | SegmentOutput, ...]:
        return (self.target, self.recorded)

    @property
    def pictures(self) -> PictureFiles:
        return PictureFiles()


class ClipMade(msgspec.Struct, frozen=True, tag="clip_made"):
    """Answer to MakeClip. With a code it could not be made."""

    code: str = ""
    error: str = ""
    filename: str = ""
    location: str = ""
    presign_error: str = ""
    begin_ns: int = 0
    """In media time."""
    end_ns: int = 0
    size_bytes: int = 0
    backup_used: bool = False
    copied: int = 0
    """Pictures that are the recording's own."""
    encoded: int = 0
    """Pictures that were encoded anew."""


class ClipStored(msgspec.Struct, frozen=True, tag="clip_stored"):
    """To the handler that records: its manifest lists the clip."""

    filename: str
    location: str
    presign_error: str
    begin_ns: int
    end_ns: int
