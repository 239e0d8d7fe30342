"""Messages of the DevTools protocol in a stream of bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.source.web.cdp import Splitter


@pytest.mark.parametrize(
    ("chunks", "messages"),
    [
        ([b"{}\0"], [b"{}"]),
        ([b"{}\0[1]\0"], [b"{}", b"[1]"]),
        ([b"{", b"}", b"\0"], [b"{}"]),
        ([b"{}\0{", b'"a":1}\0'], [b"{}", b'{"a":1}']),
        ([b"{}"], []),
    ],
)
def test_messages_end_with_nul(chunks, messages):
    splitter = Splitter()
    assert [m for chunk in chunks for m in splitter.feed(chunk)] == messages


@given(st.lists(st.binary(max_size=50).map(lambda b: b.replace(b"\0", b"x"))), st.integers(1, 17))
def test_messages_come_out_whole_however_they_are_cut(messages, size):
    stream = b"".join(m + b"\0" for m in messages)
    splitter = Splitter()
    chunks = [stream[i : i + size] for i in range(0, len(stream), size)]
    assert [m for chunk in chunks for m in splitter.feed(chunk)] == messages
