"""Remembers which messages have arrived, as a sender may send one twice. Pure."""

from openegress.core.recent import Recent

MAX_EXPIRY_S = 600.0
"""No caller waits longer (recorders start within seconds). A message that claims a later expiry is remembered
for no longer than this."""
MAX_IDS = 20_000
"""Ids remembered: more than a minute of calls at the highest rate that Redis delivers."""
MAX_ID_CHARS = 256
"""Limit for the id of a request or a client; psrpc's have 16. A longer one is not from our clients, and would
be remembered."""


class SeenIds:
    """Remembers ids of requests until nobody waits for them any more."""

    def __init__(self) -> None:
        self._until_ns: Recent[str, int] = Recent(MAX_IDS)

    def __len__(self) -> int:
        return len(self._until_ns)

    def is_new(self, request_id: str, expiry_ns: int, now_ns: int) -> bool:
        """Whether a request is in time, and is the first with its id."""
        while self._until_ns and next(iter(self._until_ns.values())) < now_ns:
            del self._until_ns[next(iter(self._until_ns))]
        if expiry_ns <= now_ns or request_id in self._until_ns or len(request_id) > MAX_ID_CHARS:
            return False
        self._until_ns[request_id] = min(expiry_ns, now_ns + int(MAX_EXPIRY_S * 1e9))
        return True
