"""Finds the fragments of a growing MP4 that a span needs. With the header, they also form a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from openegress.core.codecs import MediaKind
from openegress.core.units import S
from openegress.media.clip import Bytes, common_end_ns
from openegress.media.clip.stitched import Piece, Stitched
from openegress.media.fragment_index import whole_fragments


@dataclass(frozen=True, slots=True)
class _Fragment:
    offset: int
    size: int
    begin_ns: int
    """Media time of its first packet."""
    pictures: frozenset[int]
    """Picture tracks in the fragment."""
    keys: frozenset[int]
    """Picture tracks with an independent picture in the fragment."""


class FragmentWindow:
    """A fragmented file as it is now. Raises Mp4Error if it is not one."""

    def __init__(self, file: Bytes) -> None:
        self._file = file
        self._fragments: list[_Fragment] = []
        self._ends: dict[int, int] = {}
        """End of each track, by number."""
        self._header_bytes = 0
        self._read()

    def _read(self) -> None:
        for each in whole_fragments(Stitched.whole(self._file), self._file.size()):
            if not self._header_bytes:
                self._header_bytes = each.header_bytes
            begin_ns, pictures, keys = None, set[int](), set[int]()
            for run in each.runs:
                scale = run.track.timescale
                at_ns = (run.dts - run.track.zero) * S // scale
                end_ns = (run.dts + sum(run.durations) - run.track.zero) * S // scale
                begin_ns = at_ns if begin_ns is None else min(begin_ns, at_ns)
                self._ends[run.track.number] = max(self._ends.get(run.track.number, 0), end_ns)
                if run.track.kind is MediaKind.VIDEO:
                    pictures.add(run.track.number)
                    keys |= {run.track.number} if run.has_sync else set()
            found = _Fragment(each.offset, each.size, begin_ns or 0, frozenset(pictures), frozenset(keys))
            self._fragments.append(found)

    @property
    def end_ns(self) -> int:
        """The media time up to which everything recorded is on disk."""
        return common_end_ns(self._ends.values())

    def open(self, begin_ns: int, end_ns: int) -> Stitched:
        """Opens everything that pictures and sound from `begin_ns` to `end_ns` need."""
        at = max(0, sum(each.begin_ns <= begin_ns for each in self._fragments) - 1)
        first = min(
            (self._key_before(at, track) for track in self._shown(at, end_ns)), default=max(0, at - 1)
        )
        last = first
        for number in range(first, len(self._fragments)):
            last = number
            if self._fragments[number].begin_ns > end_ns + S:
                break
        return Stitched([Piece(self._file, 0, self._header_bytes), *self._pieces(first, last)])

    def _shown(self, at: int, end_ns: int) -> set[int]:
        """Returns the picture tracks that have pictures from this fragment on, up to that time."""
        following = (each for each in self._fragments[at:] if each.begin_ns <= end_ns)
        return {track for each in following for track in each.pictures}

    def _key_before(self, at: int, track: int) -> int:
        """Returns the fragment from which the track's pictures are decoded. Its key frame may be in the
        middle of a fragment, after the start of the span: then it is the previous one."""
        keys = [n for n in range(at + 1) if track in self._fragments[n].keys]
        return keys[-2] if len(keys) > 1 else 0

    def _pieces(self, first: int, last: int) -> Sequence[Piece]:
        return [
            Piece(self._file, each.offset, each.size) for each in islice(self._fragments, first, last + 1)
        ]
