"""The request to a user's key service, and its answer. Pure.

The request has the form of a LiveKit webhook, so that the SDKs' webhook receivers verify it. See
docs/encryption.md.
"""

import base64
import binascii
import glob
import json
from typing import Any

from openegress.core import foreign_json
from openegress.core.room_keys import KEY_RING, KeyAnswer, KeyDerivation, KeyQuestion, RoomKey

EVENT = "egress_keys_requested"

MAX_ANSWER_BYTES = 1024 * 1024
MAX_KEYS = 4096
"""Sixteen for each of 256 people."""
MAX_KEY_BYTES = 4096
"""Limit for the text of one key; the SDKs set none."""
MIN_REFRESH_S = 5.0
MAX_REFRESH_S = 7 * 86_400.0


def request_body(
    question: KeyQuestion, *, room_name: str, room_id: str, egress_id: str, event_id: str, now_s: int
) -> bytes:
    """The JSON that is sent and signed."""
    body: dict[str, object] = {
        "event": EVENT,
        "id": event_id,
        "createdAt": str(now_s),
        "room": {"sid": room_id, "name": room_name},
        "egressInfo": {"egressId": egress_id, "roomId": room_id, "roomName": room_name},
        "identities": list(question.identities),
    }
    if question.index is not None:
        body["keyIndex"] = question.index
    return json.dumps(body).encode()


def answer_of(body: bytes) -> KeyAnswer:
    """Raises ValueError, whose text names the wrong field without showing its value."""
    try:
        told = foreign_json.loads(body)
    except ValueError:
        raise ValueError("its answer is not JSON") from None  # the parser's own words may quote a key
    keys = told.get("keys") if isinstance(told, dict) else None
    if not isinstance(keys, list):
        raise ValueError('its answer is not an object with a list "keys"')
    if len(keys) > MAX_KEYS:
        raise ValueError(f"its answer has {len(keys)} keys, and at most {MAX_KEYS} are taken")
    found = [_key(each, f"keys[{number}]") for number, each in enumerate(keys)]
    # A participant's own key comes before one that everybody has.
    return KeyAnswer(tuple(sorted(found, key=lambda key: not key.identities)), _refresh_s(told))


def _key(told: Any, path: str) -> RoomKey:
    if not isinstance(told, dict):
        raise ValueError(f"{path} is not an object")
    text, index = told.get("key"), told.get("index", 0)
    identity, derivation = told.get("identity", ""), told.get("derivation", KeyDerivation.PBKDF2.value)
    if not isinstance(text, str) or not 0 < len(text) <= MAX_KEY_BYTES:
        raise ValueError(f"{path}.key is not a text of 1 to {MAX_KEY_BYTES} characters")
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < KEY_RING:
        raise ValueError(f"{path}.index is not a whole number from 0 to {KEY_RING - 1}")
    if not isinstance(identity, str):
        raise ValueError(f"{path}.identity is not a text")
    if derivation not in list(KeyDerivation):
        raise ValueError(f"{path}.derivation is not one of {', '.join(KeyDerivation)}")
    identities = (glob.escape(identity),) if identity else ()
    try:
        return RoomKey(
            index, material_of(text, KeyDerivation(derivation)), KeyDerivation(derivation), identities
        )
    except ValueError:
        raise ValueError(f"{path}.key is not base64, as {derivation} has it") from None


def material_of(text: str, derivation: KeyDerivation) -> bytes:
    """The bytes that an SDK gets for a key written as `text`. Raises ValueError where it must be base64 and
    is not, or is invalid Unicode."""
    match derivation:
        case KeyDerivation.PBKDF2:
            return text.encode()
        case KeyDerivation.HKDF:
            try:
                return base64.b64decode(text, validate=True)
            except binascii.Error:
                raise ValueError("it is not base64") from None


def _refresh_s(told: dict[str, Any]) -> float | None:
    refresh = told.get("refresh")
    if refresh is None:
        return None
    if isinstance(refresh, bool) or not isinstance(refresh, int | float) or not refresh > 0:
        raise ValueError("refresh is not a number of seconds above 0")
    return min(max(float(min(refresh, MAX_REFRESH_S)), MIN_REFRESH_S), MAX_REFRESH_S)
