"""What comes in from a receiver that has nothing to say: counted by the kernel, which sees all of it."""

import socket
import struct
from typing import Protocol

from openegress.room.budget import RefillRate, TokenBucket

SAID = RefillRate(64 * 1024, 2**20)
"""Bytes a second, and at once: what people let receivers of sound answer, though nobody reads it."""

TOO_MUCH = "the receiver says more than it has to say"

_INFO_BYTES = 136
_BYTES_RECEIVED_AT = 128
"""Of struct tcp_info: tcpi_bytes_received (linux/tcp.h)."""


class TcpSocket(Protocol):
    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...


class Heard:
    """Of one connection."""

    def __init__(self, connected: TcpSocket) -> None:
        self._socket = connected
        self._said = TokenBucket(SAID)
        self._before_bytes = 0

    def is_too_much(self, now_ns: int) -> bool:
        """Asked now and again. Raises OSError when the socket is gone."""
        info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        if len(info) < _INFO_BYTES:
            return False  # a kernel that does not count
        all_bytes: int = struct.unpack_from("Q", info, _BYTES_RECEIVED_AT)[0]
        new_bytes, self._before_bytes = all_bytes - self._before_bytes, all_bytes
        return not self._said.spend(new_bytes, now_ns)
