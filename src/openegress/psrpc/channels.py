"""Makes the names of channels on the bus, as github.com/livekit/psrpc does for Redis."""

_PLAIN = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz")


def escape(part: str) -> str:
    """Escapes one part of a name: characters other than [0-9A-Za-z_] become u+hhhh, or U+hhhhhhhh above
    U+FFFF."""
    return "".join(c if c in _PLAIN else _escape(ord(c)) for c in part)


def _escape(code_point: int) -> str:
    return f"u+{code_point:04x}" if code_point < 0x10000 else f"U+{code_point:08x}"


def join(*parts: str) -> str:
    """Joins the parts with "|", without empty ones."""
    return "|".join(escape(part) for part in parts if part)


def requests(service: str, method: str, topic: str = "") -> str:
    """The channel from a client to servers for requests, which servers may claim."""
    return join(service, method, topic, "REQ")


def claim_responses(service: str, method: str, topic: str = "") -> str:
    """The channel from a client to servers that says which server was chosen."""
    return join(service, method, topic, "RCLAIM")


def claim_requests(service: str, client_id: str) -> str:
    """The channel from servers to one client for claims with an affinity."""
    return join(service, client_id, "CLAIM")


def responses(service: str, client_id: str) -> str:
    """The channel from servers to one client for results."""
    return join(service, client_id, "RES")
