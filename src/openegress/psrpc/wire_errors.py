"""Converts EgressError to and from the `code` and `error` of a Response.

psrpc's codes are Twirp's with a few exceptions (psrpc errors.go). Unknown codes become `unknown`.
"""

from openegress.core.errors import Code, EgressError, Fault

_FROM_PSRPC = {
    "malformed_request": Code.MALFORMED,
    "malformed_result": Code.INTERNAL,
    "data_loss": Code.DATALOSS,
    "not_acceptable": Code.INVALID_ARGUMENT,
    "unprocessable_entity": Code.INVALID_ARGUMENT,
    "upstream_server_error": Code.UNAVAILABLE,
    "upstream_client_error": Code.FAILED_PRECONDITION,
}
_TO_PSRPC = {
    Code.MALFORMED: "malformed_request",
    Code.DATALOSS: "data_loss",
    Code.BAD_ROUTE: "unimplemented",
}
_CALLERS_FAULT = frozenset(
    {
        Code.INVALID_ARGUMENT,
        Code.MALFORMED,
        Code.NOT_FOUND,
        Code.ALREADY_EXISTS,
        Code.PERMISSION_DENIED,
        Code.UNAUTHENTICATED,
        Code.FAILED_PRECONDITION,
        Code.OUT_OF_RANGE,
    }
)


def to_wire(code: Code) -> str:
    return _TO_PSRPC.get(code, code.value)


def from_wire(code: str, message: str) -> EgressError:
    try:
        known = _FROM_PSRPC.get(code) or Code(code)
    except ValueError:
        known = Code.UNKNOWN
    fault = Fault.CALLER if known in _CALLERS_FAULT else Fault.SERVICE
    return EgressError(known, message, fault=fault)


class NoResponse(EgressError):
    """Raised if no server answered. The text is psrpc's, and clients match on it."""

    def __init__(self) -> None:
        super().__init__(Code.UNAVAILABLE, "no response from servers", fault=Fault.SERVICE)


def timed_out() -> EgressError:
    """The error of a chosen server that did not answer in time. The text is psrpc's."""
    return EgressError(Code.DEADLINE_EXCEEDED, "request timed out", fault=Fault.SERVICE)
