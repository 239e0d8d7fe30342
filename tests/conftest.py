"""What all tests share.

A test of real servers, browsers and networks (integration, e2e) that fails is run again:

- a quiet one that ran beside another one (`-n 2`), alone: `make test` runs what failed so once more;
- a quiet one while the machine itself stood still, as it measures the recorder by the machine's clock. The
  failure says nothing then;
- any other once. One that then passes is listed as flaky, with its failure: a defect to be found. A run with
  more than `FLAKY_AT_MOST` of them fails.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import settings

from testkit.machine_watch import MachineWatch
from testkit.service import stop_recordings

# A slow example on a busy machine says nothing about the code: time is measured by benchmarks. CI tells of a
# change, so it draws the same examples each time; whoever works on the code draws others.
settings.register_profile("openegress", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("openegress")

REAL_PARTS = tuple(Path(__file__).parent / name for name in ("integration", "e2e"))
LONG = (
    "e2e/test_takeover.py",
    "e2e/test_crashes.py",
    "integration/test_api_clients.py",
    "e2e/test_room_requests.py",
    "e2e/test_encrypted_rooms.py",
    "e2e/test_installed.py",
    "e2e/test_bad_pages.py",
    "integration/test_web_failures.py",
    "e2e/test_deployment_failures.py",
    "e2e/test_deployment_livekit.py",
    "e2e/test_deployment_cluster.py",
    "e2e/test_options.py",
    "e2e/test_commands.py",
    "e2e/test_template_page.py",
    "e2e/test_web_egress.py",
    "e2e/test_auto_start.py",
    "e2e/test_encoding.py",
    "e2e/test_outputs_streams.py",
    "e2e/test_outputs_storage.py",
    "integration/test_storage_conformance.py",
    "integration/test_output_stream_networks.py",
    "integration/test_web_recording.py",
)
"""Files of half a minute and more, the longest first."""
STOOD_STILL_AT_MOST = 2
FLAKY_AT_MOST = 2
_FLAKY = "flaky"
_watch = pytest.StashKey[MachineWatch]()
_stood_still = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_stood_still] = []
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Summary())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long begin first (`--no-loadscope-reorder`): one of minutes that begins last keeps the
    other worker waiting."""
    turns = {Path(__file__).parent / name: turn for turn, name in enumerate(LONG)}
    items.sort(key=lambda item: turns.get(item.path, len(turns)))


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Iterator[None]:
    if not any(item.get_closest_marker("quiet") for item in session.items):
        return (yield)
    session.config.stash[_watch] = watch = MachineWatch()
    try:
        return (yield)
    finally:
        watch.close()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    if not isinstance(item, pytest.Function) or not any(map(item.path.is_relative_to, REAL_PARTS)):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in _reports(item, nextitem):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _reports(item: pytest.Function, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
    is_quiet = item.get_closest_marker("quiet") is not None
    if is_quiet and hasattr(item.config, "workerinput"):
        return runtestprotocol(item, nextitem=nextitem, log=False)
    watch = item.config.stash.get(_watch, None) if is_quiet else None
    if watch is not None:
        watch.since_last()
    first_failure, stood_still = "", 0
    while True:
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        failures = [report.longreprtext for report in reports if report.failed]
        if not failures:
            break
        stillness = watch.since_last() if watch is not None else None
        if stillness is not None:
            item.config.stash[_stood_still].append(f"{item.nodeid}: the machine {stillness}")
        if stillness is not None and stillness.spoils and stood_still < STOOD_STILL_AT_MOST:
            stood_still += 1
        elif first_failure:
            return reports
        else:
            first_failure = failures[0]
        stop_recordings()
        item._initrequest()
    if first_failure:
        reports[-1].user_properties.append((_FLAKY, first_failure))
    return reports


class _Summary:
    """Of a whole run: it hears of the tests of all workers."""

    def __init__(self) -> None:
        self._flaky: list[tuple[str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._flaky += [(report.nodeid, str(text)) for name, text in report.user_properties if name == _FLAKY]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if len(self._flaky) > FLAKY_AT_MOST and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        stood_still = terminalreporter.config.stash[_stood_still]
        if stood_still:
            terminalreporter.section("while quiet tests failed")
            for line in stood_still:
                terminalreporter.write_line(line)
        if self._flaky:
            terminalreporter.section(f"{len(self._flaky)} flaky, {FLAKY_AT_MOST} may be", red=True)
            for name, failure in self._flaky:
                terminalreporter.write_sep("_", name)
                terminalreporter.write_line(failure)
