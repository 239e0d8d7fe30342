"""What a release may not lack."""

import pytest

from scripts.release_check import changelog_speaks_of, missing_components, missing_files


def test_files_of_an_archive() -> None:
    whole = [
        "x/LICENSE",
        "x/NOTICE",
        "x/src/openegress/api/static/dashboard/index.html",
        "x/src/openegress/api/static/template/index.html",
        "x/src/openegress/config/reference.yaml",
    ]
    assert missing_files(whole, "x/", "x/src/") == []
    assert missing_files(whole[1:-1], "x/", "x/src/") == [
        "x/LICENSE",
        "x/src/openegress/config/reference.yaml",
    ]


def test_components_of_an_sbom() -> None:
    sbom = {"components": [{"name": "av"}, {"name": "PyYAML"}]}
    assert missing_components(sbom, ["av>=18.1.0", "pyyaml>=6", "redis[hiredis]>=8"]) == ["redis"]


@pytest.mark.parametrize(
    ("changelog", "speaks"),
    [
        ("# Changelog\n\n## [Unreleased]\n\n- New.\n", True),
        ("## [Unreleased]\n\n## [1.0.0] - 2026-11-29\n\n### Added\n\n- New.\n", True),
        ("## [Unreleased]\n\n## [0.9.0] - 2026-11-01\n\n- Old.\n", False),
        ("# Changelog\n", False),
    ],
)
def test_a_changelog(changelog: str, speaks: bool) -> None:
    assert changelog_speaks_of(changelog, "1.0.0") is speaks
