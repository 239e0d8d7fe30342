"""Prometheus metrics of calls over the bus, with the names, labels and buckets of LiveKit's own services."""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram

from openegress.psrpc.observer import ClaimOutcome, Observer, Role
from openegress.psrpc.services import Method, Routing

_CALL_MS = (10, 50, 100, 300, 500, 1000, 1500, 2000, 5000, 10_000)
_CLAIM_MS = (1, 5, 10, 25, 50, 100, 250, 500, 1000, 3000)
_CALL = ("role", "kind", "service", "method")


class BusMetrics(Observer):
    """Counts and times calls. There is no livekit_psrpc_stream_*, because egress uses no streams."""

    def __init__(self, node_id: str, registry: CollectorRegistry) -> None:
        self._always = {"node_id": node_id, "node_type": "EGRESS"}
        names = tuple(self._always)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"livekit_psrpc_{name}", text, [*labels, *names], registry=registry)

        def histogram(name: str, text: str, buckets: tuple[int, ...], *labels: str) -> Histogram:
            return Histogram(
                f"livekit_psrpc_{name}", text, [*labels, *names], buckets=buckets, registry=registry
            )

        self._time_ms = histogram("request_time_ms", "Calls that were answered", _CALL_MS, *_CALL)
        self._errors = counter("error", "Calls that failed", *_CALL, "error_code")
        self._bytes = counter("bytes", "Of requests (rx) and their answers (tx)", *_CALL, "direction")
        self._received = counter("requests_received", "Requests received", "service", "method")
        self._expired = counter("requests_expired", "Requests received too late", "service", "method")
        self._claim_ms = histogram(
            "claim_wait_time_ms", "Time until a claim was settled", _CLAIM_MS, "service", "method", "outcome"
        )

    def received(self, method: Method[Any, Any]) -> None:
        self._of(self._received, method).inc()

    def expired(self, method: Method[Any, Any]) -> None:
        self._of(self._expired, method).inc()

    def claimed(self, method: Method[Any, Any], outcome: ClaimOutcome, wait_ms: float) -> None:
        self._of(self._claim_ms, method, outcome=outcome.value).observe(wait_ms)

    def called(
        self,
        role: Role,
        method: Method[Any, Any],
        elapsed_ms: float,
        error_code: str,
        request_bytes: int,
        response_bytes: int,
    ) -> None:
        is_multi = method.routing is Routing.BROADCAST
        call = {"role": role.value, "kind": "multirpc" if is_multi else "rpc"}
        self._of(self._bytes, method, direction="rx", **call).inc(request_bytes)
        self._of(self._bytes, method, direction="tx", **call).inc(response_bytes)
        if error_code:
            self._of(self._errors, method, error_code=error_code, **call).inc()
        else:
            self._of(self._time_ms, method, **call).observe(elapsed_ms)

    def _of(self, family: Any, method: Method[Any, Any], **labels: str) -> Any:
        return family.labels(service=method.service, method=method.name, **labels, **self._always)
