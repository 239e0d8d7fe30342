"""Who uses a spool."""

import os
from pathlib import Path

from structlog.testing import capture_logs

from openegress.worker.holder import held, holder_of


def test_the_next_life_of_a_worker_has_its_name(tmp_path: Path) -> None:
    assert holder_of(tmp_path / "a") == holder_of(tmp_path / "a") != holder_of(tmp_path / "b")


def test_a_second_worker_in_the_same_folder_is_noticed(tmp_path: Path) -> None:
    first = held(tmp_path)
    assert first is not None
    with capture_logs() as logged:
        assert held(tmp_path) is None
    assert [each["event"] for each in logged] == ["another worker uses the same data_dir: each needs its own"]
    os.close(first)
    again = held(tmp_path)
    assert again is not None
    os.close(again)
