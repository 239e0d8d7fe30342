"""Packages of Node that tests use, each folder of tools/ with a lock file of its own."""

import fcntl
import subprocess
from pathlib import Path


def install(home: Path, package: str) -> Path:
    """`home`, with node_modules in which `package` is. Runs `npm ci` once, whichever test comes first."""
    with (home / "package.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "node_modules" / package).is_dir():
            command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            subprocess.run(command, cwd=home, check=True, stdout=subprocess.DEVNULL)
    return home
