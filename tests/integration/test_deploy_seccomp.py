"""The seccomp profile of deploy/, loaded as a container runtime does it, around a real Chromium with its
sandbox on."""

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

PROFILE = Path(__file__).parents[2] / "deploy" / "seccomp.json"

UNDER_PROFILE = """
import ctypes, json, os, sys

library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
library.seccomp_init.restype = ctypes.c_void_p
ERRNO, ALLOW = 0x00050000, 0x7FFF0000

class Argument(ctypes.Structure):
    _fields_ = [
        ("index", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)
    ]

profile = json.load(open(sys.argv[1]))
known = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(ERRNO | profile["defaultErrnoRet"])))
for rule in profile["syscalls"]:
    allowed = rule["action"] == "SCMP_ACT_ALLOW"
    action = ctypes.c_uint32(ALLOW if allowed else ERRNO | rule["errnoRet"])
    arguments = [Argument(entry["index"], 4, entry["value"], 0) for entry in rule.get("args", [])]
    for name in rule["names"]:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            continue
        array = (Argument * len(arguments))(*arguments)
        error = library.seccomp_rule_add_array(known, action, number, len(arguments), array)
        assert error == 0, (name, error)
assert library.seccomp_load(known) == 0
os.execvp(sys.argv[2], sys.argv[2:])
"""


def run(*command: str, home: Path) -> subprocess.CompletedProcess[str]:
    drop: dict[str, Any] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(home, nobody.pw_uid, nobody.pw_gid)
        drop = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    ran: subprocess.CompletedProcess[str] = subprocess.run(
        ["python3", "-c", UNDER_PROFILE, str(home / "seccomp.json"), *command],
        env={"PATH": os.environ["PATH"], "HOME": str(home)},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
        **drop,
    )
    return ran


def test_chromium_starts_with_its_sandbox_and_mount_is_refused() -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or "google-chrome"
    with tempfile.TemporaryDirectory(prefix="openegress-seccomp-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        shutil.copy(PROFILE, home / "seccomp.json")
        page = "data:text/html,<title>in</title><script>document.title='sand'+'boxed'</script>"
        done = run(
            chromium,
            "--headless",
            "--disable-gpu",
            "--disable-crash-reporter",
            f"--user-data-dir={home / 'profile'}",
            "--dump-dom",
            page,
            home=home,
        )
        assert "<title>sandboxed</title>" in done.stdout, done.stderr[-2000:]
        mount = run(
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "mount",
            "-t",
            "tmpfs",
            "none",
            "/mnt",
            home=home,
        )
        assert mount.returncode != 0
        assert "permitted" in mount.stderr.lower() or "denied" in mount.stderr.lower()
