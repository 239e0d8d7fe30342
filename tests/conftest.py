"""What all tests share.

A quiet test measures the recorder by the machine's clock. Where the machine itself stood still meanwhile, a
failure says nothing: the test is run again, and the summary says so. A failure on a machine that ran is one.
"""

import os
from collections.abc import Iterator

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import settings

from testkit.machine_watch import MachineWatch

# A slow example on a busy machine says nothing about the code: time is measured by benchmarks. CI tells of a
# change, so it draws the same examples each time; whoever works on the code draws others.
settings.register_profile("openegress", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("openegress")

RUNS = 3
_watch = pytest.StashKey[MachineWatch]()
_said = pytest.StashKey[list[str]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Iterator[None]:
    if not any(item.get_closest_marker("quiet") for item in session.items):
        return (yield)
    session.config.stash[_watch] = watch = MachineWatch()
    session.config.stash[_said] = []
    try:
        return (yield)
    finally:
        watch.close()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    watch = item.config.stash.get(_watch, None)
    if watch is None or item.get_closest_marker("quiet") is None or not isinstance(item, pytest.Function):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    watch.since_last()
    for left in reversed(range(RUNS)):
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        failed = [report for report in reports if report.failed]
        stillness = watch.since_last()
        if not failed:
            break
        item.config.stash[_said].append(f"{item.nodeid}: the machine {stillness}")
        if not left or not stillness.spoils:
            break
        item._initrequest()
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    said = terminalreporter.config.stash.get(_said, [])
    if said:
        terminalreporter.section("while quiet tests failed")
        for line in said:
            terminalreporter.write_line(line)
