"""Asks a page's browser how long its WebRTC pictures and sound wait before they are shown and heard."""

import time
from contextlib import suppress
from typing import Any

from openegress.source.playout import PlayoutWaits, Waits
from openegress.source.web.cdp import CommandError, DevToolsConnection, Disconnected

BUFFER_SCRIPT = """async function () {
  const held = { video: [0, 0], audio: [0, 0], played: [0, 0] };
  for (const connection of this) {
    for (const stats of (await connection.getStats()).values()) {
      if (stats.type === "media-playout") {
        held.played[0] += stats.totalPlayoutDelay;
        held.played[1] += stats.totalSamplesCount;
      }
      if (stats.type !== "inbound-rtp" || !stats.jitterBufferEmittedCount) continue;
      held[stats.kind][0] += stats.jitterBufferDelay;
      held[stats.kind][1] += stats.jitterBufferEmittedCount;
    }
  }
  return [...held.video, ...held.audio, ...held.played];
}"""
"""Adds up the waits of all RTCPeerConnections (W3C webrtc-stats, RTCInboundRtpStreamStats and
RTCAudioPlayoutStats)."""
SOON_S, SELDOM_S = 0.2, 16.0
"""Intervals between searches for connections that play something, while there are none."""
WORLD_NAME = "openegress"
OBJECT_GROUP = "openegress"
"""The group of objects that the page keeps for us (Runtime.RemoteObject) until we release them."""
SHOWN_SCRIPT = """(() => {
  const shown = globalThis.shown ??= { seconds: 0, count: 0, watched: new WeakSet() };
  for (const video of [...document.querySelectorAll("video")].slice(0, 32)) {
    if (shown.watched.has(video)) continue;
    shown.watched.add(video);
    let left = 8;
    video.requestVideoFrameCallback(function look(now, frame) {
      if (frame.receiveTime === undefined || --left < 0) return void shown.watched.delete(video);
      shown.seconds += (frame.presentationTime - frame.receiveTime) / 1000;
      shown.count++;
      video.requestVideoFrameCallback(look);
    });
  }
  return [shown.seconds, shown.count];
})()"""
"""Measures eight pictures of each <video> in each round, in an isolated world. Only pictures that came by
WebRTC have a receiveTime."""


class PagePlayout:
    """Measures the main frame of a page."""

    def __init__(self, connection: DevToolsConnection, frame_id: str, session_id: str) -> None:
        self._connection = connection
        self._frame_id = frame_id
        self._session_id = session_id
        self._world = 0
        """The id of our isolated world's context, once created."""
        self._rtc_connections = ""
        """The id of the array of connections, once looked up. The lookup causes a garbage collection."""
        self._look_up_s = SOON_S
        self._look_up_at_s = 0.0
        """Monotonic time before which there is no lookup."""

    async def waits(self, is_template: bool) -> PlayoutWaits:
        """The page's current report; empty if the page does not answer. A page that is not a template is
        searched for connections only once it shows a picture of one, because the search delays the page."""
        try:
            shown = await self._shown()
            if not is_template and not shown.count:
                return PlayoutWaits()
            return await self._held(shown)
        except (CommandError, Disconnected, TimeoutError, KeyError):
            self._world = 0  # the page may have gone elsewhere
            with suppress(CommandError, Disconnected, TimeoutError):
                await self._let_go()
            return PlayoutWaits()

    async def _shown(self) -> Waits:
        command = self._connection.command
        if not self._world:
            made = await command(
                "Page.createIsolatedWorld", self._session_id, frameId=self._frame_id, worldName=WORLD_NAME
            )
            self._world = made["executionContextId"]
        answer = await command(
            "Runtime.evaluate",
            self._session_id,
            expression=SHOWN_SCRIPT,
            contextId=self._world,
            returnByValue=True,
        )
        return _waits(answer["result"].get("value"), 0)

    async def _held(self, shown: Waits) -> PlayoutWaits:
        command, session = self._connection.command, self._session_id
        if not self._rtc_connections:
            if time.monotonic() < self._look_up_at_s:
                return PlayoutWaits(shown=shown)
            prototype = await command(
                "Runtime.evaluate",
                session,
                expression="RTCPeerConnection.prototype",
                objectGroup=OBJECT_GROUP,
            )
            found = await command(
                "Runtime.queryObjects",
                session,
                prototypeObjectId=prototype["result"]["objectId"],
                objectGroup=OBJECT_GROUP,
            )
            self._rtc_connections = found["objects"]["objectId"]
        answer = await command(
            "Runtime.callFunctionOn",
            session,
            objectId=self._rtc_connections,
            functionDeclaration=BUFFER_SCRIPT,
            awaitPromise=True,
            returnByValue=True,
        )
        value = answer["result"].get("value")
        waits = PlayoutWaits(_waits(value, 0), shown, _waits(value, 2), _waits(value, 4))
        if waits.pictures.count or waits.sound.count:
            self._look_up_s = SOON_S
        else:
            await self._let_go()  # others may have been made
            self._look_up_at_s = time.monotonic() + self._look_up_s
            self._look_up_s = min(2 * self._look_up_s, SELDOM_S)
        return waits

    async def _let_go(self) -> None:
        """Releases the objects that were looked up: otherwise the page would keep them as long as it is
        open."""
        self._rtc_connections = ""
        await self._connection.command(
            "Runtime.releaseObjectGroup", self._session_id, objectGroup=OBJECT_GROUP
        )


def _waits(value: Any, at: int) -> Waits:
    """The waits at a position of a result, or none: the page may have replaced getStats with anything."""
    match value[at : at + 2] if isinstance(value, list) else None:
        case [int() | float() as seconds, int() as count] if count > 0:
            return Waits(float(seconds), count)
    return Waits()
