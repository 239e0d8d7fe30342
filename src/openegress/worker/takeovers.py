"""Finds egresses whose worker is lost, and continues those that this worker has capacity for."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
from livekit.protocol.egress import EgressInfo, EgressStatus

from openegress.core.errors import EgressError
from openegress.core.plan import Plan
from openegress.core.tasks import BackgroundTask
from openegress.psrpc.ioinfo_client import IOInfoClient
from openegress.storage.journal import has_journal
from openegress.store.handovers import TENURE_S, Claimed, Handovers

_log = structlog.get_logger(__name__)

INTERVAL_S = 1.0
MAX_GAP_S = 3.0
"""Limit for the time between two checks. If they are further apart, Redis stood still and has heard from no
worker."""


class Takeovers(BackgroundTask):
    """Finds and continues egresses from start() to close(). After its own start, and after Redis could not be
    reached or stood still, it first waits as long as a worker may be silent: the other workers could not
    report meanwhile either."""

    def __init__(
        self,
        handovers: Handovers,
        keeper: IOInfoClient,
        is_busy: Callable[[str], bool],
        refusal: Callable[[Plan], EgressError | None],
        begin: Callable[[Claimed, EgressInfo], Awaitable[None]],
        hesitation_s: Callable[[], float],
    ) -> None:
        """`is_busy` says which egresses run here, `refusal` why one cannot continue here. `begin` starts a
        part of an egress from its record. If it raises EgressError, other workers may claim the egress."""
        super().__init__("takeovers")
        self._handovers = handovers
        self._keeper = keeper
        self._is_busy = is_busy
        self._refusal = refusal
        self._begin = begin
        self._hesitation_s = hesitation_s
        self._spool: Path | None = None
        self._hearing_since_s: float | None = None
        self._looked_at_s = 0.0
        self._refused: set[str] = set()

    def watch_spool(self, spool: Path) -> None:
        """Watches this folder: an egress with a part here that waits for its storage stays here. Call it
        before start()."""
        self._spool = spool

    async def look(self) -> None:
        """Claims lost egresses that can continue here. Raises EgressError."""
        try:
            lost = await self._handovers.lost()
        except EgressError:
            self._hearing_since_s = None
            raise
        now_s = asyncio.get_running_loop().time()
        if self._hearing_since_s is None or now_s - self._looked_at_s > MAX_GAP_S:
            self._hearing_since_s = now_s
        self._looked_at_s = now_s
        if now_s - self._hearing_since_s < TENURE_S:
            return
        self._refused &= set(lost)
        if lost:
            await asyncio.sleep(self._hesitation_s())
        for egress_id in lost:
            if await self._is_ours(egress_id):
                continue
            try:
                await self._try(egress_id)
            except EgressError as error:
                _log.warning("cannot take over a lost egress", egress_id=egress_id, error=error.text)
            except Exception:
                # A bad offer of another worker must not keep this one from all others.
                _log.exception("cannot take over a lost egress", egress_id=egress_id)
        self._looked_at_s = asyncio.get_running_loop().time()

    async def _is_ours(self, egress_id: str) -> bool:
        """Whether it runs here, or a part of it in the spool waits for its storage."""
        if self._is_busy(egress_id):
            return True
        return self._spool is not None and await asyncio.to_thread(has_journal, self._spool / egress_id)

    async def _try(self, egress_id: str) -> None:
        offer = await self._handovers.look(egress_id)
        if offer is None:
            return
        if (refusal := self._refusal(offer.plan)) is not None:
            if egress_id not in self._refused:
                _log.warning(
                    "leaving a lost egress to other workers", egress_id=egress_id, error=refusal.message
                )
            self._refused.add(egress_id)
            return
        info = await self._keeper.get(egress_id)
        if info is None or info.status != EgressStatus.EGRESS_ACTIVE:
            return
        claimed = await self._handovers.claim(egress_id)
        if claimed is None:
            return
        _log.error("taking over an egress whose worker is lost", egress_id=egress_id, part=claimed.number + 1)
        await self._begin(claimed, info)

    async def _run(self) -> None:
        away = False
        while True:
            try:
                await self.look()
                away = False
            except EgressError as error:
                if not away:
                    _log.warning("cannot take over lost egresses for now", error=error.text)
                away = True
            except Exception:
                _log.exception("looking for lost egresses failed")
            await asyncio.sleep(INTERVAL_S)
