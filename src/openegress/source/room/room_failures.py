"""Makes the errors that end the recording of a room, as callers see them. Pure."""

from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.room.budget import Reason
from openegress.room.events import EndKind


def not_subscribed(sid: str, reason: str) -> EgressError:
    text = f"failed to subscribe to track {sid}: {reason}"
    return EgressError(Code.UNAVAILABLE, text, fault=Fault.SERVICE, phase=Phase.FIRST_TRACK)


def undecipherable(sid: str, identity: str) -> EgressError:
    text = f"track {sid} of {identity} cannot be recorded: {Reason.WRONG_KEY}"
    return EgressError(Code.FAILED_PRECONDITION, text, phase=Phase.FIRST_TRACK)


def connection_failed(reason: str, kind: EndKind, phase: Phase) -> EgressError:
    text = "recording ended early: connection to room failed" + (f": {reason}" if reason else "")
    code = Code.ABORTED if kind is EndKind.REPLACED else Code.UNAVAILABLE
    return EgressError(code, text, fault=Fault.SERVICE, phase=phase)
