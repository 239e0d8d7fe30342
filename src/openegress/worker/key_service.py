"""Asks the user's key services for the keys of rooms that are encrypted end to end.

Their URLs are the operator's, so they may be anywhere (deny_networks is for what callers name), and redirects
are not followed. Answers are kept for a second, and never logged.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp
import structlog

from openegress.core import key_service
from openegress.core.backoff import Backoff
from openegress.core.errors import Code, EgressError, Fault
from openegress.core.ids import new_id
from openegress.core.plan import Plan
from openegress.core.room_keys import KeyAnswer, KeyQuestion
from openegress.core.room_patterns import fits
from openegress.core.shown_url import redact_endpoint
from openegress.core.values import Secret
from openegress.store.webhooks import HEADERS, sign

_log = structlog.get_logger(__name__)

MAX_ATTEMPTS = 3
BACKOFF = Backoff(first_s=0.25, ceiling_s=1.0)
TOTAL_TIMEOUT_S = 6.0
"""Time-out for a question with all its tries. A recording waits ten seconds for a track that its request
names."""
CACHE_S = 1.0
"""How long an answer holds for the same question: all recordings of a room ask when somebody changes keys."""
RETRIABLE_STATUSES = frozenset({408, 425, 429})
"""The 4xx codes that say nothing about the question (RFC 9110, 8470, 6585)."""


@dataclass(frozen=True, slots=True)
class KeyServiceAddress:
    """The address of one service."""

    rooms: tuple[str, ...]
    """Patterns of room names that it has keys for."""
    url: str
    signing_key: str
    """Name of the API key that signs requests."""
    timeout_s: float
    """Time-out for one request."""


class _NoAnswer(Exception):
    """Raised if a request got no answer; the text says why."""

    def __init__(self, text: str, *, is_final: bool = False) -> None:
        """`is_final`: another try would get the same answer."""
        super().__init__(text)
        self.is_final = is_final


_Question = tuple[str, str, str, KeyQuestion]
"""URL, name and id of the room, and the question."""


@dataclass(slots=True)
class _Exchange:
    """The requests about one question."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    answer: KeyAnswer | None = None
    at_s: float = 0.0
    """Monotonic time of the answer."""


class KeyServices:
    """All key services of one worker. Holds HTTP sessions until close()."""

    def __init__(
        self,
        addresses: Sequence[KeyServiceAddress],
        keys: Mapping[str, Secret],
        count: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`keys` maps names of API keys to secrets. `count` gets the result of each question: given, none,
        failed."""
        self.addresses = tuple(addresses)
        self._keys = keys
        self._count = count
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        """HTTP sessions by scheme of the URL."""
        self._talks: dict[_Question, _Exchange] = {}

    def serves(self, room_name: str) -> bool:
        return self._address(room_name) is not None

    async def ask(self, plan: Plan, question: KeyQuestion) -> KeyAnswer:
        """Asks for a key of the egress' room. Raises EgressError if there is no answer."""
        address = self._address(plan.room_name)
        if address is None:
            raise EgressError(Code.FAILED_PRECONDITION, "its room has no key service")
        now_s = time.monotonic()
        self._talks = {
            each: talk
            for each, talk in self._talks.items()
            if talk.lock.locked() or talk.at_s + CACHE_S > now_s
        }
        talk = self._talks.setdefault((address.url, plan.room_name, plan.room_id, question), _Exchange())
        async with talk.lock:
            if talk.answer is None or talk.at_s + CACHE_S <= time.monotonic():
                talk.answer = await self._answer(address, plan, question)
                talk.at_s = time.monotonic()
            return talk.answer

    async def close(self) -> None:
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    def _address(self, room_name: str) -> KeyServiceAddress | None:
        return next((each for each in self.addresses if fits(room_name, each.rooms)), None)

    async def _answer(self, address: KeyServiceAddress, plan: Plan, question: KeyQuestion) -> KeyAnswer:
        try:
            async with asyncio.timeout(TOTAL_TIMEOUT_S):
                answer = await self._try(address, plan, question)
        except (_NoAnswer, TimeoutError) as error:
            self._count("failed")
            why = str(error) or f"no answer within {TOTAL_TIMEOUT_S:g} s"
            shown = redact_endpoint(address.url)
            _log.warning("key service gives no answer", egress_id=plan.egress_id, url=shown, error=why)
            text = f"the key service at {shown} gives no answer: {why}"
            raise EgressError(Code.UNAVAILABLE, text, fault=Fault.SERVICE) from None
        self._count("given" if answer.keys else "none")
        _log.info(
            "key service was asked",
            egress_id=plan.egress_id,
            people=len(question.identities),
            index=question.index,
            keys=len(answer.keys),
        )
        return answer

    async def _try(self, address: KeyServiceAddress, plan: Plan, question: KeyQuestion) -> KeyAnswer:
        """Posts the question until there is an answer. Raises _NoAnswer."""
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                return await self._post(address, plan, question)
            except _NoAnswer as error:
                if error.is_final or attempt == MAX_ATTEMPTS:
                    raise
            await asyncio.sleep(BACKOFF.delay_s(attempt))
        raise AssertionError("the last try returns or raises")

    async def _post(self, address: KeyServiceAddress, plan: Plan, question: KeyQuestion) -> KeyAnswer:
        now_s = int(time.time())
        body = key_service.request_body(
            question,
            room_name=plan.room_name,
            room_id=plan.room_id,
            egress_id=plan.egress_id,
            event_id=new_id("KQ_"),
            now_s=now_s,
        )
        secret = self._keys.get(address.signing_key)
        if not secret:
            raise _NoAnswer(f'no secret for signing key "{address.signing_key}"', is_final=True)
        headers = {"Authorization": sign(body, address.signing_key, secret, now_s)}
        timeout = aiohttp.ClientTimeout(total=address.timeout_s)
        try:
            async with self._http(address.url).post(
                address.url, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                if response.status == 404:
                    return KeyAnswer()
                if response.status != 200:
                    is_final = 300 <= response.status < 500 and response.status not in RETRIABLE_STATUSES
                    raise _NoAnswer(f"it answers {response.status}", is_final=is_final)
                text = await _read(response)
        except TimeoutError:
            raise _NoAnswer(f"no answer within {address.timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Omit the text of the error, which may hold the URL and its secrets.
            raise _NoAnswer(getattr(error, "strerror", None) or type(error).__name__) from None
        try:
            return key_service.answer_of(text)
        except ValueError as error:
            raise _NoAnswer(str(error), is_final=True) from None

    def _http(self, url: str) -> aiohttp.ClientSession:
        """The session for a URL. Plain HTTP goes to this machine, and not to the proxy that the environment
        names."""
        scheme = urlsplit(url).scheme
        if scheme not in self._sessions:
            self._sessions[scheme] = aiohttp.ClientSession(headers=HEADERS, trust_env=scheme == "https")
        return self._sessions[scheme]


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Reads the body. Raises _NoAnswer if it is too long."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > key_service.MAX_ANSWER_BYTES:
            raise _NoAnswer(f"its answer is longer than {key_service.MAX_ANSWER_BYTES} bytes", is_final=True)
    return bytes(body)
