"""Encodes and decodes AMF0, in which RTMP writes commands (Adobe's Action RtmpMessage Format, AMF 0).
Pure."""

import struct
from collections.abc import Mapping
from enum import IntEnum
from typing import TypeAlias

Value: TypeAlias = "float | bool | str | Mapping[str, Value] | list[Value] | None"


class _Marker(IntEnum):
    NUMBER = 0
    BOOLEAN = 1
    STRING = 2
    OBJECT = 3
    NULL = 5
    UNDEFINED = 6
    ECMA_ARRAY = 8
    STRICT_ARRAY = 10
    DATE = 11
    LONG_STRING = 12


_OBJECT_END = b"\x00\x00\x09"
_DEEPEST = 8
"""Limit for levels of nested objects. Servers' answers have two."""


def encode(*values: Value) -> bytes:
    """Encodes numbers, texts of at most 65,535 bytes, None, and objects of these."""
    return b"".join(_encoded(each) for each in values)


def text(value: str) -> bytes:
    return bytes((_Marker.STRING,)) + _key(value)


def decode(data: bytes) -> list[Value]:
    """Decodes values up to the first one that cannot be read, because the rest is then meaningless."""
    reader = _Reader(data)
    found: list[Value] = []
    try:
        while not reader.is_at_end:
            found.append(reader.value(_DEEPEST))
    except (ValueError, struct.error):
        pass
    return found


def _encoded(value: Value) -> bytes:
    match value:
        case None:
            return bytes((_Marker.NULL,))
        case str():
            return text(value)
        case Mapping():
            fields = (_key(name) + _encoded(each) for name, each in value.items())
            return bytes((_Marker.OBJECT,)) + b"".join(fields) + _OBJECT_END
        case int() | float():
            return bytes((_Marker.NUMBER,)) + struct.pack(">d", value)
        case _:
            raise ValueError(f"no value of a command: {type(value).__name__}")


def _key(name: str) -> bytes:
    data = name.encode()
    return len(data).to_bytes(2) + data


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_at_end(self) -> bool:
        return self._at >= len(self._data)

    def value(self, deepest: int) -> Value:
        """Reads a value. Raises ValueError or struct.error."""
        if deepest == 0:
            raise ValueError("too deep")
        match self._take(1)[0]:
            case _Marker.NUMBER:
                return self._number()
            case _Marker.BOOLEAN:
                return self._take(1) != b"\0"
            case _Marker.STRING:
                return self._text(2)
            case _Marker.OBJECT:
                return self._fields(deepest)
            case _Marker.NULL | _Marker.UNDEFINED:
                return None
            case _Marker.ECMA_ARRAY:
                self._take(4)
                return self._fields(deepest)
            case _Marker.STRICT_ARRAY:
                return self._items(deepest)
            case _Marker.DATE:
                return self._date()
            case _Marker.LONG_STRING:
                return self._text(4)
            case marker:
                raise ValueError(f"marker {marker}")

    def _fields(self, deepest: int) -> dict[str, Value]:
        found: dict[str, Value] = {}
        while self._data[self._at : self._at + 3] != _OBJECT_END:
            name = self._text(2)
            found[name] = self.value(deepest - 1)
        self._take(3)
        return found

    def _items(self, deepest: int) -> list[Value]:
        count = int.from_bytes(self._take(4))
        return [self.value(deepest - 1) for _ in range(count)]

    def _number(self) -> float:
        number: float = struct.unpack(">d", self._take(8))[0]
        return number

    def _date(self) -> float:
        number = self._number()
        self._take(2)
        return number

    def _text(self, length_bytes: int) -> str:
        return self._take(int.from_bytes(self._take(length_bytes))).decode(errors="replace")

    def _take(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        if len(found) < count:
            raise ValueError("cut short")
        self._at += count
        return found
