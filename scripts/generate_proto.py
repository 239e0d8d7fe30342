"""Generates openegress/proto/*_pb2.py from proto/*.proto, and livekit.binpb from proto/livekit.

proto/livekit is LiveKit's protocol v1.54.0 (Go module github.com/livekit/protocol), newer than any wheel.

LiveKit's own messages come from the livekit-protocol wheel: its file descriptors are handed to protoc,
and the generated imports are pointed at its modules, so that no message is registered twice.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import grpc_tools
from google.protobuf import any_pb2, descriptor_pb2
from google.protobuf.descriptor import FileDescriptor
from livekit.protocol import egress

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "src" / "openegress" / "proto"


def descriptor_set(*roots: FileDescriptor) -> bytes:
    """All files the roots need, dependencies first."""
    seen: dict[str, FileDescriptor] = {}

    def visit(file: FileDescriptor) -> None:
        for dependency in file.dependencies:
            visit(dependency)
        seen.setdefault(file.name, file)

    for root in roots:
        visit(root)
    files = descriptor_pb2.FileDescriptorSet()
    for file in seen.values():
        proto = files.file.add()
        file.CopyToProto(proto)
    return files.SerializeToString()


def main() -> None:
    egress_name = egress.DESCRIPTOR.name
    with tempfile.TemporaryDirectory() as folder:
        descriptors = Path(folder) / "livekit.binpb"
        descriptors.write_bytes(descriptor_set(egress.DESCRIPTOR, any_pb2.DESCRIPTOR))
        for source in sorted((ROOT / "proto").glob("*.proto")):
            text = source.read_text().replace('import "egress.proto"', f'import "{egress_name}"')
            (Path(folder) / source.name).write_text(text)
        files = sorted(path.name for path in Path(folder).glob("*.proto"))
        command = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={descriptors}"]
        subprocess.run(
            [*command, f"-I{folder}", f"--python_out={OUT}", f"--pyi_out={OUT}", *files], check=True
        )
    for generated in [*OUT.glob("*_pb2.py"), *OUT.glob("*_pb2.pyi")]:
        text = generated.read_text()
        text = re.sub(
            r"^import livekit_(\w+)_pb2 as (\w+)$", r"from livekit.protocol import \1 as \2", text, flags=re.M
        )
        generated.write_text(text)
    describe_livekit()


def describe_livekit() -> None:
    """Not as modules: their messages have the names of the wheel's, and live in a pool of their own."""
    included = Path(grpc_tools.__file__).parent / "_proto"
    folder = ROOT / "proto" / "livekit"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", f"-I{included}"]
    out = f"--descriptor_set_out={OUT / 'livekit.binpb'}"
    subprocess.run([*command, "--include_imports", out, "livekit_egress.proto"], check=True)


if __name__ == "__main__":
    main()
