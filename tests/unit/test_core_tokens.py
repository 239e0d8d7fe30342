from datetime import timedelta

import jwt
import pytest
from livekit import api

from openegress.core.tokens import recorder_token, room_service_token

KEY, SECRET = "key", "a secret of thirty-two characters"


def claims(token: str) -> dict[str, object]:
    decoded: dict[str, object] = jwt.decode(token, SECRET, algorithms=["HS256"])
    return decoded


def test_a_recorder_token_says_what_livekits_own_library_would() -> None:
    theirs = (
        api.AccessToken(KEY, SECRET)
        .with_identity("EG_1")
        .with_kind("egress")
        .with_ttl(timedelta(hours=24))
        .with_grants(
            api.VideoGrants(
                room_join=True,
                room="lobby",
                can_subscribe=True,
                can_publish=False,
                can_publish_data=False,
                hidden=True,
                recorder=True,
            )
        )
        .to_jwt()
    )
    ours = claims(recorder_token(KEY, SECRET, "lobby", "EG_1"))
    reference = claims(theirs)
    for name in ("iss", "sub", "kind", "video"):
        assert ours[name] == reference[name]
    assert ours["exp"] == pytest.approx(reference["exp"], abs=5)


def test_a_room_service_token() -> None:
    theirs = api.AccessToken(KEY, SECRET).with_grants(
        api.VideoGrants(room_list=True, room_admin=True, room="lobby")
    )
    ours = claims(room_service_token(KEY, SECRET, "lobby"))["video"]
    reference = claims(theirs.to_jwt())["video"]
    assert isinstance(ours, dict)
    assert isinstance(reference, dict)
    assert ours.items() <= reference.items()
    assert claims(room_service_token(KEY, SECRET))["video"] == {"roomList": True}


def test_life_time() -> None:
    assert claims(recorder_token(KEY, SECRET, "r", "e", timedelta(minutes=5)))["exp"] == pytest.approx(
        claims(recorder_token(KEY, SECRET, "r", "e", timedelta(minutes=6)))["exp"] - 60,  # type: ignore[operator]
        abs=2,
    )
