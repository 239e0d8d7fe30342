"""What may be asked of a recording that runs, as text and back."""

import pytest
from hypothesis import given

from openegress.core.errors import Code, EgressError
from openegress.core.looks import Caption
from openegress.core.values import Seconds
from openegress.request import options, orders
from openegress.request.options import Options
from openegress.request.orders import LayoutOrder, PauseOrder, SetOptions
from tests.unit.test_request_options import OPTIONS

TWO_HOURS = SetOptions(Options(max_duration=Seconds(7200)))


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("@pause", LayoutOrder(PauseOrder.PAUSE, None)),
        ("@resume", LayoutOrder(PauseOrder.RESUME, None)),
        (" @Pause\n", LayoutOrder(PauseOrder.PAUSE, None)),
        ("speaker", LayoutOrder(None, "speaker")),
        ("", LayoutOrder(None, "")),
        ("speaker?max_duration=2h", LayoutOrder(TWO_HOURS, "speaker")),
        ("?max_duration=2h", LayoutOrder(TWO_HOURS, None)),
    ],
)
def test_a_layout_of_ours(layout: str, expected: LayoutOrder) -> None:
    assert orders.in_layout(layout) == expected
    assert orders.in_metadata(layout) == (expected, None)


def test_a_page_gets_what_is_not_ours() -> None:
    found = orders.in_layout("own?theme=dark&max_duration=2h", of_page=True)
    assert found == LayoutOrder(TWO_HOURS, "own?theme=dark")
    found = orders.in_layout("own?theme=dark&text=a&max_duration=2h", of_page=True)
    both = SetOptions(Options(max_duration=Seconds(7200), text=Caption("a")))
    assert found == LayoutOrder(both, "own?theme=dark")
    assert orders.parse(str(both)) == both
    assert orders.in_layout("own?theme=dark", of_page=True) == LayoutOrder(None, "own?theme=dark")


@pytest.mark.parametrize(
    "asked", ["leave_out=a", "record_only=a", "show_left_out=1", "opt_out=1", "start_timeout=9s"]
)
def test_what_cannot_change_is_named(asked: str) -> None:
    key = asked.partition("=")[0]
    with pytest.raises(EgressError) as caught:
        orders.in_layout(f"grid?{asked}")
    assert (caught.value.code, key in caught.value.message) == (Code.UNIMPLEMENTED, True)


def test_looks_and_limits_come_together_however_they_are_sent() -> None:
    asked = options.of_json({"max_duration": "2h", "text": "Part 2", "names": True}, "options")
    looks, _ = options.apart(asked)
    expected = LayoutOrder(TWO_HOURS, None, looks)
    assert orders.in_options(asked) == expected
    assert orders.in_layout("?max_duration=2h&text=Part%202&names=true") == expected
    assert orders.in_options(options.of_json({"text": ""}, "options")).changes_picture
    with pytest.raises(EgressError, match="changing leave_out of a running egress"):
        orders.in_options(options.of_json({"leave_out": "bob", "text": "x"}, "options"))


def test_wrong_metadata_change_the_layout_alone() -> None:
    found, wrong = orders.in_metadata("speaker?max_duratoin=2h")
    assert found == LayoutOrder(None, "speaker")
    assert wrong is not None and "did you mean max_duration?" in wrong.message


@pytest.mark.parametrize("layout", ["@stop", "@", "@marker", "@pause?text=a", "@resume?", "@pause grid"])
@pytest.mark.parametrize("of_page", [False, True])
def test_a_misspelt_order_is_no_layout(layout: str, of_page: bool) -> None:
    """Neither ours, which would be the first one, nor one of a page, which would not know it."""
    with pytest.raises(EgressError, match="is not an order; write @pause, @resume or @marker=NAME"):
        orders.in_layout(layout, of_page=of_page)
    found, wrong = orders.in_metadata(layout, of_page=of_page)
    assert found == LayoutOrder(None, None) and wrong is not None


@given(asked=OPTIONS)
def test_options_arrive_as_they_were_sent(asked: Options) -> None:
    live = Options(**{key: getattr(asked, key) for key in orders.LIVE})
    order = orders.set_options(live)
    if live == Options():
        return
    found = orders.parse(str(order))
    assert isinstance(found, SetOptions)
    for key in options.KEYS:
        expected = getattr(live, key)
        assert getattr(found.options, key) == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("text", ["grid", "", "@stop", "@set?pizza=1"])
def test_anything_else_is_no_order(text: str) -> None:
    with pytest.raises(EgressError):
        orders.parse(text)
