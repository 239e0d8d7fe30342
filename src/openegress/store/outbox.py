"""Sends the deliveries of the outbox, in order for each egress and URL, with retries until they are accepted.

A receiver that refuses an event (with 4xx, as many do for unknown events) gets it a few times; then newer
events of the egress are sent instead. The last event of an egress is retried for the full time.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
import structlog
from yarl import URL

from openegress.core.backoff import Backoff
from openegress.core.errors import EgressError
from openegress.core.exact_url import verbatim
from openegress.core.networks import networks_of
from openegress.core.reach import socket_factory
from openegress.core.shown_url import redact_endpoint
from openegress.core.tasks import cancelled, stopped
from openegress.core.values import Secret
from openegress.store import Announce, Delivery, Outbox
from openegress.store.webhooks import HEADERS, Webhooks, sign

_log = structlog.get_logger(__name__)

REQUEST_TIMEOUT_S = 10.0
"""Time-out for a request. Receivers are expected to answer before they start long work."""

CLAIM_S = 30.0
"""Lifetime of a claim, in case its process dies. It is longer than a request."""

IN_FLIGHT = 128
IN_FLIGHT_PER_HOST = 8
IN_FLIGHT_PER_URL = 4
"""Limit for parallel deliveries. It keeps one hanging URL, or a host with many of them, from blocking the
others."""

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 300.0

IDLE_S = 5.0
"""Interval at which a shared outbox is checked for deliveries of other processes."""


REFUSED_ATTEMPTS = 4
"""The number of refusals (about seven seconds) after which newer events are sent instead."""

ASK_AGAIN = frozenset({408, 425, 429})
"""Status codes 4xx that say nothing about the event (RFC 9110, 8470, 6585)."""

MOVED = frozenset({307, 308})
REDIRECTS = 3


def pause_s(failures: int) -> float:
    """The pause after this many failures in a row. It doubles each time, and varies by a quarter up and
    down."""
    return Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S, least=0.75, most=1.25).delay_s(failures)


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
    return aiohttp.ClientSession(connector=connector, timeout=timeout, headers=HEADERS, trust_env=True)


@dataclass(frozen=True, slots=True)
class _Failure:
    text: str
    is_refusal: bool = False
    """Whether the receiver answered and does not want this event."""


@dataclass(slots=True)
class _Url:
    """The recent failures of a URL."""

    failures: int = 0
    rests_until_ns: int = 0
    in_flight: int = 0

    @property
    def at_once(self) -> int:
        """Limit for parallel deliveries to the URL: only one while it fails."""
        return 1 if self.failures else IN_FLIGHT_PER_URL


@dataclass(slots=True)
class Tally:
    delivered: int = 0
    failed_attempts: int = 0
    given_up: int = 0


class WebhookSender:
    """The Notifier of an IOInfoService: makes deliveries for changes, and sends them.

    It works from start() to close(). Deliveries that are left then are sent after the next start.
    """

    def __init__(
        self,
        webhooks: Webhooks,
        outbox: Outbox,
        keys: Mapping[str, Secret],
        retry_for_s: float,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._webhooks = webhooks
        self._outbox = outbox
        self._keys = keys
        self._retry_for_s = retry_for_s
        self._now_ns = now_ns
        self._urls: dict[str, _Url] = {}
        self._in_flight: Counter[str] = Counter()
        """Numbers of deliveries in progress by host and port."""
        self._sending: set[asyncio.Task[None]] = set()
        self._claimed: dict[int, Delivery] = {}
        """Deliveries by id that this process has claimed, until their outcome is stored."""
        self._woken = asyncio.Event()
        self._settled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._project_session: aiohttp.ClientSession | None = None
        self._request_session: aiohttp.ClientSession | None = None
        self.tally = Tally()

    @property
    def announce(self) -> Announce:
        return self._webhooks.announce

    def wake(self) -> None:
        self._woken.set()

    async def start(self) -> None:
        self._project_session = _session(aiohttp.TCPConnector(limit=IN_FLIGHT))
        # Callers must not reach through this server what only the server can reach.
        networks = networks_of(self._webhooks.deny_networks)
        connector = aiohttp.TCPConnector(limit=IN_FLIGHT, socket_factory=socket_factory(networks))
        self._request_session = _session(connector)
        self._task = asyncio.create_task(self._run(), name="webhooks")

    async def drain(self, timeout_s: float) -> bool:
        """Waits until the outbox is empty. Returns False if it is not after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    self._settled.clear()
                    if not self._sending and await self._outbox.next_due_ns() is None:
                        return True
                    await self._settled.wait()
        except TimeoutError:
            return False

    async def close(self) -> None:
        """Stops sending. Interrupted deliveries are due at once for the next process."""
        await cancelled(*self._sending, self._task)
        with contextlib.suppress(EgressError):  # the claims run out by themselves
            for delivery in list(self._claimed.values()):
                await self._outbox.postpone(delivery, self._now_ns(), delivery.attempts)
        for session in (self._project_session, self._request_session):
            if session is not None:
                await session.close()

    async def stopped(self) -> str | None:
        """Returns why the sender has stopped; None while it works. For health checks."""
        return stopped(self._task)

    async def _run(self) -> None:
        away = False
        while True:
            self._woken.clear()
            try:
                wait_s = await self._round()
                away = False
            except EgressError as error:
                if not away:
                    _log.warning("webhooks wait: their outbox cannot be reached", error=error.message)
                away, wait_s = True, FIRST_PAUSE_S
            except Exception:
                # A bug in one round must not stop all webhooks until the next restart.
                _log.exception("a round of webhooks failed")
                wait_s = IDLE_S
            try:
                async with asyncio.timeout(wait_s):
                    await self._woken.wait()
            except TimeoutError:
                pass  # something is due

    async def _round(self) -> float:
        """Claims and sends deliveries that are due. Returns seconds until the next round."""
        free = IN_FLIGHT - len(self._sending)
        if not free:
            return IDLE_S
        now_ns = self._now_ns()
        claimed = await self._outbox.claim(now_ns, now_ns + int(CLAIM_S * 1e9), free)
        self._claimed.update((delivery.id, delivery) for delivery in claimed)
        for delivery in claimed:
            url, host = self._urls.setdefault(delivery.url, _Url()), _host_of(delivery.url)
            is_full = url.in_flight >= url.at_once or self._in_flight[host] >= IN_FLIGHT_PER_HOST
            if now_ns < url.rests_until_ns or is_full:
                due_ns = max(url.rests_until_ns, now_ns + int(FIRST_PAUSE_S * 1e9))
                await self._outbox.postpone(delivery, due_ns, delivery.attempts)
                del self._claimed[delivery.id]
                continue
            url.in_flight += 1
            self._in_flight[host] += 1
            task = asyncio.create_task(self._deliver(delivery, url))
            self._sending.add(task)
            task.add_done_callback(self._done)
        if len(claimed) == free:
            return 0.0
        due_ns = await self._outbox.next_due_ns() or now_ns + int(IDLE_S * 1e9)
        return min(IDLE_S, max(0.0, (due_ns - self._now_ns()) / 1e9))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._settled.set()
        self._woken.set()

    async def _deliver(self, delivery: Delivery, url: _Url) -> None:
        try:
            failure = await self._post(delivery)
            if failure is None:
                url.failures = 0
                url.rests_until_ns = 0
                self.tally.delivered += 1
                await self._outbox.confirm(delivery)
            else:
                await self._failed(delivery, url, failure)
        except EgressError as error:
            # The claim expires and the event is sent again: delivery is at least once, not exactly once.
            _log.warning(
                "could not store the outcome of a webhook", error=error.message, event=delivery.event
            )
        finally:
            host = _host_of(delivery.url)
            self._in_flight[host] -= 1
            if not self._in_flight[host]:
                del self._in_flight[host]
            url.in_flight -= 1
            if not url.in_flight and not url.failures:
                self._urls.pop(delivery.url, None)
        del self._claimed[delivery.id]  # not reached if cancelled: close() needs it then

    async def _failed(self, delivery: Delivery, url: _Url, failure: _Failure) -> None:
        now_ns = self._now_ns()
        attempts = delivery.attempts + 1
        is_news = not url.failures and attempts == 1
        if failure.is_refusal:
            url.failures, url.rests_until_ns = 0, 0
        else:
            url.failures += 1
            url.rests_until_ns = now_ns + int(pause_s(url.failures) * 1e9)
        self.tally.failed_attempts += 1
        about = {
            "event_name": delivery.event,
            "egress_id": delivery.egress_id,
            "url": redact_endpoint(delivery.url),
            "attempts": attempts,
            "error": failure.text,
        }
        gives_way = (
            failure.is_refusal and attempts >= REFUSED_ATTEMPTS and await self._outbox.is_followed(delivery)
        )
        if gives_way or now_ns - delivery.created_at_ns > self._retry_for_s * 1e9:
            self.tally.given_up += 1
            _log.error("webhook given up", **about)
            self._urls.pop(delivery.url, None)
            await self._outbox.confirm(delivery)
            return
        if is_news:
            _log.warning("webhook not accepted", **about)
        due_ns = now_ns + int(pause_s(attempts) * 1e9)
        await self._outbox.postpone(delivery, due_ns, attempts)

    async def _post(self, delivery: Delivery) -> _Failure | None:
        """Sends a delivery. Returns what went wrong; None if the receiver accepted it."""
        ours = delivery.url in self._webhooks.project_urls
        session = self._project_session if ours else self._request_session
        assert session is not None, "start() comes first"
        secret = self._keys.get(delivery.signing_key)
        if not secret:
            return _Failure(f'no secret for signing key "{delivery.signing_key}"')
        token = sign(delivery.body, delivery.signing_key, secret, self._now_ns() // 1_000_000_000)
        try:
            status = await _answer(session, delivery, token)
        except TimeoutError:
            return _Failure(f"no answer in {REQUEST_TIMEOUT_S:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # The error's text may hold the URL with secrets.
            return _Failure(getattr(error, "strerror", None) or type(error).__name__)
        if 200 <= status < 300:
            return None
        return _Failure(f"answered {status}", 300 <= status < 500 and status not in ASK_AGAIN)


def _host_of(url: str) -> str:
    """The host of a URL, with its port."""
    return urlsplit(url).netloc.rpartition("@")[2].lower()


async def _answer(session: aiohttp.ClientSession, delivery: Delivery, token: str) -> int:
    """Posts to the URL and returns the HTTP status. Follows redirects that keep the method (RFC 9110)."""
    url, status = verbatim(delivery.url), 0
    for _ in range(1 + REDIRECTS):
        # The Authorization header holds the signature; a user name in the URL is dropped, as in Go.
        async with session.post(
            url.with_user(None), data=delivery.body, headers={"Authorization": token}, allow_redirects=False
        ) as response:
            status, there = response.status, response.headers.get("Location", "")
        if status not in MOVED or not there:
            break
        url = redirected(url, there)
    return status


def redirected(url: URL, there: str) -> URL:
    """The URL in a Location header. Raises ValueError if it is not a URL."""
    return url.join(verbatim(there))
