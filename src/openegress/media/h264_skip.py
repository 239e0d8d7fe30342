"""Writes H.264 pictures that repeat the one before, without an encoder. Pure.

A P picture of skipped macroblocks takes a few dozen bytes and reads no pixel. It is inserted into an
encoder's stream, so that the encoder's later pictures need other numbers. Clauses refer to ITU-T H.264.
"""

import re
from dataclasses import dataclass

from openegress.core.annex_b import BEGIN, START_CODE, units
from openegress.core.bits import BitReader, unescaped

_SLICE, _IDR, _SPS, _PPS = 1, 5, 7, 8
_P_REFERENCE = 0x41
"""The header byte of a slice that later pictures reference."""
_P_SLICES = 5
"""The slice type of a picture with only P slices (table 7-6)."""
_FRAME_NUM_BITS = 4
"""Bits of a frame number. More could put two zero bytes into a slice's header; changing the number would then
change its length."""
_PROFILES = {66, 77, 100}
"""Profiles with 4:2:0 and eight bits that our encoders write."""
_HIGH = 100
_QP = 51
"""The QP of repeated pictures. With it, the only context in use begins in state 42 and most probably says
"skipped" (9.3.1.1). There are no coefficients to scale."""
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
    """The parameter set fields that the header of a P slice depends on."""

    macroblocks: int
    """Number of macroblocks per picture."""
    has_cabac: bool
    has_weights: bool
    several_references: bool
    """Whether each slice must state that it uses one reference."""
    qp: int
    """The value that slice QPs are relative to."""
    says_deblocking: bool

    @classmethod
    def of(cls, extradata: bytes) -> "Headers | None":
        """Reads parameter sets in Annex B. Returns None if a repeated picture cannot be inserted: pictures
        have fields, several references or their own order, or our encoders do not write such parameter
        sets."""
        sets = {nal[0] & 0x1F: unescaped(nal) for nal in units(extradata)}
        if _SPS not in sets or _PPS not in sets:
            return None
        try:
            macroblocks = _macroblocks(BitReader(sets[_SPS][1:]))
            return _headers(BitReader(sets[_PPS][1:]), macroblocks) if macroblocks else None
        except IndexError:
            return None


class RepeatWriter:
    """Repeats pictures in one stream."""

    def __init__(self, headers: Headers) -> None:
        body = _all_skipped(headers.macroblocks) if headers.has_cabac else _golomb(headers.macroblocks) + "1"
        self._pictures = [_picture(headers, number, body) for number in range(1 << _FRAME_NUM_BITS)]
        self.size = max(map(len, self._pictures))
        """Limit for the bytes of one repeat."""
        self._put_in = 0
        """Number of repeats inserted since the last key frame."""
        self._last = 0

    def repeat(self) -> bytes:
        """Returns a repeat of the last picture that was returned."""
        self._put_in += 1
        self._last = (self._last + 1) % len(self._pictures)
        return self._pictures[self._last]

    def renumbered(self, unit: bytes, *, is_key: bool) -> bytes:
        """Renumbers the encoder's next access unit in Annex B after the inserted ones (7.4.3, frame_num)."""
        if is_key:
            self._put_in = self._last = 0
            return unit
        self._last = (self._last + 1) % len(self._pictures)
        if not self._put_in:
            return unit
        return _with_frame_num(unit, self._last)

    def again(self, unit: bytes, *, is_key: bool) -> bytes:
        """Returns an access unit that the encoder already returned since its last key frame. Call it in the
        same order."""
        self._put_in = 1
        self._last = 0 if is_key else (self._last + 1) % len(self._pictures)
        return unit

    def are_alike(self, unit: bytes, other: bytes) -> bool:
        """Whether two of the encoder's access units are the same apart from their numbers and their last
        byte, which x264 fills with meaningless bits that vary."""
        return _with_frame_num(unit, 0)[:-1] == _with_frame_num(other, 0)[:-1]


def _macroblocks(sps: BitReader) -> int:
    """Macroblocks of a picture; 0 if the parameters are unsuitable (7.3.2.1.1)."""
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
        return 0  # frame numbers are longer, or output order differs from decoding order
    references, may_have_gaps = sps.unsigned_golomb(), sps.flag()
    if references != 1 or may_have_gaps:
        return 0
    macroblocks = (sps.unsigned_golomb() + 1) * (sps.unsigned_golomb() + 1)
    return macroblocks if sps.flag() else 0


def _headers(pps: BitReader, macroblocks: int) -> Headers | None:
    """Reads a picture parameter set (7.3.2.2)."""
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
    """Builds a slice of skipped macroblocks only (7.3.3, 7.3.4), which are the bits of `body`."""
    bits = _golomb(0) + _golomb(_P_SLICES) + _golomb(0) + f"{frame_num:0{_FRAME_NUM_BITS}b}"
    bits += "1" + _golomb(0) if headers.several_references else "0"
    bits += "0"  # references keep their default order
    if headers.has_weights:
        bits += _golomb(0) + _golomb(0) + "0" + "0"
    bits += "0"  # and their default marking
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
    # Emulation prevention (7.4.1): a payload must not contain a start code.
    return START_CODE + re.sub(rb"\x00\x00(?=[\x00-\x03])", b"\0\0\3", bytes((_P_REFERENCE,)) + payload)


def _all_skipped(macroblocks: int) -> str:
    """Returns the arithmetic code of that many skipped macroblocks with the stop bit (9.3.4). Each takes the
    most probable symbol, so the lower end of the interval stays in place until the last, and only shifts
    count."""
    interval, state, shifts = 510, _FIRST_STATE, 0
    for index in range(macroblocks):
        interval -= _RANGE_LPS[state - _FIRST_STATE][interval >> 6 & 3]
        state = min(state + 1, _LAST_STATE)
        while interval < 256:
            interval, shifts = interval << 1, shifts + 1
        interval -= 2  # end_of_slice_flag is 0
        while interval < 256 and index < macroblocks - 1:
            interval, shifts = interval << 1, shifts + 1
    # The last one ends the slice: the code is the upper end, nine bits, the last of which is the stop bit.
    return f"{interval | 1:0{shifts + 9}b}"


def _with_frame_num(unit: bytes, frame_num: int) -> bytes:
    numbered = bytearray(unit)
    for found in BEGIN.finditer(unit):
        if found[1][0] & 0x1F == _SLICE:
            _set_frame_num(numbered, found.end(), frame_num)
    return bytes(numbered)


def _set_frame_num(data: bytearray, start: int, frame_num: int) -> None:
    """Sets the frame number in the slice whose header begins at `start`: after first macroblock, type and
    parameter set."""
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
    """Writes ue(v) (9.1)."""
    code = f"{value + 1:b}"
    return "0" * (len(code) - 1) + code


def _signed_golomb(value: int) -> str:
    """Writes se(v) (9.1.1)."""
    return _golomb(2 * value - 1 if value > 0 else -2 * value)
