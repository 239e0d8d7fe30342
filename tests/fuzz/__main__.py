"""`python -m tests.fuzz [--seconds N] [TARGET ...]`: libFuzzer (atheris) on each target, from its corpus.

What is found goes into the corpus and stays there: tests/unit/test_fuzz_corpus.py replays it.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
MAX_BYTES = 16_384
SLOWEST_S = 5
"""For one input. Whoever sends it stands still a whole recording, or the service."""
MEMORY_MIB = 2048


def names() -> list[str]:
    return sorted(folder.name for folder in CORPUS.iterdir() if folder.is_dir())


def fuzz(name: str, seconds: int) -> int:
    """In this process, for good: libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=["openegress", "aioice"]):
        from tests.fuzz.targets import TARGETS

    def keep_finds(data: bytes) -> None:
        """libFuzzer writes down what takes too long or too much memory, and not what raises in Python."""
        try:
            TARGETS[name](data)
        except Exception:
            (CORPUS / name / f"found-{hashlib.sha1(data).hexdigest()}").write_bytes(data)
            raise

    with tempfile.TemporaryDirectory(prefix="openegress-fuzz-") as grown:
        arguments = [
            sys.argv[0],
            grown,
            str(CORPUS / name),
            f"-max_total_time={seconds}",
            f"-max_len={MAX_BYTES}",
            f"-timeout={SLOWEST_S}",
            f"-rss_limit_mb={MEMORY_MIB}",
            f"-artifact_prefix={CORPUS / name}/found-",
            "-print_final_stats=1",
            "-verbosity=0",
        ]
        atheris.Setup(arguments, keep_finds)
        atheris.Fuzz()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(names()))
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.here:
        return fuzz(told.targets[0], told.seconds)
    failed = []
    for name in told.targets or names():
        print(f"--- {name}", flush=True)
        command = [sys.executable, "-m", "tests.fuzz", "--here", "--seconds", str(told.seconds), name]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    print(f"found something in: {', '.join(failed)}" if failed else "nothing found", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
