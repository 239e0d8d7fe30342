"""What a key service is asked, and what is taken of its answers."""

import json
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from livekit.protocol.webhook import WebhookEvent

from openegress.core.key_service import MAX_KEYS, answer_of, request_body
from openegress.core.room_keys import KeyAnswer, KeyDerivation, KeyQuestion, RoomKey
from openegress.core.room_patterns import fits


def body_of(question: KeyQuestion) -> dict[str, Any]:
    body = request_body(
        question, room_name="board", room_id="RM_1", egress_id="EG_1", event_id="KQ_1", now_s=7
    )
    event = json_format.Parse(body, WebhookEvent(), ignore_unknown_fields=True)
    assert (event.room.name, event.room.sid, event.egress_info.egress_id) == ("board", "RM_1", "EG_1")
    assert (event.event, event.id, event.created_at) == ("egress_keys_requested", "KQ_1", 7)
    told: dict[str, Any] = json.loads(body)
    return told


def test_a_question_is_a_webhook_of_livekits() -> None:
    assert body_of(KeyQuestion(("ann", "ben")))["identities"] == ["ann", "ben"]
    assert "keyIndex" not in body_of(KeyQuestion(()))
    assert body_of(KeyQuestion(("ann",), 0))["keyIndex"] == 0


def test_an_answer() -> None:
    told = {
        "keys": [
            {"key": "for all"},
            {"key": "AAECAw==", "derivation": "hkdf", "index": 15, "identity": "ann[*]", "more": 1},
        ],
        "refresh": 300,
    }
    own = RoomKey(15, bytes(range(4)), KeyDerivation.HKDF, ("ann[[][*]]",))
    assert answer_of(json.dumps(told).encode()) == KeyAnswer((own, RoomKey(0, b"for all")), 300.0)
    assert fits("ann[*]", own.identities) and not fits("ann*", own.identities)
    assert answer_of(b'{"keys": []}') == KeyAnswer()


@pytest.mark.parametrize(("told", "taken"), [(0.001, 5.0), (1e300, 604_800.0), (60, 60.0), (None, None)])
def test_it_is_asked_again_neither_without_end_nor_never(told: float | None, taken: float | None) -> None:
    assert answer_of(json.dumps({"keys": [], "refresh": told}).encode()).refresh_s == taken


@pytest.mark.parametrize(
    ("told", "wrong"),
    [
        (b"hidden", "its answer is not JSON"),
        (b"[" * 100_000, "its answer is not JSON"),
        (b"\xff\xfe\x00", "its answer is not JSON"),
        (b'["hidden"]', "not an object with a list"),
        (b'{"keys": "hidden"}', "not an object with a list"),
        (json.dumps({"keys": [{"key": "hidden"}] * (MAX_KEYS + 1)}).encode(), "at most 4096 are taken"),
        (b'{"keys": ["hidden"]}', "keys[0] is not an object"),
        (b'{"keys": [{"key": "fine"}, {"key": ""}]}', "keys[1].key is not a text"),
        (b'{"keys": [{"key": ["hidden"]}]}', "keys[0].key is not a text"),
        (json.dumps({"keys": [{"key": "hidden" * 1000}]}).encode(), "of 1 to 4096 characters"),
        (b'{"keys": [{"key": "hidden!", "derivation": "hkdf"}]}', "keys[0].key is not base64"),
        (b'{"keys": [{"key": "hidden\\ud800"}]}', "keys[0].key is not"),
        (b'{"keys": [{"key": "hidden", "derivation": "sha1"}]}', "keys[0].derivation is not one of pbkdf2"),
        (b'{"keys": [{"key": "hidden", "derivation": []}]}', "keys[0].derivation is not one of"),
        (b'{"keys": [{"key": "hidden", "index": 16}]}', "keys[0].index is not a whole number"),
        (b'{"keys": [{"key": "hidden", "index": true}]}', "keys[0].index is not a whole number"),
        (b'{"keys": [{"key": "hidden", "index": 1.5}]}', "keys[0].index is not a whole number"),
        (b'{"keys": [{"key": "hidden", "identity": 1}]}', "keys[0].identity is not a text"),
        (b'{"keys": [], "refresh": "hidden"}', "refresh is not a number of seconds"),
        (b'{"keys": [], "refresh": 0}', "refresh is not a number of seconds"),
        (b'{"keys": [], "refresh": NaN}', "refresh is not a number of seconds"),
    ],
)
def test_an_answer_that_is_none(told: bytes, wrong: str) -> None:
    with pytest.raises(ValueError) as raised:
        answer_of(told)
    assert wrong in str(raised.value) and "hidden" not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_a_value_error(told: bytes) -> None:
    try:
        answer_of(told)
    except ValueError:
        return
