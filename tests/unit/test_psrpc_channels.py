import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.psrpc import channels

PLAIN = set(string.ascii_letters + string.digits + "_|+")


@pytest.mark.parametrize(
    ("part", "escaped"),
    [
        ("EG_abc123", "EG_abc123"),
        ("a-b", "au+002db"),
        ("a|b", "au+007cb"),
        ("", ""),
        ("软件", "u+8f6fu+4ef6"),
        ("🚀_É", "U+0001f680_u+00c9"),
    ],
)
def test_escape(part: str, escaped: str) -> None:
    assert channels.escape(part) == escaped


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (channels.requests("EgressInternal", "StartEgress"), "EgressInternal|StartEgress|REQ"),
        (channels.requests("EgressHandler", "StopEgress", "EG_x"), "EgressHandler|StopEgress|EG_x|REQ"),
        (channels.claim_responses("IOInfo", "CreateEgress"), "IOInfo|CreateEgress|RCLAIM"),
        (
            channels.claim_responses("EgressInternal", "StartEgress", "c-1"),
            "EgressInternal|StartEgress|cu+002d1|RCLAIM",
        ),
        (channels.claim_requests("IOInfo", "CLI_a1"), "IOInfo|CLI_a1|CLAIM"),
        (channels.responses("IOInfo", "CLI_a1"), "IOInfo|CLI_a1|RES"),
    ],
)
def test_names(name: str, expected: str) -> None:
    assert name == expected


@given(st.text())
def test_a_topic_cannot_leave_its_part(topic: str) -> None:
    name = channels.requests("S", "M", topic)
    assert set(name) <= PLAIN
    assert name.count("|") == (3 if topic else 2)
