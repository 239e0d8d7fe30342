"""Who counts calls: told of each one, on either side, with what psrpc's own metrics are made of."""

from enum import StrEnum
from typing import Any

from openegress.psrpc.services import Method


class Role(StrEnum):
    CLIENT = "client"
    SERVER = "server"


class ClaimOutcome(StrEnum):
    """What became of a server's wish to have a request; psrpc's words."""

    GRANTED = "granted"
    LOST_TO_PEER = "lost_to_peer"
    TIMED_OUT = "timed_out"
    SKIPPED = "skipped"
    """It wanted none."""


class Observer:
    """Hears everything and counts nothing. Its methods must neither block nor raise."""

    def received(self, method: Method[Any, Any]) -> None:
        """By a server, whoever answers it in the end."""

    def expired(self, method: Method[Any, Any]) -> None:
        """Received when nobody waited for its answer any more."""

    def claimed(self, method: Method[Any, Any], outcome: ClaimOutcome, wait_ms: float) -> None:
        """By a server."""

    def called(
        self,
        role: Role,
        method: Method[Any, Any],
        elapsed_ms: float,
        error_code: str,
        request_bytes: int,
        response_bytes: int,
    ) -> None:
        """A call has come to its end. `error_code` is psrpc's, "" where there is none."""


NOBODY = Observer()
