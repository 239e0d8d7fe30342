"""JSON of others is a value or a ValueError, however deep."""

import json

import pytest

from openegress.core import foreign_json
from openegress.core.errors import EgressError
from openegress.request.orders import layout_in
from openegress.storage.gcp import service_account

DEEP = ("[" * 100_000, '{"layout":' * 100_000, "[" * 100_000 + "]" * 100_000)


def test_a_value_is_what_it_says() -> None:
    value = {"a": [1, 2.5, None, True, "\u00e4\U0001f600"]}
    assert foreign_json.loads(json.dumps(value)) == foreign_json.loads(json.dumps(value).encode()) == value


@pytest.mark.parametrize("text", ["", "{", "nonsense", b"\xff", *DEEP], ids=lambda text: str(text)[:10])
def test_what_cannot_be_read_is_no_value(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        foreign_json.loads(text)


@pytest.mark.parametrize("text", DEEP, ids=lambda text: text[:10])
def test_whoever_reads_it_goes_on(text: str) -> None:
    """A recording whose own metadata says nothing of a layout; a request with credentials."""
    assert layout_in(text) is None
    with pytest.raises(EgressError, match="not JSON"):
        service_account(text)
