"""The server side of psrpc: claims requests, runs their handlers, and publishes the results."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Generic

import structlog
from google.protobuf.message import DecodeError

from openegress.core.errors import Code, EgressError
from openegress.core.ids import new_id
from openegress.core.seen import MAX_ID_CHARS, SeenIds
from openegress.proto.psrpc_pb2 import ClaimRequest, ClaimResponse, Request, Response
from openegress.psrpc import Bus, Subscription, channels
from openegress.psrpc.envelope import seal, unseal
from openegress.psrpc.observer import NOBODY, ClaimOutcome, Observer, Role
from openegress.psrpc.services import Method, Req, Res, Routing
from openegress.psrpc.wire_errors import to_wire

_log = structlog.get_logger(__name__)

Handler = Callable[[Req], Awaitable[Res]]
Affinity = Callable[[Req], float | EgressError]
"""Returns how much a server wants a request: 0 < a <= 1. Negative: it does not take the call, and is silent.
An EgressError: it does not take the call and gives this reason, which the caller gets unless another server
takes the call."""

REFUSAL_DELAY_S = 0.5
"""Delay of a refusal. It must not arrive before the answer of a chosen server, as stock clients take the
first response after their choice. After this delay, all servers that want the call have claimed it. Our own
clients check who answers, so no delay is needed on the bus inside one process."""

CHOICE_S = 1.2
"""Time in which a client chooses: within a second of its request."""

PUBLISH_PAUSE_S = 0.25
"""The pause between attempts to publish an answer while the bus is unreachable."""


MAX_RUNNING = 1_000
"""Limit for parallel calls of one method. Further ones are left to other servers, or not answered."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """What a handler may use of its request in addition to the message."""

    client_id: str
    expiry_ns: int
    """The unix time in ns at which the client stops waiting for the answer."""
    metadata: dict[str, str] = field(default_factory=dict)


incoming: ContextVar[Incoming] = ContextVar("incoming")
"""The request of the handler that runs."""


@dataclass(frozen=True, slots=True)
class Served(Generic[Req, Res]):
    """How a server serves one method."""

    method: Method[Req, Res]
    handler: Handler[Req, Res]
    topic: str = ""
    affinity: Affinity[Req] | None = None
    """The affinity for a request; None: the server takes every call."""
    hesitation_s: Callable[[], float] | None = None
    """How long the server waits for others to claim a request first. Ignored on the bus inside one process,
    which has no other servers."""


class Registration(Generic[Req, Res]):
    """A method that is served on one topic, from register() to close()."""

    def __init__(
        self,
        bus: Bus,
        server_id: str,
        served: Served[Req, Res],
        on_close: "Callable[[Registration[Any, Any]], None]",
        observer: Observer,
    ) -> None:
        self._on_close = on_close
        self._observer = observer
        self._bus = bus
        self._server_id = server_id
        self._method = served.method
        self._served = served
        self._choices: dict[str, asyncio.Future[str]] = {}
        self._seen = SeenIds()
        self._running: set[asyncio.Task[None]] = set()
        self._subscriptions: list[Subscription] = []
        self._readers: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Subscribes. If that fails or is cancelled, all subscriptions are closed again. Raises
        EgressError."""
        try:
            await self._open()
        except BaseException:
            for subscription in self._subscriptions:
                await subscription.close()
            await asyncio.gather(*self._readers)
            raise

    async def _open(self) -> None:
        method, topic = self._method, self._served.topic
        if method.is_claimed:
            choices = await self._bus.subscribe(channels.claim_responses(method.service, method.name, topic))
            self._subscriptions.append(choices)
            self._readers.append(asyncio.create_task(self._read_choices(choices)))
        is_queued = method.routing is Routing.QUEUED
        subscribe = self._bus.subscribe_queue if is_queued else self._bus.subscribe
        requests = await subscribe(channels.requests(method.service, method.name, topic))
        self._subscriptions.append(requests)
        self._readers.append(asyncio.create_task(self._read_requests(requests)))

    async def close(self) -> None:
        """Takes no further requests. Returns when the claimed ones are answered or were given to other
        servers."""
        self._on_close(self)
        *choices, requests = self._subscriptions
        await requests.close()
        if self._choices:
            await asyncio.wait(self._choices.values(), timeout=CHOICE_S)
        for choice in self._choices.values():
            choice.cancel()
        for subscription in choices:
            await subscription.close()
        await asyncio.gather(*self._readers)
        # A handler may close its own registration, and cannot wait for itself.
        await asyncio.gather(*(self._running - {asyncio.current_task()}))

    async def _read_choices(self, choices: Subscription) -> None:
        async for payload in choices:
            choice = unseal(payload, ClaimResponse)
            if choice is not None and (future := self._choices.get(choice.request_id)) and not future.done():
                future.set_result(choice.server_id)

    async def _read_requests(self, requests: Subscription) -> None:
        async for payload in requests:
            request = unseal(payload, Request)
            if request is not None and self._takes(request):
                task = asyncio.create_task(self._serve(request))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    def _takes(self, request: Request) -> bool:
        if len(request.client_id) > MAX_ID_CHARS:
            return False
        self._observer.received(self._method)
        if request.expiry <= time.time_ns():
            self._observer.expired(self._method)
            return False
        if not self._seen.is_new(request.request_id, request.expiry, time.time_ns()):
            return False
        if len(self._running) < MAX_RUNNING:
            return True
        _log.warning("too many calls at a time: some are not answered", method=str(self._method))
        return False

    async def _serve(self, request: Request) -> None:
        """Serves one request. Any exception becomes a response or a log line."""
        answer = Response(request_id=request.request_id, server_id=self._server_id)
        began_s = time.monotonic()
        try:
            message = self._method.request.FromString(request.raw_request)
            if self._method.is_claimed and not await self._won(request, message):
                return
            began_s = time.monotonic()
            incoming.set(Incoming(request.client_id, request.expiry, dict(request.metadata)))
            answer.raw_response = (await self._served.handler(message)).SerializeToString()
        except EgressError as error:
            answer.error, answer.code = error.text or error.code.value, to_wire(error.code)
        except DecodeError:
            answer.error, answer.code = (
                f"the request is not a {self._method.request.__name__}",
                "malformed_request",
            )
        except Exception:
            # The error's text may hold secrets. The caller gets the id to look for in the log.
            _log.exception("request failed", method=str(self._method), request_id=request.request_id)
            answer.error = f"internal error, logged by the server under {request.request_id}"
            answer.code = Code.INTERNAL.value
        self._observer.called(
            Role.SERVER,
            self._method,
            (time.monotonic() - began_s) * 1000,
            answer.code,
            len(request.raw_request),
            len(answer.raw_response),
        )
        answer.sent_at = time.time_ns()
        await self._publish(
            channels.responses(self._method.service, request.client_id), answer, request.expiry
        )

    async def _won(self, request: Request, message: Req) -> bool:
        """Claims the request. Returns whether the client chose this server. Raises EgressError to refuse the
        request with a reason."""
        choice: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._choices[request.request_id] = choice
        began_s = time.monotonic()
        outcome = ClaimOutcome.SKIPPED
        try:
            if self._served.hesitation_s is not None and not self._bus.in_process:
                await asyncio.wait([choice], timeout=self._served.hesitation_s())
                if choice.done():
                    outcome = ClaimOutcome.LOST_TO_PEER
                    return False
            # Ask only now, as another request may have taken the capacity meanwhile.
            affinity = self._served.affinity(message) if self._served.affinity else 1.0
            if isinstance(affinity, EgressError):
                if not self._bus.in_process:
                    await asyncio.wait([choice], timeout=REFUSAL_DELAY_S)
                if choice.done():
                    outcome = ClaimOutcome.LOST_TO_PEER
                    return False
                raise affinity
            if affinity < 0:
                return False
            await self._bus.publish(
                channels.claim_requests(self._method.service, request.client_id),
                seal(
                    ClaimRequest(request_id=request.request_id, server_id=self._server_id, affinity=affinity)
                ),
            )
            await asyncio.wait([choice], timeout=max(0.0, request.expiry / 1e9 - time.time()))
            is_ours = choice.done() and not choice.cancelled() and choice.result() == self._server_id
            others = ClaimOutcome.LOST_TO_PEER if choice.done() else ClaimOutcome.TIMED_OUT
            outcome = ClaimOutcome.GRANTED if is_ours else others
            return is_ours
        finally:
            del self._choices[request.request_id]
            self._observer.claimed(self._method, outcome, (time.monotonic() - began_s) * 1000)

    async def _publish(self, channel: str, answer: Response, expiry_ns: int) -> None:
        """Publishes the answer, and retries as long as the client waits for it."""
        while True:
            try:
                await self._bus.publish(channel, seal(answer))
                return
            except EgressError as error:
                if time.time_ns() + PUBLISH_PAUSE_S * 1e9 > expiry_ns:
                    _log.warning("answer lost", method=str(self._method), error=error.text)
                    return
            await asyncio.sleep(PUBLISH_PAUSE_S)


class RPCServer:
    """Serves methods of any service on a bus under one server id."""

    def __init__(self, bus: Bus, server_id: str = "", observer: Observer = NOBODY) -> None:
        self._bus = bus
        self._observer = observer
        self.server_id = server_id or new_id("SRV_")
        self._registrations: set[Registration[Any, Any]] = set()

    async def register(
        self,
        method: Method[Req, Res],
        handler: Handler[Req, Res],
        topic: str = "",
        affinity: Affinity[Req] | None = None,
        hesitation_s: Callable[[], float] | None = None,
    ) -> "Registration[Req, Res]":
        """Serves the method from the moment this returns until the registration is closed. See Served for the
        parameters. Raises EgressError."""
        served = Served(method, handler, topic, affinity, hesitation_s)
        registration = Registration(
            self._bus, self.server_id, served, self._registrations.discard, self._observer
        )
        await registration.open()
        self._registrations.add(registration)
        return registration

    async def close(self) -> None:
        """Closes all registrations. Handlers in progress finish first."""
        while self._registrations:
            await next(iter(self._registrations)).close()
