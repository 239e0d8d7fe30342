"""Observes calls on both sides, with the values that psrpc's own metrics count."""

from enum import StrEnum
from typing import Any

from openegress.psrpc.services import Method


class Role(StrEnum):
    CLIENT = "client"
    SERVER = "server"


class ClaimOutcome(StrEnum):
    """The result of a server's claim, in psrpc's words."""

    GRANTED = "granted"
    LOST_TO_PEER = "lost_to_peer"
    TIMED_OUT = "timed_out"
    SKIPPED = "skipped"
    """The server made no claim."""


class Observer:
    """Ignores all events; subclasses count them. Methods must neither block nor raise."""

    def received(self, method: Method[Any, Any]) -> None:
        """A server received a request; another one may answer it."""

    def expired(self, method: Method[Any, Any]) -> None:
        """A server received a request after its time-out."""

    def claimed(self, method: Method[Any, Any], outcome: ClaimOutcome, wait_ms: float) -> None:
        """A server's claim was decided after `wait_ms`."""

    def called(
        self,
        role: Role,
        method: Method[Any, Any],
        elapsed_ms: float,
        error_code: str,
        request_bytes: int,
        response_bytes: int,
    ) -> None:
        """A call has ended. `error_code` is psrpc's; "" without an error."""


NOBODY = Observer()
