"""`python -m bench.upload [--mib 2048]`: what storing one large file costs in memory, and how fast it goes.

The file is sparse, so that the disk is not measured; the storage is the S3 server of the tests. The upload
runs in a process of its own, whose memory is measured from outside.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from testkit.servers import S3Server

MIB = 1024 * 1024

UPLOAD = """
import asyncio, sys, time
from pathlib import Path
from openegress.core.storages import S3Storage, StoragePlan
from openegress.storage.uploader import Uploader

async def main(url, small, large):
    backend = S3Storage(bucket="bench", access_key="key", secret="secret", endpoint=url)
    uploader = Uploader(StoragePlan(backend=backend))
    await uploader.put(Path(small), "small", "video/mp4")
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.monotonic()
    await uploader.put(Path(large), "large", "video/mp4")
    print(time.monotonic() - began, flush=True)
    sys.stdin.readline()

asyncio.run(main(*sys.argv[1:]))
"""


@dataclass(frozen=True, slots=True)
class Upload:
    size_mib: int
    seconds: float
    before_mib: float
    """RSS of the uploading process when one small file is stored."""
    growth_mib: float
    """The maximum growth beyond that."""

    @property
    def mib_per_s(self) -> float:
        return self.size_mib / self.seconds


class Watch:
    """The peak RSS of a process, read every 10 ms until stopped."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.before_bytes = self.peak_bytes = self._process.memory_info().rss
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(0.01):
            self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss)

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


def measure(url: str, folder: Path, size_mib: int) -> Upload:
    """Uploads `size_mib` to bucket "bench" of the S3 server at `url`."""
    small, large = folder / "small", folder / "large"
    small.write_bytes(b"small")
    with large.open("wb") as file:
        file.truncate(size_mib * MIB)
    with subprocess.Popen(
        [sys.executable, "-c", UPLOAD, url, str(small), str(large)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        watch = Watch(process.pid)
        process.stdin.write("go\n")
        process.stdin.flush()
        seconds = process.stdout.readline()
        watch.stop()
        process.stdin.write("end\n")
        process.stdin.flush()
    if not seconds:
        raise RuntimeError(f"the upload of {size_mib} MiB failed")
    return Upload(
        size_mib,
        float(seconds),
        watch.before_bytes / MIB,
        (watch.peak_bytes - watch.before_bytes) / MIB,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory and speed of storing a large file")
    parser.add_argument("--mib", type=int, default=2048)
    size_mib = parser.parse_args().mib
    with S3Server() as server, tempfile.TemporaryDirectory(prefix="openegress-bench-") as folder:
        server.create_bucket("bench")
        result = measure(server.url, Path(folder), size_mib)
    print(json.dumps({**asdict(result), "mib_per_s": round(result.mib_per_s, 1)}))


if __name__ == "__main__":
    main()
