"""The client side of psrpc: publishes a request, chooses among the claims, and awaits the response."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from openegress.core.errors import Code, EgressError, Fault
from openegress.core.ids import new_id
from openegress.proto.psrpc_pb2 import ClaimRequest, ClaimResponse, Request, Response
from openegress.psrpc import Bus, Subscription, channels
from openegress.psrpc.claims import Chosen, Claim, Nobody, Waiting, choose
from openegress.psrpc.envelope import seal, unseal
from openegress.psrpc.observer import NOBODY, Observer, Role
from openegress.psrpc.services import CallRetry, Method, Req, Res
from openegress.psrpc.wire_errors import NoResponse, from_wire, timed_out, to_wire

STALL_S = 0.05
"""Delay of a time-out that shows that the process was blocked. Claims that arrived meanwhile have not been
read yet, so the wait is extended by the same time."""


@dataclass(slots=True)
class _Call:
    """Claims and responses for one request, in the order of the bus."""

    arrivals: asyncio.Queue[ClaimRequest | Response] = field(default_factory=asyncio.Queue)


@dataclass(slots=True)
class _Inbox:
    """The two channels on which the servers of a service answer this client."""

    subscriptions: list[Subscription]
    readers: list[asyncio.Task[None]]


class RPCClient:
    """Calls methods of any service. One client per process is enough."""

    def __init__(self, bus: Bus, client_id: str = "", observer: Observer = NOBODY) -> None:
        self._bus = bus
        self._observer = observer
        self.client_id = client_id or new_id("CLI_")
        self._calls: dict[str, _Call] = {}
        self._inboxes: dict[str, _Inbox] = {}
        self._opening = asyncio.Lock()
        self._closed = False

    async def call(
        self,
        method: Method[Req, Res],
        request: Req,
        topic: str = "",
        timeout_s: float | None = None,
        metadata: Mapping[str, str] | None = None,
        retry: CallRetry | None = None,
    ) -> Res:
        """Calls the method on one server. `timeout_s` and `retry` default to those of the method.

        Raises EgressError: the server's error; UNAVAILABLE "no response from servers" if no server claims the
        call; DEADLINE_EXCEEDED "request timed out" if the chosen server does not answer.
        """
        policy = retry or method.retry
        attempt_timeout_s = method.timeout_s if timeout_s is None else timeout_s
        for attempt in range(1, policy.attempts + 1):
            try:
                return await self._attempt(method, request, topic, attempt_timeout_s, metadata or {})
            except EgressError as error:
                if attempt == policy.attempts or error.code not in policy.codes:
                    raise
            await asyncio.sleep(policy.backoff.delay_s(attempt))
            attempt_timeout_s *= 2
        raise AssertionError("a retry policy has at least one attempt")

    async def close(self) -> None:
        """Ends the subscriptions. Calls in progress end when they time out."""
        self._closed = True
        for inbox in self._inboxes.values():
            for subscription in inbox.subscriptions:
                await subscription.close()
            await asyncio.gather(*inbox.readers)
        self._inboxes.clear()

    async def _attempt(
        self,
        method: Method[Req, Res],
        request: Req,
        topic: str,
        timeout_s: float,
        metadata: Mapping[str, str],
    ) -> Res:
        envelope = self._request(request, timeout_s, metadata)
        began_s, answered_bytes, code = time.monotonic(), 0, Code.CANCELED.value
        call = await self._open_call(method.service, envelope.request_id, timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                await self._bus.publish(channels.requests(method.service, method.name, topic), seal(envelope))
                server_id = await self._select(method, call)
                await self._bus.publish(
                    channels.claim_responses(method.service, method.name, topic),
                    seal(ClaimResponse(request_id=envelope.request_id, server_id=server_id)),
                )
                while True:
                    arrival = await call.arrivals.get()
                    # Servers that were not chosen may still refuse the call.
                    if isinstance(arrival, Response) and arrival.server_id in ("", server_id):
                        result = _result(method, arrival)
                        answered_bytes, code = len(arrival.raw_response), ""
                        return result
        except TimeoutError:
            code = Code.DEADLINE_EXCEEDED.value
            raise timed_out() from None
        except EgressError as error:
            code = to_wire(error.code)
            raise
        finally:
            del self._calls[envelope.request_id]
            self._observe(method, began_s, code, envelope, answered_bytes)

    def _observe(
        self, method: Method[Req, Res], began_s: float, code: str, sent: Request, answered_bytes: int
    ) -> None:
        elapsed_ms = (time.monotonic() - began_s) * 1000
        self._observer.called(Role.CLIENT, method, elapsed_ms, code, len(sent.raw_request), answered_bytes)

    async def _select(self, method: Method[Req, Res], call: _Call) -> str:
        """Returns the id of the server that gets the call. Raises EgressError if none wants it."""
        started_s = time.monotonic()
        claims: list[Claim] = []
        refusal: EgressError | None = None
        refused_at_s: float | None = None
        while True:
            now_s = time.monotonic() - started_s
            match choose(claims, now_s, method.selection, refused_at_s):
                case Chosen(server_id):
                    return server_id
                case Nobody(unfit):
                    if refusal is not None:
                        raise refusal
                    if unfit:
                        raise EgressError(
                            Code.UNAVAILABLE,
                            f"no servers available (received {unfit} responses)",
                            fault=Fault.SERVICE,
                        )
                    raise NoResponse
                case Waiting(until_s):
                    try:
                        async with asyncio.timeout(until_s - now_s):
                            arrival = await call.arrivals.get()
                    except TimeoutError:
                        late_s = time.monotonic() - started_s - until_s
                        if late_s > STALL_S:
                            started_s += 2 * late_s
                        continue
                    at_s = time.monotonic() - started_s
                    if isinstance(arrival, ClaimRequest):
                        claims.append(Claim(arrival.server_id, arrival.affinity, at_s))
                    elif arrival.error:
                        refusal = from_wire(arrival.code, arrival.error)
                        refused_at_s = at_s if refused_at_s is None else refused_at_s

    def _request(self, request: Req, timeout_s: float, metadata: Mapping[str, str]) -> Request:
        now_ns = time.time_ns()
        return Request(
            request_id=new_id("REQ_"),
            client_id=self.client_id,
            sent_at=now_ns,
            expiry=now_ns + int(timeout_s * 1e9),
            metadata=dict(metadata),
            raw_request=request.SerializeToString(),
        )

    async def _open_call(self, service: str, request_id: str, timeout_s: float) -> _Call:
        if self._closed:
            raise EgressError(Code.CANCELED, "client is closed", fault=Fault.SERVICE)
        try:
            async with asyncio.timeout(timeout_s), self._opening:
                if service not in self._inboxes:
                    self._inboxes[service] = await self._open_inbox(service)
        except TimeoutError:
            raise EgressError(
                Code.UNAVAILABLE,
                f"the message bus cannot be reached: no subscription within {timeout_s:g} s",
                fault=Fault.SERVICE,
            ) from None
        call = self._calls[request_id] = _Call()
        return call

    async def _open_inbox(self, service: str) -> _Inbox:
        claims = await self._bus.subscribe(channels.claim_requests(service, self.client_id))
        try:
            results = await self._bus.subscribe(channels.responses(service, self.client_id))
        except BaseException:
            await claims.close()
            raise
        readers = [
            asyncio.create_task(self._read(claims, ClaimRequest)),
            asyncio.create_task(self._read(results, Response)),
        ]
        return _Inbox([claims, results], readers)

    async def _read(self, subscription: Subscription, kind: type[ClaimRequest] | type[Response]) -> None:
        async for payload in subscription:
            message = unseal(payload, kind)
            if message is not None and (call := self._calls.get(message.request_id)):
                call.arrivals.put_nowait(message)


def _result(method: Method[Req, Res], response: Response) -> Res:
    """The response's message. Raises EgressError if the response carries an error, or not this message."""
    if response.error:
        raise from_wire(response.code, response.error)
    try:
        return method.response.FromString(response.raw_response)
    except DecodeError as error:
        raise EgressError(
            Code.INTERNAL, f"the answer to {method} is not a {method.response.__name__}", fault=Fault.SERVICE
        ) from error
