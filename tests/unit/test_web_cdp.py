"""Messages of the DevTools protocol in a stream of bytes."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.source.web.cdp import MAX_MESSAGE_BYTES, DevToolsConnection, Splitter


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
def test_messages_end_with_nul(chunks: list[bytes], messages: list[bytes]) -> None:
    splitter = Splitter()
    assert [m for chunk in chunks for m in splitter.feed(chunk)] == messages


@given(st.lists(st.binary(max_size=50).map(lambda b: b.replace(b"\0", b"x"))), st.integers(1, 17))
def test_messages_come_out_whole_however_they_are_cut(messages: list[bytes], size: int) -> None:
    stream = b"".join(m + b"\0" for m in messages)
    splitter = Splitter()
    chunks = [stream[i : i + size] for i in range(0, len(stream), size)]
    assert [m for chunk in chunks for m in splitter.feed(chunk)] == messages


def test_a_message_that_is_too_long_is_left_out_and_the_next_one_is_not() -> None:
    splitter = Splitter()
    part = b"x" * (MAX_MESSAGE_BYTES // 4)
    found = [m for _ in range(40) for m in splitter.feed(part)]
    assert len(splitter._rest) <= MAX_MESSAGE_BYTES
    found += [*splitter.feed(b"yz\0{}\0"), *splitter.feed(part * 5 + b"\0[]\0")]
    assert found == [b"{}", b"[]"]


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"cut \\ud83d"', "cut \ufffd"),
        (b'"\\ude00 first"', "\ufffd first"),
        (b'"\\\\ud83d"', "\\ud83d"),
    ],
)
async def test_half_an_emoji_costs_no_message(said: bytes, heard: str) -> None:
    read_fd, browser_out = os.pipe()
    browser_in, write_fd = os.pipe()
    connection = await DevToolsConnection.open(read_fd, write_fd)
    told = []
    connection.listen("", lambda method, params: told.append((method, params)))
    connection.data_received(b'{"method":"a","params":{"t":%s}}\0not JSON\0{"method":"b"' % said)
    connection.data_received(b"}\0")
    assert told == [("a", {"t": heard}), ("b", {})]
    connection.close()
    os.close(browser_out)
    os.close(browser_in)
