"""The media path of one join: answers the server's offer, exchanges candidates, connects the transport."""

import asyncio
import json

from livekit.protocol.rtc import SessionDescription, SignalTarget, TrickleRequest

from openegress.core import foreign_json
from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.tasks import cancelled
from openegress.room.demux import Demux
from openegress.room.signalling import sdp
from openegress.room.signalling.websocket import Signalling
from openegress.room.transport.media import Transport

OFFER_TIMEOUT_S = 5.0
"""The server offers the data channel right after the join."""


class MediaPath:
    """The media path of one join. It comes up with the first offer; later offers only announce tracks."""

    def __init__(
        self, transport: Transport, demux: Demux, signalling: Signalling, connect_timeout_s: float
    ) -> None:
        self.transport = transport
        self._demux = demux
        self._signalling = signalling
        self._connect_timeout_s = connect_timeout_s
        self._local_candidates: list[str] = []
        self._early_candidates: list[str] = []
        """Candidates of the server that came before its first offer."""
        self._ice_username: str | None = None
        """The ICE username in the server's first offer; None before it."""
        self._tasks: list[asyncio.Task[None]] = []
        self._up: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def gather(self) -> None:
        self._demux.connect(self.transport.send_rtcp, self.transport.drain)
        self._local_candidates = await self.transport.gather()

    async def up(self) -> None:
        """Returns when media can arrive. Raises EgressError when it cannot."""
        try:
            async with asyncio.timeout(OFFER_TIMEOUT_S + self._connect_timeout_s):
                await self._up
        except TimeoutError:
            raise EgressError(
                Code.UNAVAILABLE,
                "the server made no offer for the media connection",
                fault=Fault.SERVICE,
                phase=Phase.ICE,
            ) from None

    @property
    def is_up(self) -> bool:
        return self._up.done() and not self._up.cancelled() and self._up.exception() is None

    def fail(self, error: EgressError) -> None:
        """Reports that the path will not come up."""
        if not self._up.done():
            self._up.set_exception(error)

    def is_restarted_by(self, offer: sdp.Offer) -> bool:
        """Whether the offer restarts ICE. The current path is dead then, and ours cannot be restarted (see
        ice)."""
        return self._up.done() and offer.username != self._ice_username

    async def answer(self, offer: sdp.Offer, number: int) -> None:
        """Answers an offer. `number`: the id of its session description."""
        transport = self.transport
        text = sdp.answer(
            offer,
            transport.username,
            transport.password,
            transport.fingerprint,
            takes_data=transport.takes_data,
        )
        answer = SessionDescription(type="answer", sdp=text, id=number)
        await self._signalling.send(answer=answer)
        for line in offer.candidates:
            await transport.add_candidate(line)
        if self._ice_username is not None:
            return
        self._ice_username = offer.username
        for line in self._early_candidates:
            await transport.add_candidate(line)
        self._tasks.append(asyncio.create_task(self._connect(offer)))
        for line in self._local_candidates:
            await self._trickle(line)

    async def add_candidate(self, trickle: TrickleRequest) -> None:
        """Takes a candidate of the server."""
        if trickle.target != SignalTarget.SUBSCRIBER:
            return
        line = candidate_in(trickle.candidateInit)
        if not line:
            return
        if self._ice_username is not None:
            await self.transport.add_candidate(line)
        else:
            self._early_candidates.append(line)

    async def close(self) -> None:
        """Idempotent. No packet is delivered after this."""
        tasks, self._tasks = self._tasks, []
        await cancelled(*tasks)
        if not self._up.done():
            self._up.cancel()
        elif not self._up.cancelled():
            self._up.exception()  # up() has reported it, or nobody waits for it any more
        self._demux.disconnect()
        await self.transport.close()

    async def _connect(self, offer: sdp.Offer) -> None:
        try:
            await self.transport.connect(
                offer.username,
                offer.password,
                offer.fingerprint,
                ice_lite=offer.ice_lite,
                timeout_s=self._connect_timeout_s,
                on_candidate=lambda line: self._tasks.append(asyncio.create_task(self._trickle(line))),
            )
        except EgressError as error:
            self.fail(error)
        else:
            if not self._up.done():
                self._up.set_result(None)

    async def _trickle(self, line: str) -> None:
        init = json.dumps({"candidate": line, "sdpMLineIndex": 0, "sdpMid": "0"})
        trickle = TrickleRequest(candidateInit=init, target=SignalTarget.SUBSCRIBER)
        await self._signalling.send(trickle=trickle)


def candidate_in(init: str) -> str:
    """The line in a RTCIceCandidateInit (JSON); "" if there is none: the end of candidates, or invalid
    JSON."""
    try:
        told = foreign_json.loads(init)
    except ValueError:
        return ""
    return str(told.get("candidate", "")) if isinstance(told, dict) else ""
