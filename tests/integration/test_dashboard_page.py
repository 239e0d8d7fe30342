"""The dashboard page in a real Chromium, on a real server with a real feed."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import av
import pytest
from livekit.protocol.egress import (
    EgressInfo,
    EgressStatus,
    EncodedFileOutput,
    FileInfo,
    ParticipantEgressRequest,
    StopEgressRequest,
    StreamInfo,
    WebEgressRequest,
)

from openegress.api.dashboard_state import DashboardState
from openegress.api.pages import STATIC
from openegress.api.server import ApiServer, Listen, Parts
from openegress.api.twirp import MethodKind, TwirpMethod, for_recorders
from openegress.core.errors import Code, EgressError
from openegress.core.events import ExtraFileStored, MarkerAdded, Progress
from openegress.core.storages import LocalStorage
from openegress.core.tokens import egress_token
from openegress.proto.openegress_control_pb2 import AddMarkerRequest, SetOptionsRequest
from openegress.request import options
from testkit.browser_tab import WITHIN_S, Tab, open_tab

KEYS = {"key": "a secret of more than thirty-two bytes"}
TOKEN = egress_token("key", KEYS["key"], timedelta(hours=6))
"""Made when the tests are collected, used when their turn comes."""
STARTED_NS = 1_700_000_000_000_000_000
MINUTE_NS = 60_000_000_000


class Calls:
    """Answers in place of the workers, and remembers what was asked."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[Any] = asyncio.Queue()
        self.refusal: EgressError | None = None

    def methods(self) -> dict[str, TwirpMethod]:
        return {
            "StopEgress": for_recorders(StopEgressRequest, self._stop),
            "StartWebEgress": for_recorders(WebEgressRequest, self._start, MethodKind.START),
        }

    def orders(self) -> dict[str, TwirpMethod]:
        return {
            "AddMarker": for_recorders(AddMarkerRequest, self._order),
            "SetOptions": for_recorders(SetOptionsRequest, self._order),
        }

    async def _order(self, request: AddMarkerRequest | SetOptionsRequest) -> EgressInfo:
        return self._answer(request, EgressInfo(egress_id=request.egress_id))

    async def _stop(self, request: StopEgressRequest) -> EgressInfo:
        return self._answer(request, EgressInfo(egress_id=request.egress_id))

    async def _start(self, request: WebEgressRequest) -> EgressInfo:
        return self._answer(request, EgressInfo(egress_id="EG_new"))

    def _answer(self, request: Any, info: EgressInfo) -> EgressInfo:
        self.asked.put_nowait(request)
        if self.refusal is not None:
            raise self.refusal
        return info


class Orders:
    """The same for openegress.Control."""

    def __init__(self, calls: Calls) -> None:
        self.methods = calls.orders


def film(path: Path) -> None:
    """Two seconds of grey, as recordings are encoded."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for _ in range(20):
            frame = av.VideoFrame(320, 180, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([128]) * plane.buffer_size)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture
async def tab() -> AsyncIterator[Tab]:
    async with open_tab(1360, 700) as one:
        yield one


class Site:
    """A server with an empty board, and recordings in `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.board = DashboardState()
        self.calls = Calls()
        self.server = self._made(0)
        self.port = 0

    def _made(self, port: int) -> ApiServer:
        folders = [LocalStorage(root=str(self.root))]
        parts = Parts(KEYS, egress=self.calls, control=Orders(self.calls), board=self.board, folders=folders)
        return ApiServer(Listen(port=port), parts)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/dashboard/"

    async def start(self) -> None:
        await self.server.start()
        self.port = self.server.port

    async def restart(self, between: Callable[[], Awaitable[None]]) -> None:
        """Goes away, and comes back on the same port with the same board."""
        await self.server.close()
        await between()
        self.board = DashboardState()
        self.server = self._made(self.port)
        await self.server.start()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    assert (STATIC / "dashboard" / "index.html").is_file(), "the pages are not built: run `make setup`"
    one = Site(tmp_path)
    await one.start()
    yield one
    await one.server.close()


def running(egress_id: str = "EG_one", **more: Any) -> EgressInfo:
    fields: dict[str, Any] = {
        "egress_id": egress_id,
        "status": EgressStatus.EGRESS_ACTIVE,
        "started_at": STARTED_NS,
        "updated_at": STARTED_NS,
        "web": WebEgressRequest(url="https://example.com/?a='b'"),
        "file_results": [FileInfo(filename="a.mp4", started_at=STARTED_NS)],
    }
    return EgressInfo(**(fields | more))


CARD = "[data-egress=EG_one]"


async def test_shows_what_is_there_and_what_changes(site: Site, tab: Tab) -> None:
    site.board.node(lambda: {"cpu_cores": 4, "cpu_used": 1.5, "memory_mib": 100, "version": "1.2"})
    site.board.update(running())
    await tab.open(f"{site.url}#token={TOKEN}")
    await tab.sees("live", "#connection")
    await tab.sees("CPU 1.50 of 4 cores", "#node")
    for text in ("EG_one", "https://example.com/?…", "active", "a.mp4 writing"):
        await tab.sees(text, f"#running {CARD}")

    site.board.progress("EG_one", Progress(1, 300, 299, 7, 1_500_000, queue=2, fps=29.97, cpu_cores=0.42))
    for text in ("30.0 fps", "0.42 cores", "7 dropped", "1.5 MB"):
        await tab.sees(text, CARD)

    site.board.update(
        running("EG_two", started_at=STARTED_NS + MINUTE_NS, web=WebEgressRequest(url="http://b/"))
    )
    await tab.sees("EG_two", "#running .card:first-child")

    failed = running(
        updated_at=STARTED_NS + 1,
        ended_at=STARTED_NS + MINUTE_NS,
        status=EgressStatus.EGRESS_FAILED,
        error="storage write: bucket <b>gone</b>",
        stream_results=[StreamInfo(url="rtmp://h/app/{k}", status=StreamInfo.FAILED, error="refused")],
    )
    site.board.update(failed)
    for text in ("failed", "storage write", "bucket <b>gone</b>", "01:00", "failed: refused", "not stored"):
        await tab.sees(text, f"#history {CARD}")
    assert await tab.run(f"document.querySelector('{CARD} .phase').innerText") == "storage write"


async def test_graphs_begin_with_what_was_before_the_page(site: Site, tab: Tab) -> None:
    site.board.update(running())
    for second in range(1, 41):
        site.board.progress("EG_one", Progress(second * 10**9, 0, 0, 0, second * 1000, fps=25.0 + second % 5))
    await tab.open(f"{site.url}#token={TOKEN}")
    await tab.sees("25.0 fps", CARD)
    points = f"document.querySelector('{CARD} polyline').getAttribute('points').split(' ').length"
    assert await tab.run(points) == 40
    await tab.sees("1.0 kB/s", CARD)


async def test_pictures(site: Site, tab: Tab) -> None:
    picture = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    site.board.update(running())
    await tab.open(f"{site.url}#token={TOKEN}")
    await tab.sees("EG_one", CARD)
    assert await tab.run(f"document.querySelector('{CARD} img').checkVisibility()") is False
    site.board.thumbnail("EG_one", picture)
    site.board.progress("EG_one", Progress(1, 1, 1, 0, 10, fps=12.0))
    await tab.sees("12.0 fps", CARD)
    image = f"document.querySelector('{CARD} img')"
    drawn = f"{image}.decode().then(() => {image}.naturalWidth)"
    assert await tab.run(drawn) == 1


async def test_finds_what_is_looked_for(site: Site, tab: Tab) -> None:
    site.board.update(running("EG_a", room_name="kitchen", participant=ParticipantEgressRequest()))
    site.board.update(running("EG_b", status=EgressStatus.EGRESS_COMPLETE))
    await tab.open(f"{site.url}#token={TOKEN}")
    await tab.sees("EG_b", "#history")
    shown = "[...document.querySelectorAll('.card')].filter((c) => !c.hidden).map((c) => c.dataset.egress)"

    async def choose(field: str, value: str) -> None:
        await tab.run(
            f"""{{ const field = document.querySelector('#filter-{field}'); field.value = {json.dumps(value)};
            field.dispatchEvent(new Event('input', {{ bubbles: true }})) }}"""
        )

    for field, value, expected in (
        ("text", "kitchen", ["EG_a"]),
        ("text", "", ["EG_a", "EG_b"]),
        ("status", "complete", ["EG_b"]),
        ("status", "", ["EG_a", "EG_b"]),
        ("kind", "participant", ["EG_a"]),
        ("kind", "", ["EG_a", "EG_b"]),
        ("room", "kitchen", ["EG_a"]),
    ):
        await choose(field, value)
        await tab.becomes(shown, expected)
    await tab.sees("1 of 2 shown", "#count")
    await tab.sees("No egress has ended yet.", "#nothing-ended")


async def test_stops_after_asking(site: Site, tab: Tab) -> None:
    site.board.update(running())
    await tab.open(f"{site.url}#token={TOKEN}")
    await tab.sees("EG_one", CARD)
    await tab.click("[aria-label='Stop EG_one']")
    await tab.sees("Stop EG_one", "#stop[open]")
    await tab.click("#stop-cancel")
    assert site.calls.asked.empty()

    site.calls.refusal = EgressError(Code.DEADLINE_EXCEEDED, "request timed out")
    await tab.click("[aria-label='Stop EG_one']")
    await tab.click("#stop-confirm")
    await tab.sees("request timed out", "#stop-failed")
    assert (await asyncio.wait_for(site.calls.asked.get(), WITHIN_S)).egress_id == "EG_one"

    site.calls.refusal = None
    await tab.click("#stop-confirm")
    assert (await asyncio.wait_for(site.calls.asked.get(), WITHIN_S)).egress_id == "EG_one"
    site.board.update(running(status=EgressStatus.EGRESS_COMPLETE, updated_at=STARTED_NS + 1))
    await tab.sees("complete", f"#history {CARD}")
    assert await tab.run("document.querySelector('[aria-label=\"Stop EG_one\"]').checkVisibility()") is False
    assert await tab.run("document.querySelector('#stop').open") is False


async def test_details_play_the_recording_and_tell_the_story(site: Site, tab: Tab) -> None:
    """By a ticket: the page's policy lets a file of the storage play, and no URL holds the token."""
    film(site.root / "a.mp4")
    stored = FileInfo(
        filename="a.mp4",
        location=str(site.root / "a.mp4"),
        size=(site.root / "a.mp4").stat().st_size,
        started_at=STARTED_NS + 10**9,
    )
    site.board.update(running(stream_results=[StreamInfo(url="rtmp://h/{k}", started_at=STARTED_NS + 2)]))
    await tab.open(f"{site.url}#token={TOKEN}")
    await tab.sees("EG_one", CARD)
    await tab.click(f"{CARD} .title")
    await tab.sees("Stream rtmp://h/{k} is live", "#details[open] #details-timeline")
    command = await tab.run("document.querySelector('#details-request').textContent")
    assert f"http://127.0.0.1:{site.port}/twirp/livekit.Egress/StartWebEgress" in command
    assert TOKEN not in command and "$TOKEN" in command
    assert "https://example.com/?a='\\''b'\\''" in command

    site.board.update(
        running(
            updated_at=STARTED_NS + 1,
            ended_at=STARTED_NS + MINUTE_NS,
            status=EgressStatus.EGRESS_COMPLETE,
            file_results=[stored],
        )
    )
    await tab.sees("Complete", "#details-timeline")
    await tab.sees("a.mp4", "#details-files")
    video = "document.querySelector('#details video')"
    await tab.becomes(f"{video}?.readyState >= 1", True)
    assert await tab.run(f"[{video}.videoWidth, Math.round({video}.duration)]") == [320, 2]
    await tab.run(f"{video}.currentTime = 1.5")
    await tab.becomes(f"!{video}.seeking && {video}.readyState >= 2", True)
    assert await tab.run(f"{video}.muted = true, {video}.play().then(() => {video}.error)") is None
    link = "document.querySelector('#details-files a').href"
    fetched = f"fetch({link}).then((answer) => answer.arrayBuffer()).then((bytes) => bytes.byteLength)"
    assert await tab.run(fetched) == stored.size
    assert TOKEN not in await tab.run("document.documentElement.outerHTML")
    await tab.click("#details-close")
    await tab.becomes("document.querySelectorAll('video').length", 0)
    assert [line for line in tab.said if line[0] in ("error", "exception")] == []


async def test_starts_what_the_form_says(site: Site, tab: Tab) -> None:
    await tab.open(f"{site.url}#token={TOKEN}")
    await tab.sees("live", "#connection")
    await tab.click("#new")
    visible = "[...document.querySelectorAll('#start-form [name]')].filter((f) => f.checkVisibility())"
    kinds = {
        "room_composite": ["kind", "room", "layout", "audio_only", "file", "filepath", "hls", "stream"],
        "web": ["kind", "url", "audio_only", "file", "filepath", "hls", "stream"],
        "participant": ["kind", "room", "identity", "screen_share", "file", "filepath", "hls", "stream"],
        "track_composite": [
            *("kind", "room", "audio_track_id", "video_track_id", "file", "filepath", "hls", "stream")
        ],
        "track": ["kind", "room", "track_id", "file", "filepath"],
    }
    form = "document.querySelector('#start-form')"
    for kind, fields in kinds.items():
        await tab.run(f"{form}.kind.value = '{kind}', {form}.dispatchEvent(new Event('change'))")
        assert await tab.run(f"{visible}.map((f) => f.name)") == [*fields, "options"]
    await tab.run(f"{form}.kind.value = 'web', {form}.dispatchEvent(new Event('change'))")
    await tab.click("#start-form [type=submit]")
    await tab.sees("Fill in the address of the page.", "#start-failed")
    await tab.run(f"{form}.url.value = 'https://example.com/'")
    await tab.run(f"{form}.options.value = 'max_duration'")
    await tab.click("#start-form [type=submit]")
    await tab.sees('Options: "max_duration" is not key=value.', "#start-failed")
    await tab.run(f"{form}.options.value = 'max_durations=1h'")
    await tab.click("#start-form [type=submit]")
    await tab.sees("openegress.max_durations: unknown key; did you mean max_duration?", "#start-failed")
    await tab.run(f"{form}.options.value = 'max_duration=1h\\ntext=Groß & klein'")
    site.calls.refusal = EgressError(Code.UNAVAILABLE, "no worker has room")
    await tab.click("#start-form [type=submit]")
    await tab.sees("no worker has room", "#start-failed")
    await site.calls.asked.get()
    site.calls.refusal = None
    await tab.click("#start-form [type=submit]")
    asked = await asyncio.wait_for(site.calls.asked.get(), WITHIN_S)
    expected = WebEgressRequest(url="https://example.com/", file_outputs=[EncodedFileOutput()])
    asked_for = options.of_query("max_duration=1h&text=Groß %26 klein", "options")
    assert asked == options.carry(expected, asked_for)
    await tab.becomes("document.querySelector('#start').open", False)
    await tab.sees("Started EG_new", "#count")


async def test_names_moments_and_changes_limits(site: Site, tab: Tab) -> None:
    """By the keyboard, as far as there are keys for it."""
    site.board.update(running())
    await tab.open(f"{site.url}#token={TOKEN}")
    await tab.sees("EG_one", CARD)
    await tab.click(f"{CARD} .title")
    await tab.sees("While it records", "#details[open]")
    marker, limits = "document.querySelector('#details-marker')", "document.querySelector('#details-limits')"
    await tab.run(f"{marker}.elements.name.value = ' Budget ', {marker}.ago.value = '10s'")
    await tab.run(f"{marker}.elements.name.focus()")
    await tab.press("Enter", 13)
    asked = await asyncio.wait_for(site.calls.asked.get(), WITHIN_S)
    assert asked == AddMarkerRequest(egress_id="EG_one", name="Budget", ago="10s")
    await tab.sees("Marked: Budget", "#details-ordered")
    site.board.happened("EG_one", MarkerAdded(STARTED_NS + 3, "Budget", 83_000_000_000))
    await tab.sees("Marker at 01:23: Budget", "#details-timeline")
    assert await tab.run(f"{marker}.elements.name.value") == ""

    await tab.run("document.querySelector('#details-orders summary').focus()")
    await tab.press("Enter", 13)
    site.calls.refusal = EgressError(Code.INVALID_ARGUMENT, "max_size: only files have a size")
    await tab.run(f"{limits}.max_size.value = '5GB', {limits}.stop_when_empty.value = '0'")
    await tab.click("#details-limits [type=submit]")
    await tab.sees("400: max_size: only files have a size", "#details-refused")
    assert await tab.run("document.querySelector('#details-ordered').textContent") == ""
    asked = await site.calls.asked.get()
    assert asked == SetOptionsRequest(egress_id="EG_one", options={"max_size": "5GB", "stop_when_empty": "0"})
    site.calls.refusal = None
    await tab.click("#details-limits [type=submit]")
    await tab.sees("Changed: max_size=5GB, stop_when_empty=0", "#details-ordered")
    assert await tab.run("document.querySelector('#details-refused').textContent") == ""

    fields = "[...document.querySelectorAll('#details-orders input')]"
    assert all(await tab.run(f"{fields}.map((field) => field.labels[0].innerText)"))
    site.board.happened("EG_one", ExtraFileStored(STARTED_NS + 4, "a.events.jsonl"))
    parts = [FileInfo(filename=f"a-{n}.mp4", started_at=STARTED_NS + n) for n in range(2)]
    site.board.update(
        running(status=EgressStatus.EGRESS_ENDING, updated_at=STARTED_NS + 5, file_results=parts)
    )
    for text in ("Stored a.events.jsonl", "Part 2: a-1.mp4"):
        await tab.sees(text, "#details-timeline")
    await tab.sees("part 2 a-1.mp4", "#details-outputs")
    await tab.becomes("document.querySelector('#details-orders').checkVisibility()", False)


async def test_by_the_keyboard_and_with_names_for_all(site: Site, tab: Tab) -> None:
    site.board.update(running())
    await tab.open(f"{site.url}#token={TOKEN}")
    await tab.sees("EG_one", CARD)
    names: list[str] = []
    for _ in range(12):
        await tab.press("Tab", 9)
        focused = "document.activeElement"
        names.append(
            await tab.run(
                f"{focused}.ariaLabel || {focused}.labels?.[0]?.firstChild.textContent.trim()"
                f" || {focused}.innerText"
            )
        )
        if names[-1] == "Stop EG_one":
            break
    assert names == [
        *("Skip to the recordings", "New egress", "Sign out", "Search", "Status", "Kind", "Room"),
        *("https://example.com/?…", "Pause EG_one", "Stop EG_one"),
    ]
    await tab.press("Enter", 13)
    await tab.sees("Stop EG_one", "#stop[open]")
    await tab.press("Escape", 27)
    await tab.becomes("document.querySelector('#stop').open", False)
    assert await tab.run("document.activeElement.ariaLabel") == "Stop EG_one"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("width", "height"), [(1360, 900), (390, 844)])
async def test_fits_wide_and_narrow_light_and_dark(
    site: Site, tab: Tab, width: int, height: int, dark: bool
) -> None:
    """Nothing is wider than the screen, and text stands out of what it is on (WCAG 2, 1.4.3)."""
    site.board.update(running("EG_" + "x" * 40, web=WebEgressRequest(url="http://h/" + "y" * 120)))
    site.board.update(running("EG_bad", status=EgressStatus.EGRESS_FAILED, error="e" * 150))
    await tab.appear(width, height, dark=dark, phone=width < 600)
    await tab.open(f"{site.url}#token={TOKEN}")
    await tab.sees("failed", "#history [data-egress=EG_bad]")
    assert await tab.run("document.documentElement.scrollWidth") <= width
    assert await tab.run(CONTRASTS) == []
    for opener in ("#running .title", "#history .title", "#new"):
        await tab.click(opener)
        folded = "[...document.querySelectorAll('dialog[open] details')]"
        await tab.run(f"{folded}.forEach((one) => {{ one.open = true }})")
        wider = "[...document.querySelectorAll('dialog[open]')].filter((d) => d.scrollWidth > innerWidth)"
        assert await tab.run(f"{wider}.length") == 0
        assert await tab.run(CONTRASTS) == []
        await tab.run("document.querySelector('dialog[open]').close()")


CONTRASTS = """(() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (colour) => {
    const [r, g, b] = channels(colour).slice(0, 3).map((value) => {
      const part = value / 255;
      return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const background = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (channels(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const texts = [...document.querySelectorAll("body *")].filter(
    (e) => e.checkVisibility() && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()),
  );
  return texts.flatMap((element) => {
    const [a, b] = [luminance(getComputedStyle(element).color), luminance(background(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    return ratio < 4.5 ? [`${element.className || element.tagName}: ${ratio.toFixed(1)}`] : [];
  });
})()"""


async def test_asks_for_a_token_until_one_is_good(site: Site, tab: Tab) -> None:
    site.board.update(running())
    await tab.open(site.url)
    await tab.sees("API token", "#sign-in:not([hidden])")

    async def sign_in(token: str) -> None:
        await tab.run(f"document.querySelector('#token').value = {json.dumps(token)}")
        await tab.click("#sign-in button")

    await sign_in("not a token")
    await tab.sees("refused this token", "#refused")
    assert await tab.run("document.querySelectorAll('.card').length") == 0
    await sign_in(TOKEN)
    await tab.sees("EG_one", ".card")
    assert await tab.run("location.href") == site.url
    await tab.open(f"{site.url}?again")
    await tab.sees("EG_one", ".card")
    await tab.click("#sign-out")
    await tab.sees("API token", "#sign-in:not([hidden])")
    assert await tab.run("sessionStorage.length") == 0


async def test_a_token_in_the_fragment_leaves_the_address_bar(site: Site, tab: Tab) -> None:
    await tab.open(f"{site.url}#token={TOKEN}")
    await tab.sees("Nothing is being recorded.")
    assert await tab.run("location.href") == site.url


async def test_says_that_the_server_is_gone_and_comes_back(site: Site, tab: Tab) -> None:
    site.board.update(running())
    await tab.open(f"{site.url}#token={TOKEN}")
    await tab.sees("EG_one", ".card")

    async def gone() -> None:
        await tab.sees("not connected", "#connection")

    await site.restart(gone)
    site.board.update(running("EG_two"))
    await tab.sees("live", "#connection")
    await tab.sees("EG_two", ".card")
    assert await tab.run("document.querySelectorAll('.card').length") == 1
