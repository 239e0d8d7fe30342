"""Orders that a recording gets."""

import pytest

from openegress.core.plan import Plan, WebSource
from openegress.handler.control import RecordingControl
from openegress.request.orders import Order, PauseOrder


async def test_an_order_that_goes_wrong_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(self: RecordingControl, order: Order) -> None:
        raise ValueError("no such thing")

    monkeypatch.setattr(RecordingControl, "obey", broken)
    control = RecordingControl(
        Plan("EG_1", WebSource("http://e"), (), None, None), lambda event: None, lambda reason: None
    )
    await control.obey_unasked(PauseOrder.PAUSE)
    assert "an order could not be carried out" in caplog.text and "no such thing" in caplog.text
