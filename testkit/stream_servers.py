"""Servers that take live streams, and can be killed, stopped short and started again: nginx for RTMP, FFmpeg
for SRT. What they receive is in `folder`."""

import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from testkit.livekit_server import free_port
from testkit.servers import ServerProcess

_NGINX = """
load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
daemon off; master_process off; pid {folder}/pid; error_log {folder}/log warn;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
    server {{ listen 127.0.0.1:{http_port}; location / {{ return 403; }} }}
}}
rtmp {{
    server {{
        listen 127.0.0.1:{port};
        application live {{
            live on; record all; record_path {folder}; record_suffix -%s.flv; record_unique on;
        }}
        application denied {{ live on; deny publish all; }}
        application asks {{ live on; on_publish http://127.0.0.1:{http_port}/; }}
    }}
}}
"""


class RtmpServer(ServerProcess):
    """Application `live` records each publish to a file of its own; `denied` and `asks` refuse."""

    def __init__(self) -> None:
        super().__init__()
        self._http_port = free_port()

    def command(self) -> list[str]:
        config = self.folder / "nginx.conf"
        config.write_text(
            _NGINX.format(folder=self.folder, port=self.port, http_port=self._http_port), "utf-8"
        )
        nginx = shutil.which("nginx") or "/usr/sbin/nginx"
        return [nginx, "-p", str(self.folder), "-c", str(config)]

    def rtmp_url(self, path: str) -> str:
        return f"rtmp://127.0.0.1:{self.port}/{path}"

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.stop()

    def recordings(self) -> list[Path]:
        """Oldest first."""
        return sorted(self.folder.glob("*.flv"), key=lambda path: path.stat().st_ctime_ns)


_TAKE = ("ffmpeg", "-v", "error", "-f", "data", "-i")
_WRITE = ("-map", "0", "-c", "copy", "-f", "data")
"""Not as MPEG-TS: that demuxer drops everything before it knows the streams."""


class SrtListener:
    """FFmpeg takes one caller and writes its stream unchanged to a new file each time it is started."""

    def __init__(self, query: str = "") -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="openegress-srt-"))
        self._query = query
        self._process: subprocess.Popen[bytes] | None = None
        self.recordings: list[Path] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        path = self.folder / f"{len(self.recordings)}.ts"
        self.recordings.append(path)
        url = f"srt://127.0.0.1:{self.port}?mode=listener{self._query}"
        self._process = subprocess.Popen(
            [
                "ffmpeg",
                "-v",
                "error",
                "-f",
                "data",
                "-i",
                url,
                "-map",
                "0",
                "-c",
                "copy",
                "-f",
                "data",
                str(path),
            ],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wanted = f":{self.port:04X} "
        deadline = time.monotonic() + 20
        while wanted not in Path("/proc/net/udp").read_text():
            if time.monotonic() > deadline:
                raise TimeoutError("ffmpeg does not listen for SRT")
            time.sleep(0.05)

    def wait(self, timeout_s: float = 10) -> None:
        """Waits until its caller has gone."""
        assert self._process is not None
        self._process.wait(timeout_s)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
