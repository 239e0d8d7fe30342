"""`make release-check`: what the release workflow builds, checked before a tag is set; nothing is uploaded.

`make dist` has built the files. They are looked into, and the unit tests run on each supported Python that uv
finds on this machine. Provenance is signed by the workflow alone.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
WANTED = (
    "openegress/api/static/dashboard/index.html",
    "openegress/api/static/template/index.html",
    "openegress/config/reference.yaml",
)
LEGAL = ("LICENSE", "NOTICE")


def project() -> dict[str, Any]:
    read: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return read


def missing_files(names: list[str], legal_under: str, package_under: str) -> list[str]:
    """Of the names in an archive."""
    wanted = [f"{legal_under}{name}" for name in LEGAL] + [f"{package_under}{name}" for name in WANTED]
    return [name for name in wanted if name not in names]


def missing_components(sbom: dict[str, Any], requirements: list[str]) -> list[str]:
    """Direct requirements that a CycloneDX document does not name."""
    named = {component["name"].lower() for component in sbom["components"]}
    wanted = [re.split(r"[^\w.-]", requirement)[0].lower() for requirement in requirements]
    return [name for name in wanted if name not in named]


def changelog_speaks_of(changelog: str, version: str) -> bool:
    """With at least one line, under its own heading or, before the tag, under Unreleased."""
    for heading in (version, "Unreleased"):
        found = re.search(rf"^## \[{re.escape(heading)}\].*\n((?:(?!## ).*\n)*)", changelog, re.MULTILINE)
        if found and re.search(r"^- ", found[1], re.MULTILINE):
            return True
    return False


def complaints() -> Iterator[str]:
    """About the files in dist/."""
    version = project()["version"]
    wheel = DIST / f"openegress-{version}-py3-none-any.whl"
    sdist = DIST / f"openegress-{version}.tar.gz"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    yield from (
        f"{wheel.name} lacks {name}"
        for name in missing_files(names, f"openegress-{version}.dist-info/licenses/", "")
    )
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
    yield from (
        f"{sdist.name} lacks {name}"
        for name in missing_files(names, f"openegress-{version}/", f"openegress-{version}/src/")
    )
    sbom = json.loads((DIST / "openegress.cdx.json").read_text())
    yield from (f"the SBOM lacks {name}" for name in missing_components(sbom, project()["dependencies"]))
    if not changelog_speaks_of((ROOT / "CHANGELOG.md").read_text(), version):
        yield f"CHANGELOG.md says nothing of {version}"


def supported_pythons() -> list[str]:
    ci = yaml.safe_load((ROOT / ".github/workflows/ci.yaml").read_text())
    versions: list[str] = ci["jobs"]["check"]["strategy"]["matrix"]["python"]
    return versions


def find_python(version: str) -> str | None:
    """The path of an interpreter: one that uv knows, one of pyenv's, or one that uv can bring."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    known = [version, *(str(path) for path in sorted(pyenv.glob(f"{version}.*/bin/python")))]
    for bring in (False, True):
        if bring:
            subprocess.run(["uv", "python", "install", "--quiet", version], capture_output=True, check=False)
        for name in known:
            find = ["uv", "python", "find", "--no-project", name]
            done = subprocess.run(find, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return done.stdout.strip()
    return None


def unit_tests_pass(python: str, environment: Path) -> bool:
    """In an environment of its own, with the versions of uv.lock."""
    env = os.environ | {"UV_PROJECT_ENVIRONMENT": str(environment)}
    env.pop("VIRTUAL_ENV", None)
    subprocess.run(["uv", "sync", "--frozen", "--quiet", "--python", python], cwd=ROOT, env=env, check=True)
    pytest = f"{environment}/bin/python -m pytest -q -n 2 -p no:cacheprovider tests/unit"
    return subprocess.run(shlex.split(pytest), cwd=ROOT, env=env, check=False).returncode == 0


def main() -> int:
    failed = list(complaints())
    untested = []
    for version in supported_pythons():
        python = find_python(version)
        if python is None:
            untested.append(version)
            continue
        with tempfile.TemporaryDirectory() as folder:
            if not unit_tests_pass(python, Path(folder) / "venv"):
                failed.append(f"unit tests fail on Python {version}")
    for complaint in failed:
        print(f"release-check: {complaint}", file=sys.stderr)
    if untested:
        print(f"release-check: no Python {', '.join(untested)} on this machine, not tested", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
