"""The one error type of the project, mapped once at each edge: Twirp, psrpc, EgressInfo, exit code."""

from enum import Enum, StrEnum

from openegress.core.text import shown_lines


class Code(StrEnum):
    """Twirp error codes (Twirp wire protocol v7), which are also psrpc's."""

    CANCELED = "canceled"
    UNKNOWN = "unknown"
    INVALID_ARGUMENT = "invalid_argument"
    MALFORMED = "malformed"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    NOT_FOUND = "not_found"
    BAD_ROUTE = "bad_route"
    ALREADY_EXISTS = "already_exists"
    PERMISSION_DENIED = "permission_denied"
    UNAUTHENTICATED = "unauthenticated"
    RESOURCE_EXHAUSTED = "resource_exhausted"
    FAILED_PRECONDITION = "failed_precondition"
    ABORTED = "aborted"
    OUT_OF_RANGE = "out_of_range"
    UNIMPLEMENTED = "unimplemented"
    INTERNAL = "internal"
    UNAVAILABLE = "unavailable"
    DATALOSS = "dataloss"

    @property
    def http_status(self) -> int:
        return HTTP_STATUS[self]


HTTP_STATUS: dict[Code, int] = {
    Code.CANCELED: 408,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.MALFORMED: 400,
    Code.DEADLINE_EXCEEDED: 408,
    Code.NOT_FOUND: 404,
    Code.BAD_ROUTE: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.UNAUTHENTICATED: 401,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 412,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATALOSS: 503,
}


class Fault(Enum):
    """Who has to act on an error."""

    CALLER = "caller"
    """The request is wrong: a bad URL, an unknown room, a missing field."""
    DESTINATION = "destination"
    """A storage, stream server or page that the request names has failed."""
    SERVICE = "service"
    """The error is ours."""


class Phase(StrEnum):
    """Where in the life of a recording something failed; part of every error's text after the start."""

    ADMISSION = "admission"
    BROWSER_START = "browser start"
    PAGE_LOAD = "page load"
    TEMPLATE = "template"
    START_SIGNAL = "start signal"
    SIGNALLING = "signalling"
    ICE = "ice"
    FIRST_TRACK = "first track"
    FIRST_FRAME = "first frame"
    RECORDING = "recording"
    STREAM = "stream"
    STORAGE_CHECK = "storage check"
    STORAGE_WRITE = "storage write"
    STORAGE_READ = "storage read"
    FINISH = "finish"
    RECOVERY = "recovery"


MAX_MESSAGE_CHARS = 4_000
"""Limit for the text of an error. Errors go into records, webhooks and logs, and quote values from outside;
this is enough for forty problems of streams at once."""


class EgressError(Exception):
    """What went wrong, with the value, and what to do. `message` is the text users see: it holds no secrets
    and no invisible characters."""

    def __init__(
        self, code: Code, message: str, *, fault: Fault = Fault.CALLER, phase: Phase | None = None
    ) -> None:
        message = shown_lines(message, MAX_MESSAGE_CHARS)
        super().__init__(message)
        self.code = code
        self.message = message
        self.fault = fault
        self.phase = phase

    @property
    def text(self) -> str:
        """The message with its phase in front, for EgressInfo.error and logs. Upstream's own texts that begin
        with the phase ("page load error: ...") stay as clients know them."""
        if self.phase is None or self.message.startswith(f"{self.phase} error: "):
            return self.message
        return f"{self.phase}: {self.message}"

    def __repr__(self) -> str:
        return f"EgressError({self.code.value}, {self.text!r})"


def invalid(message: str) -> EgressError:
    """The request cannot be carried out as it stands."""
    return EgressError(Code.INVALID_ARGUMENT, message)


def missing_or_invalid(field: str) -> EgressError:
    """Upstream's template for a bad field; clients match on its text."""
    return invalid(f"request has missing or invalid field: {field}")


def unimplemented(what: str) -> EgressError:
    return EgressError(Code.UNIMPLEMENTED, f"{what} is not yet supported", fault=Fault.SERVICE)


def internal(message: str, phase: Phase | None = None) -> EgressError:
    return EgressError(Code.INTERNAL, message, fault=Fault.SERVICE, phase=phase)
