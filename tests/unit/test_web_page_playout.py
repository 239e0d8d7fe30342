"""What a page is asked of its WebRTC, and what is made of its answers."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from openegress.source.playout import PlayoutWaits, Waits
from openegress.source.web.cdp import CommandError
from openegress.source.web.page_playout import SELDOM_S, PagePlayout


@dataclass
class Browser:
    """In place of a connection to one."""

    shown: Any = field(default_factory=lambda: [0, 0])
    held: Any = field(default_factory=lambda: [0, 0, 0, 0, 0, 0])
    asked: list[str] = field(default_factory=list)
    gone: bool = False
    kept: set[str] = field(default_factory=set)
    """Objects that the page keeps for whoever asked, by their groups."""
    most_kept: int = 0

    async def command(self, method: str, session_id: str = "", **params: Any) -> dict[str, Any]:
        self.asked.append(method)
        if self.gone:
            raise CommandError("Cannot find context with specified id")
        match method:
            case "Page.createIsolatedWorld":
                return {"executionContextId": 7}
            case "Runtime.evaluate" if params.get("contextId") == 7:
                return {"result": {"value": self.shown}}
            case "Runtime.evaluate":
                return {"result": {"objectId": self.keep(params)}}
            case "Runtime.queryObjects":
                return {"objects": {"objectId": self.keep(params)}}
            case "Runtime.releaseObjectGroup":
                self.kept = {each for each in self.kept if not each.startswith(params["objectGroup"])}
                return {}
            case "Runtime.callFunctionOn":
                return {"result": {"value": self.held}}
        raise AssertionError(method)

    def keep(self, params: dict[str, Any]) -> str:
        name = f"{params.get('objectGroup', '')} {len(self.asked)}"
        self.kept.add(name)
        self.most_kept = max(self.most_kept, len(self.kept))
        return name


async def test_a_page_is_not_searched_before_it_shows_webrtc() -> None:
    browser = Browser()
    playout = PagePlayout(browser, "frame", "session")  # type: ignore[arg-type]
    assert await playout.waits(is_template=False) == PlayoutWaits()
    assert "Runtime.queryObjects" not in browser.asked
    browser.shown, browser.held = [0.3, 10], [0.07, 10, 400, 10_000, 900, 20_000]
    for _ in range(2):
        said = await playout.waits(is_template=False)
        assert said == PlayoutWaits(
            Waits(0.07, 10), Waits(0.3, 10), Waits(400.0, 10_000), Waits(900.0, 20_000)
        )
    assert browser.asked.count("Runtime.queryObjects") == 1


async def test_a_template_that_plays_nothing_is_searched_ever_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    browser = Browser()
    playout = PagePlayout(browser, "frame", "session")  # type: ignore[arg-type]
    for _ in range(600):
        await playout.waits(is_template=True)
        now_s += 1.0
    assert 600 / SELDOM_S < browser.asked.count("Runtime.queryObjects") < 600 / SELDOM_S + 8
    assert browser.most_kept == 2 and not browser.kept, "the page keeps nothing that is not asked for again"


@pytest.mark.parametrize("held", [None, "12", {}, [1], ["a", 1, None, 2, [], {}], [1.0, 2.5, 1.0, -1, 0, 0]])
async def test_what_a_page_puts_in_place_of_figures_is_not_taken(held: Any) -> None:
    browser = Browser([0.3, 10], held)
    said = await PagePlayout(browser, "frame", "session").waits(is_template=False)  # type: ignore[arg-type]
    assert said == PlayoutWaits(shown=Waits(0.3, 10))


async def test_a_page_that_went_elsewhere_is_asked_anew() -> None:
    browser = Browser([0.3, 10], [0.07, 10, 400, 10_000, 900, 20_000])
    playout = PagePlayout(browser, "frame", "session")  # type: ignore[arg-type]
    await playout.waits(is_template=True)
    browser.gone = True
    assert await playout.waits(is_template=True) == PlayoutWaits()
    browser.gone = False
    assert (await playout.waits(is_template=True)).shown == Waits(0.3, 10)
    assert browser.asked.count("Page.createIsolatedWorld") == 2
