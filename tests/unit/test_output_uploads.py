"""Objects of one output on their way: what waits, what is tried again, what is told of failures."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from openegress.core.errors import Code, EgressError, Fault
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.output.uploads import OrderedUploads, Upload
from openegress.storage.late import LateUploads
from openegress.storage.uploader import Stored, Uploader

AWAY = EgressError(Code.UNAVAILABLE, "away", fault=Fault.DESTINATION)
REFUSED = EgressError(Code.INVALID_ARGUMENT, "refused", fault=Fault.CALLER)
UNREADABLE = EgressError(Code.INTERNAL, "unreadable", fault=Fault.SERVICE)


class Scripted(Uploader):
    """Fails as `answers` says of a path."""

    def __init__(self, answers: dict[str, EgressError]) -> None:
        super().__init__(StoragePlan(LocalStorage("/")))
        self.answers = answers
        self.stored: list[str] = []
        self.tried: list[str] = []
        self.on_put: Callable[[], None] = lambda: None
        self.hurried = False

    def stop_retrying(self) -> None:
        self.hurried = True

    async def put(
        self,
        local: Path,
        path: str,
        content_type: str,
        *,
        delete_local: bool = False,
        late: LateUploads | None = None,
    ) -> Stored:
        self.on_put()
        self.tried.append(path)
        if (error := self.answers.get(path)) is not None:
            raise error
        self.stored.append(path)
        return Stored(path, path, False, 0)


async def run(uploader: Scripted, count: int) -> OrderedUploads:
    uploads = OrderedUploads(uploader)

    async def then(stored: Stored) -> None:
        pass

    for n in range(count):
        uploads.add(Upload(Path(f"{n}"), f"{n}", "t", then))
    await uploads.settled()
    return uploads


async def test_none_is_overtaken_while_there_is_time() -> None:
    uploader = Scripted({"1": AWAY})
    uploads = await run(uploader, 4)
    assert uploader.stored == ["0"]
    uploader.answers.clear()
    await uploads.finish()
    assert uploader.stored == ["0", "1", "2", "3"]


@pytest.mark.parametrize("error", [AWAY, REFUSED, UNREADABLE])
async def test_at_the_end_one_that_fails_does_not_keep_the_others_back(error: EgressError) -> None:
    uploader = Scripted({"1": error, "3": REFUSED})
    uploads = await run(uploader, 5)
    with pytest.raises(EgressError) as raised:
        await uploads.finish()
    assert raised.value is error
    assert uploader.stored == ["0", "2", "4"]
    assert uploader.hurried is (error is AWAY)


async def test_a_storage_that_is_away_is_not_waited_for_object_by_object() -> None:
    uploader = Scripted({f"{n}": AWAY for n in range(50)})
    uploads = await run(uploader, 50)
    with pytest.raises(EgressError, match="away"):
        await uploads.finish()
    assert len(uploader.tried) <= 4
    assert uploader.hurried


async def test_abandoned_it_waits_for_no_disk_and_takes_no_more() -> None:
    uploader = Scripted({})
    stuck = asyncio.Event()

    async def read_for_ever(*_: object, **__: object) -> Stored:
        stuck.set()
        await asyncio.Event().wait()
        raise AssertionError

    uploader.put = read_for_ever  # type: ignore[method-assign]
    uploads = OrderedUploads(uploader)

    async def then(stored: Stored) -> None:
        raise AssertionError

    uploads.add(Upload(Path("0"), "0", "t", then))
    async with asyncio.timeout(5):
        await stuck.wait()
        await uploads.abandon()
        uploads.add(Upload(Path("1"), "1", "t", then))
        await asyncio.sleep(0)
    assert uploads.pending == 1
