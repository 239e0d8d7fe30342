"""What is kept of failed egresses, and how much."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from livekit.protocol.egress import EgressInfo, EgressStatus

from openegress.core import ipc
from openegress.core.events import Active, AnyEvent, Ended, EndReason
from openegress.core.storages import LocalStorage, S3Storage, StoragePlan
from openegress.proto.egress_rpc_pb2 import StartEgressRequest
from openegress.request.context import Context
from openegress.request.initial_info import initial
from openegress.request.validate import plan_of
from openegress.worker import fault_reports
from openegress.worker.fault_reports import FaultReports
from openegress.worker.job import Job
from openegress.worker.records import Record
from openegress.worker.traces import LOG_BYTES, MAX_TRACES, Trace, Traces
from openegress.worker.unreported import Unreported

SECRETS = ("s3cret-key", "s3cret-token", "s3cret-stream")


def test_a_trace_keeps_the_newest_of_a_log_and_counts_the_rest() -> None:
    trace = Trace()
    for number in range(3000):
        trace.log(ipc.Log("info", f"line {number}", {"filler": "x" * 200}), number)
    assert sum(map(len, trace.lines)) <= LOG_BYTES
    assert json.loads(trace.lines[-1])["event"] == "line 2999"
    assert trace.left_out + len(trace.lines) == 3000
    trace.log(ipc.Log("error", "frozen", {"stacks": "y" * 10_000_000}), 1)
    assert json.loads(trace.lines[-1])["event"] == "frozen"


def test_no_more_egresses_are_kept_than_a_worker_can_have() -> None:
    traces = Traces()
    for number in range(MAX_TRACES + 1):
        traces.log(f"EG_{number}", ipc.Log("info", "said", {}))
    assert not traces.take("EG_0").lines
    assert traces.take("EG_1").lines and not traces.take("EG_1").lines


async def ended(folder: Path, *events: AnyEvent, had_ended: bool = False, reports: StoragePlan) -> None:
    storage = S3Storage(bucket="b", access_key="the-key", secret=SECRETS[0], endpoint="https://host")
    context = Context(now_ns=1, storage=StoragePlan(storage), ws_url="", template_base="", make_token=None)
    body: dict[str, Any] = {
        "url": f"https://example.com/page?token={SECRETS[1]}",
        "file_outputs": [{"filepath": "a.mp4"}],
        "stream_outputs": [{"urls": [f"rtmp://host/app/{SECRETS[2]}-and-more"]}],
    }
    request = json_format.ParseDict({"egress_id": "EG_1", "web": body}, StartEgressRequest())
    plan = plan_of(request, context)
    kept = FaultReports(reports, "of/here", lambda: {"node_id": "NE_1"})

    async def take(info: EgressInfo) -> None:
        pass

    record = Record(initial(request, plan, 1), take, Unreported(folder), kept.state)
    job = Job(plan, "web", record, kept.log, had_ended=had_ended)
    kept.log("EG_1", ipc.Log("error", f"no way to https://example.com/page?token={SECRETS[1]}", {}))
    kept.log("EG_1", ipc.Log("error", f"rtmp says {SECRETS[2]}-and-more", {"said": SECRETS[0]}))
    for event in events:
        record.apply(event)
    await record.close()
    await kept.ended(job)


FAILED = Ended(9, EndReason.FAILURE, f"stream: https://example.com/?{SECRETS[1]}", "internal")


async def test_a_report_says_what_happened_and_no_secret(tmp_path: Path) -> None:
    await ended(tmp_path, Active(5), FAILED, reports=StoragePlan(LocalStorage(str(tmp_path / "out"))))
    with zipfile.ZipFile(tmp_path / "out/of/here/EG_1/EG_1.zip") as archive:
        files = {name: archive.read(name).decode() for name in archive.namelist()}
    assert set(files) == {"state.json", "pipeline.json", "log.jsonl", "stderr.txt"}
    state, pipeline = json.loads(files["state.json"]), json.loads(files["pipeline.json"])
    assert [one["status"] for one in state["states"]] == ["EGRESS_ACTIVE", "EGRESS_FAILED"]
    assert (
        state["egress"]["error"] == "stream: https://example.com/" and state["machine"]["node_id"] == "NE_1"
    )
    assert [output["type"] for output in pipeline["outputs"]] == ["file", "stream"]
    assert pipeline["source"] == {
        "type": "web",
        "url": "https://example.com/page",
        "await_start_signal": False,
    }
    lines = [json.loads(line)["event"] for line in files["log.jsonl"].splitlines()]
    assert lines == ["no way to https://example.com/page", "rtmp says ***"]
    assert [one for one in SECRETS if any(one in text for text in files.values())] == []


@pytest.mark.parametrize(
    ("events", "had_ended"),
    [((Active(5), Ended(9, EndReason.API)), False), ((Active(5), FAILED), True)],
    ids=["complete", "recovered once more"],
)
async def test_what_has_not_failed_now_has_no_report(
    tmp_path: Path, events: tuple[AnyEvent, ...], had_ended: bool
) -> None:
    reports = StoragePlan(LocalStorage(str(tmp_path / "out")))
    await ended(tmp_path, *events, had_ended=had_ended, reports=reports)
    assert not (tmp_path / "out").exists()


async def test_a_stop_before_the_start_has_one(tmp_path: Path) -> None:
    await ended(tmp_path, Ended(9, EndReason.API), reports=StoragePlan(LocalStorage(str(tmp_path / "out"))))
    with zipfile.ZipFile(tmp_path / "out/of/here/EG_1/EG_1.zip") as archive:
        state = json.loads(archive.read("state.json"))
    assert state["egress"]["status"] == EgressStatus.Name(EgressStatus.EGRESS_ABORTED)


async def test_a_storage_that_takes_none_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    class Log:
        def warning(self, event: str, **_: object) -> None:
            said.append(event)

    monkeypatch.setattr(fault_reports, "_log", Log())
    (tmp_path / "file").write_text("no folder")
    await ended(
        tmp_path, Active(5), FAILED, reports=StoragePlan(LocalStorage(str(tmp_path / "file")), retry_for_s=0)
    )
    assert said == ["the report of a failed egress is not stored"]
