"""H.264 pictures that repeat the one before, written without an encoder. Pure.

A P picture whose macroblocks are all skipped takes a few dozen bytes, and no pixel has to be read for it. It
is put into the stream of an encoder, whose later pictures then need other numbers. Clauses are those of ITU-T
H.264.
"""

import re
from dataclasses import dataclass

from openegress.core.annex_b import BEGIN, START_CODE, units
from openegress.core.bits import BitReader, unescaped

_SLICE, _IDR, _SPS, _PPS = 1, 5, 7, 8
_P_REFERENCE = 0x41
"""The header byte of a slice that later pictures refer to."""
_P_SLICES = 5
"""The slice type of a P picture that has no other slices (table 7-6)."""
_FRAME_NUM_BITS = 4
"""More could make two bytes of zero in a slice's header, and then changing it would change its length."""
_PROFILES = {66, 77, 100}
"""Of 4:2:0 and eight bits, as far as our encoders write them."""
_HIGH = 100
_QP = 51
"""With it the one context that is used begins in state 42 and most probably says "skipped" (9.3.1.1). No
coefficient is there to be scaled by it."""
_FIRST_STATE, _LAST_STATE = 42, 62
_RANGE_LPS = (
    (16, 20, 23, 27), (15, 19, 22, 25), (14, 18, 21, 24), (14, 17, 20, 23), (13, 16, 19, 22),
    (12, 15, 18, 21), (12, 14, 17, 20), (11, 14, 16, 19), (11, 13, 15, 18), (10, 12, 15, 17),
    (10, 12, 14, 16), (9, 11, 13, 15), (9, 11, 12, 14), (8, 10, 12, 14), (8, 9, 11, 13),
    (7, 9, 11, 12), (7, 9, 10, 12), (7, 8, 10, 11),
    (6, 8, 9, 11), (6, 7, 9, 10), (6, 7, 8, 9),
)  # fmt: skip
"""Table 9-44 from the first state on."""


@dataclass(frozen=True, slots=True)
class Headers:
    """What of the parameter sets the header of a P slice depends on."""

    macroblocks: int
    """Of a picture."""
    has_cabac: bool
    has_weights: bool
    several_references: bool
    """Each slice has to say that it has one."""
    qp: int
    """That slices count from."""
    says_deblocking: bool

    @classmethod
    def of(cls, extradata: bytes) -> "Headers | None":
        """Of parameter sets in Annex B. None where a repeated picture cannot be put in: pictures have fields,
        several references or their own order, or the parameter sets are not such as our encoders write."""
        sets = {nal[0] & 0x1F: unescaped(nal) for nal in units(extradata)}
        if _SPS not in sets or _PPS not in sets:
            return None
        try:
            macroblocks = _macroblocks(BitReader(sets[_SPS][1:]))
            return _headers(BitReader(sets[_PPS][1:]), macroblocks) if macroblocks else None
        except IndexError:
            return None


class RepeatWriter:
    """Pictures that repeat the one before them, in one stream."""

    def __init__(self, headers: Headers) -> None:
        body = _all_skipped(headers.macroblocks) if headers.has_cabac else _golomb(headers.macroblocks) + "1"
        self._pictures = [_picture(headers, number, body) for number in range(1 << _FRAME_NUM_BITS)]
        self.size = max(map(len, self._pictures))
        """Bytes of one, at most."""
        self._put_in = 0
        """Since the last key frame."""
        self._last = 0

    def repeat(self) -> bytes:
        """The picture that follows what was given out last."""
        self._put_in += 1
        self._last = (self._last + 1) % len(self._pictures)
        return self._pictures[self._last]

    def renumbered(self, unit: bytes, *, is_key: bool) -> bytes:
        """The encoder's next access unit in Annex B, numbered behind what was put in (7.4.3, frame_num)."""
        if is_key:
            self._put_in = self._last = 0
            return unit
        self._last = (self._last + 1) % len(self._pictures)
        if not self._put_in:
            return unit
        return _with_frame_num(unit, self._last)

    def again(self, unit: bytes, *, is_key: bool) -> bytes:
        """An access unit that the encoder gave before, since its last key frame, in the order of then."""
        self._put_in = 1
        self._last = 0 if is_key else (self._last + 1) % len(self._pictures)
        return unit

    def are_alike(self, unit: bytes, other: bytes) -> bool:
        """Whether two of the encoder's access units are the same but for their numbers and their last byte:
        bits without a meaning fill it, which x264 changes from picture to picture."""
        return _with_frame_num(unit, 0)[:-1] == _with_frame_num(other, 0)[:-1]


def _macroblocks(sps: BitReader) -> int:
    """Of a picture; 0 where pictures are not as they have to be (7.3.2.1.1)."""
    profile = sps.bits(8)
    sps.bits(16)
    sps.unsigned_golomb()
    if profile not in _PROFILES:
        return 0
    if profile == _HIGH:
        is_plain = sps.unsigned_golomb() == 1 and sps.unsigned_golomb() == 0 and sps.unsigned_golomb() == 0
        if not is_plain or sps.bits(2):
            return 0
    if sps.unsigned_golomb() + 4 != _FRAME_NUM_BITS or sps.unsigned_golomb() != 2:
        return 0  # pictures are counted further, or are not shown in the order that they are in
    references, may_have_gaps = sps.unsigned_golomb(), sps.flag()
    if references != 1 or may_have_gaps:
        return 0
    macroblocks = (sps.unsigned_golomb() + 1) * (sps.unsigned_golomb() + 1)
    return macroblocks if sps.flag() else 0


def _headers(pps: BitReader, macroblocks: int) -> Headers | None:
    """7.3.2.2."""
    ids = pps.unsigned_golomb(), pps.unsigned_golomb()
    has_cabac, says_bottom, groups = pps.flag(), pps.flag(), pps.unsigned_golomb()
    references = pps.unsigned_golomb() + 1
    pps.unsigned_golomb()
    has_weights = pps.flag()
    pps.bits(2)
    qp = 26 + pps.signed_golomb()
    pps.signed_golomb()
    pps.signed_golomb()
    says_deblocking = pps.flag()
    pps.flag()
    says_redundant = pps.flag()
    if ids != (0, 0) or says_bottom or groups or says_redundant:
        return None
    return Headers(macroblocks, has_cabac, has_weights, references > 1, qp, says_deblocking)


def _picture(headers: Headers, frame_num: int, body: str) -> bytes:
    """A slice of nothing but skipped macroblocks (7.3.3, 7.3.4), which are the bits of `body`."""
    bits = _golomb(0) + _golomb(_P_SLICES) + _golomb(0) + f"{frame_num:0{_FRAME_NUM_BITS}b}"
    bits += "1" + _golomb(0) if headers.several_references else "0"
    bits += "0"  # references are in the order that they always are in
    if headers.has_weights:
        bits += _golomb(0) + _golomb(0) + "0" + "0"
    bits += "0"  # and are forgotten as they always are
    if headers.has_cabac:
        bits += _golomb(0)
    bits += _signed_golomb(_QP - headers.qp)
    if headers.says_deblocking:
        bits += _golomb(1)
    if headers.has_cabac:
        bits += "1" * (-len(bits) % 8)
    bits += body
    bits += "0" * (-len(bits) % 8)
    payload = int(bits, 2).to_bytes(len(bits) // 8)
    # Emulation prevention (7.4.1): no start code within.
    return START_CODE + re.sub(rb"\x00\x00(?=[\x00-\x03])", b"\0\0\3", bytes((_P_REFERENCE,)) + payload)


def _all_skipped(macroblocks: int) -> str:
    """The arithmetic code of so many skipped macroblocks with the stop bit (9.3.4). Each is as probable, so
    the lower end of the interval stays where it is until the last, and only the shifts are counted."""
    interval, state, shifts = 510, _FIRST_STATE, 0
    for index in range(macroblocks):
        interval -= _RANGE_LPS[state - _FIRST_STATE][interval >> 6 & 3]
        state = min(state + 1, _LAST_STATE)
        while interval < 256:
            interval, shifts = interval << 1, shifts + 1
        interval -= 2  # for "this was the last", which it is not
        while interval < 256 and index < macroblocks - 1:
            interval, shifts = interval << 1, shifts + 1
    # It was: the code is the upper end, of nine bits, and the last of them is the stop bit.
    return f"{interval | 1:0{shifts + 9}b}"


def _with_frame_num(unit: bytes, frame_num: int) -> bytes:
    numbered = bytearray(unit)
    for found in BEGIN.finditer(unit):
        if found[1][0] & 0x1F == _SLICE:
            _set_frame_num(numbered, found.end(), frame_num)
    return bytes(numbered)


def _set_frame_num(data: bytearray, start: int, frame_num: int) -> None:
    """In the slice whose header begins at `start`: behind its first macroblock, type and parameter set."""
    head = BitReader(bytes(data[start : start + 8]))
    at = start * 8
    for _ in range(3):
        at += len(_golomb(head.unsigned_golomb()))
    end = at + _FRAME_NUM_BITS
    first, last = at // 8, -(-end // 8)
    shift = last * 8 - end
    value = int.from_bytes(data[first:last]) & ~((1 << _FRAME_NUM_BITS) - 1 << shift)
    data[first:last] = (value | frame_num << shift).to_bytes(last - first)


def _golomb(value: int) -> str:
    """ue(v) (9.1)."""
    code = f"{value + 1:b}"
    return "0" * (len(code) - 1) + code


def _signed_golomb(value: int) -> str:
    """se(v) (9.1.1)."""
    return _golomb(2 * value - 1 if value > 0 else -2 * value)
