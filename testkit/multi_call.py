"""A call that every server of a bus answers, as livekit-server makes it."""

import asyncio
import time

from openegress.core.ids import new_id
from openegress.proto.psrpc_pb2 import Request, Response
from openegress.psrpc import Bus, channels
from openegress.psrpc.envelope import seal, unseal
from openegress.psrpc.services import Method, Req, Res

_WITHIN_S = 5.0


async def call_all(bus: Bus, method: Method[Req, Res], request: Req, *, expect: int) -> list[Res]:
    """The first `expect` answers. Raises TimeoutError if there are fewer within five seconds."""
    client_id, now_ns = new_id("CLI_"), time.time_ns()
    envelope = Request(
        request_id=new_id("REQ_"),
        client_id=client_id,
        sent_at=now_ns,
        expiry=now_ns + int(_WITHIN_S * 1e9),
        multi=True,
        raw_request=request.SerializeToString(),
    )
    answers: list[Res] = []
    arrivals = await bus.subscribe(channels.responses(method.service, client_id))
    try:
        async with asyncio.timeout(_WITHIN_S):
            await bus.publish(channels.requests(method.service, method.name), seal(envelope))
            async for payload in arrivals:
                response = unseal(payload, Response)
                assert response is not None and not response.error
                answers.append(method.response.FromString(response.raw_response))
                if len(answers) == expect:
                    break
    finally:
        await arrivals.close()
    return answers
