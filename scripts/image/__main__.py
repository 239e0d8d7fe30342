"""`python3 -m scripts.image FOLDER`: builds the image in a new folder, says how big it is, records a page."""

import argparse
import http.server
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.image import rootfs
from scripts.image.dockerfile import Stage, parse

ROOT = Path(__file__).parents[2]
NEEDED = ("debootstrap", "unshare", "npm")
DOCKERFILE = ROOT / "deploy" / "Dockerfile"

PAGE = """<!doctype html><title>image</title><style>body { margin: 0 }</style>
<canvas id=c width=1280 height=720></canvas><script>
const g = c.getContext("2d"); let n = 0
setInterval(() => { g.fillStyle = `hsl(${n += 7}, 80%, 50%)`; g.fillRect(0, 0, 1280, 720) }, 33)
const a = new AudioContext(), o = a.createOscillator(); o.connect(a.destination); o.start()
</script>"""

PROBE = """
import av, sys
with av.open(sys.argv[1]) as file:
    video, audio = file.streams.video[0], file.streams.audio[0]
    frames, pictures, loudest = 0, set(), 0.0
    for frame in file.decode(video, audio):
        if isinstance(frame, av.VideoFrame):
            frames += 1
            pictures.add(tuple(bytes(plane)[plane.buffer_size // 4 + 99] for plane in frame.planes))
        else:
            loudest = max(loudest, float(abs(frame.to_ndarray()).max()))
print(f"{video.width}x{video.height} {frames} frames, {len(pictures)} colours, loudest {loudest:.2f}")
sys.exit(not (frames > 40 and len(pictures) > 5 and loudest > 0.05))
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m scripts.image", description=__doc__)
    parser.add_argument("folder", type=Path, help="is made, and removed again unless --keep")
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        raise SystemExit(f"not found: {', '.join(missing)}; apt-get install debootstrap util-linux npm")
    folder: Path = arguments.folder.absolute()
    folder.mkdir(parents=True)
    try:
        *_, stage = stages = parse(DOCKERFILE.read_text())
        image = build(stages, folder)
        base = rootfs.Rootfs(folder / stage.image.replace(":", "-"))
        print(f"image: {image.mib():.0f} MiB, {base.mib():.0f} of them {stage.image}")
        print(f"largest files, MiB: {biggest(image.root)}")
        attempt(image, stage)
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"exit status {error.returncode} of {error.cmd[-1]}") from None
    finally:
        if not arguments.keep:
            shutil.rmtree(folder)


def build(stages: list[Stage], folder: Path) -> rootfs.Rootfs:
    host = rootfs.Host.gathered(folder / "host")
    ignore = (DOCKERFILE.parent / f"{DOCKERFILE.name}.dockerignore").read_text().split()
    built: dict[str, rootfs.Rootfs] = {}
    for number, stage in enumerate(stages):
        base = folder / stage.image.replace(":", "-")
        if not base.exists():
            rootfs.base(stage.image, base, host)
        name = stage.name or str(number)
        root = folder / name
        subprocess.run(["cp", "-a", "--reflink=auto", base, root], check=True)
        built[name] = rootfs.Rootfs(root)
        rootfs.build(stage, built[name], ROOT, ignore, built, host)
    return built[name]


def biggest(root: Path, count: int = 12) -> str:
    """Where to look first when it has grown."""
    sizes = {
        path.stat().st_ino: (path.stat().st_size, path)
        for folder, _, names in os.walk(root)
        for path in (Path(folder, name) for name in names)
        if path.is_file() and not path.is_symlink()
    }
    top = sorted(sizes.values(), reverse=True)[:count]
    return ", ".join(f"{path.name} {size / 2**20:.0f}" for size, path in top)


def attempt(image: rootfs.Rootfs, stage: Stage) -> None:
    """What a user would do first, as the image's user and through its entry point."""
    entry = stage.last("ENTRYPOINT").words()
    image.run([*entry, "--help"], capture=True)
    print(image.run([*entry, "--version"], capture=True).stdout.strip())
    with page() as url:
        told = image.run([*entry, "doctor"], timeout_s=120, capture=True, check=False).stdout
        print(told, end="")
        wrong = [line for line in told.splitlines() if line.startswith("[FAIL]") and "LiveKit" not in line]
        if wrong or "[  ok] browser" not in told:
            raise SystemExit("doctor finds something wrong")
        image.run([*entry, "record", "--duration", "5s", url, "/out/page.mp4"], timeout_s=120)
    image.run(["/opt/openegress/bin/python", "-c", PROBE, "/out/page.mp4"], timeout_s=60)


@contextmanager
def page() -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(PAGE.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


if __name__ == "__main__":
    main()
