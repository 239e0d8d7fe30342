"""What an id of an egress may be, and that none leads out of its folder."""

import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.core.errors import Code, EgressError
from openegress.core.ids import check_egress_id, derived_id, is_egress_id, new_id
from openegress.core.plan import Plan, WebSource, encode
from openegress.storage.journal import NAME, Journal, Opened
from openegress.storage.seal import Seal
from openegress.worker.leftovers import find_leftovers

BAD = [
    "",
    ".",
    "..",
    "../x",
    "../../../victim",
    "/etc",
    "EG_\x00x",
    "EG_a\nb",
    "EG_" + "a" * 300,
    "a b",
    "EG_é",
    "-x",
]


@pytest.mark.parametrize("text", ["EG_2xJ9vLmPqRsT", "EG_1", "a", "A-b_c"])
def test_ids(text: str) -> None:
    assert check_egress_id(text) == text


@pytest.mark.parametrize("text", BAD)
def test_what_is_none(text: str, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    with pytest.raises(EgressError) as refused:
        check_egress_id(text)
    assert refused.value.code is Code.INVALID_ARGUMENT
    assert len(refused.value.message.splitlines()) == 1 and len(refused.value.message) < 250
    with pytest.raises(EgressError):
        Journal.create(spool, text, b"")
    assert list(tmp_path.iterdir()) == []


@given(st.text())
def test_an_id_is_one_part_of_a_path(text: str) -> None:
    if is_egress_id(text):
        assert Path("/spool", text).resolve() == Path("/spool", text)
        assert Path("/spool", text).parent == Path("/spool")


async def test_a_journal_is_its_own_folders(tmp_path: Path) -> None:
    """Whoever can write into the spool names no other egress, in the journal or in the plan."""

    def plan(egress_id: str) -> bytes:
        return encode(Plan(egress_id, WebSource(url="http://a"), (), None, None))

    seal = Seal(tmp_path)
    Journal.create(tmp_path, "EG_good", plan("EG_good"), seal.of(plan("EG_good")))
    Journal.create(tmp_path, "EG_planned", plan("../../victim"), seal.of(plan("../../victim")))
    (tmp_path / "EG_named").mkdir()
    opened = Opened(1, "../../victim", plan("EG_named"), seal.of(plan("EG_named")))
    (tmp_path / "EG_named" / NAME).write_bytes(msgspec.json.encode(opened) + b"\n")
    (tmp_path / "EG_garbage").mkdir()
    (tmp_path / "EG_garbage" / NAME).write_bytes(b"\xff\n")
    assert [found.plan.egress_id for found in await find_leftovers(tmp_path)] == ["EG_good"]


def test_ids_that_are_made() -> None:
    ids = {new_id("REQ_") for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(r"REQ_[A-Za-z0-9]{12}", one) for one in ids)


def test_a_seed_makes_one_id() -> None:
    assert derived_id("EG_", b"a") == derived_id("EG_", b"a") != derived_id("EG_", b"b")
