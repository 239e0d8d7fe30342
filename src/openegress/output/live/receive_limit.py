"""Limits the bytes that a receiver sends back, by the kernel's count of them."""

import socket
import struct
from typing import Protocol

from openegress.core.token_bucket import RefillRate, TokenBucket

RECEIVE_RATE = RefillRate(64 * 1024, 2**20)
"""Limit in bytes per second, and at once. Receivers of sound may answer, although nobody reads the
answers."""

TOO_MUCH = "the receiver says more than it has to say"

_INFO_BYTES = 136
_BYTES_RECEIVED_AT = 128
"""The offset of tcpi_bytes_received in struct tcp_info (linux/tcp.h)."""


class TcpSocket(Protocol):
    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...


class ReceiveLimit:
    """The limit of one connection."""

    def __init__(self, connected: TcpSocket) -> None:
        self._socket = connected
        self._said = TokenBucket(RECEIVE_RATE)
        self._before_bytes = 0

    def is_too_much(self, now_ns: int) -> bool:
        """Whether the receiver sends too much. Call it regularly. Raises OSError once the socket is
        closed."""
        info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        if len(info) < _INFO_BYTES:
            return False  # a kernel that does not count
        all_bytes: int = struct.unpack_from("Q", info, _BYTES_RECEIVED_AT)[0]
        new_bytes, self._before_bytes = all_bytes - self._before_bytes, all_bytes
        return not self._said.spend(new_bytes, now_ns)
