"""Which messages were here before: whoever sends them may send one twice. Pure."""

LONGEST_EXPIRY_S = 600.0
"""No call waits longer (recorders are started within seconds); an expiry that says so is remembered no longer
than this."""
MOST = 20_000
"""Ids remembered: a minute of more calls than Redis passes on."""
MAX_ID_CHARS = 256
"""Of a request or a client; psrpc's have 16. A longer one is nobody's of ours, and would be remembered."""


class Seen:
    """Ids of requests until nobody waits for them any more."""

    def __init__(self) -> None:
        self._until_ns: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._until_ns)

    def is_new(self, request_id: str, expiry_ns: int, now_ns: int) -> bool:
        """Whether a request is in time and here for the first time."""
        while self._until_ns and next(iter(self._until_ns.values())) < now_ns:
            del self._until_ns[next(iter(self._until_ns))]
        if expiry_ns <= now_ns or request_id in self._until_ns or len(request_id) > MAX_ID_CHARS:
            return False
        self._until_ns[request_id] = min(expiry_ns, now_ns + int(LONGEST_EXPIRY_S * 1e9))
        if len(self._until_ns) > MOST:
            del self._until_ns[next(iter(self._until_ns))]
        return True
