"""`make cves`: what a changelog of Debian's says of the versions in the wheel."""

import pytest

from scripts.cves import WATCHED, Library, missing, newer, numbers, parse, report

CHANGELOG = """ffmpeg (7:9.0-2) unstable; urgency=medium

  * Fix a decoder (CVE-2026-0005)

 -- A Person <a@debian.org>  Tue, 20 Oct 2026 19:37:00 +0200

ffmpeg (7:9.0-1) unstable; urgency=medium

  * New upstream version 9.0
    - Fixes CVE-2026-0003, CVE-2026-0004

 -- A Person <a@debian.org>  Tue, 20 Oct 2026 19:37:00 +0200

ffmpeg (7:8.1.2+dfsg-2) unstable; urgency=medium

  * Fix another (CVE-2026-0002)

 -- A Person <a@debian.org>  Tue, 20 Oct 2026 19:37:00 +0200

ffmpeg (7:8.1.2+dfsg-1) unstable; urgency=high

  * New upstream version 8.1.2 (CVE-2026-0001)

 -- A Person <a@debian.org>  Tue, 20 Oct 2026 19:37:00 +0200
"""


@pytest.mark.parametrize(
    ("ours", "open_ones"),
    [
        ("9.1", []),
        ("9.0", ["CVE-2026-0005"]),
        ("8.1.2", ["CVE-2026-0005", "CVE-2026-0003", "CVE-2026-0004", "CVE-2026-0002"]),
        ("8.1", ["CVE-2026-0005", *(f"CVE-2026-000{n}" for n in (3, 4, 2, 1))]),
        ("8.10", ["CVE-2026-0005", "CVE-2026-0003", "CVE-2026-0004"]),
    ],
)
def test_what_a_version_is_not_free_of(ours: str, open_ones: list[str]) -> None:
    assert [cve for cve, _ in missing(parse(CHANGELOG), numbers(ours))] == open_ones


def test_newer_versions_and_the_report() -> None:
    assert newer(parse(CHANGELOG), (8, 1, 2)) == [(9, 0)]
    lines = list(report(Library("FFmpeg", "", lambda: "n8.1.2-git"), CHANGELOG))
    assert lines[0] == "FFmpeg 8.1.2; Debian's unstable has 9.0"
    assert lines[1] == "  CVE-2026-0005, fixed by a patch to 9.0"
    assert lines[-1] == "  CVE-2026-0002, fixed by a patch to 8.1.2"


@pytest.mark.parametrize("library", WATCHED, ids=lambda library: library.name)
def test_the_wheel_tells_the_versions_of_its_libraries(library: Library) -> None:
    assert len(numbers(library.version())) >= 2
