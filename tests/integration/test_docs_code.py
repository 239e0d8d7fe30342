"""Code in the documentation that other languages' own tools can read."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from testkit.markdown import PAGES, ROOT, Block, blocks
from testkit.node_packages import install

CHECKS = {"js": ("snippet.mjs", ["node", "--check"]), "go": ("snippet.go", ["gofmt", "-l", "-e"])}
SNIPPETS = [block for block in blocks(PAGES) if block.language in CHECKS]


@pytest.mark.parametrize("block", SNIPPETS, ids=str)
def test_it_can_be_parsed(block: Block, tmp_path: Path) -> None:
    """Go's is formatted as well: gofmt lists what it would change."""
    name, command = CHECKS[block.language]
    path = tmp_path / name
    path.write_text(block.text)
    done = subprocess.run([*command, path], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_scripts_of_pages_can_be_parsed(tmp_path: Path) -> None:
    scripts = [
        script
        for block in blocks(PAGES)
        if block.language == "html"
        for script in re.findall(r'<script type="module">(.*?)</script>', block.text, re.DOTALL)
    ]
    assert scripts
    for script in scripts:
        path = tmp_path / "script.mjs"
        path.write_text(script)
        done = subprocess.run(["node", "--check", path], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


SDK = "livekit-server-sdk"
KNOWN = f"""declare const client: import("{SDK}").EgressClient;
declare const rooms: import("{SDK}").RoomServiceClient;
declare const egressId: string;
declare const EncodedFileOutput: typeof import("{SDK}").EncodedFileOutput;
"""
"""What an example of a few lines takes for granted."""
COMPILER = {
    "allowJs": True,
    "checkJs": True,
    "lib": ["ES2023", "DOM"],
    "module": "ESNext",
    "moduleDetection": "force",
    "moduleResolution": "bundler",
    "noEmit": True,
    "skipLibCheck": True,
    "strict": True,
    "target": "ES2023",
    "types": [],
}


def test_the_node_sdk_has_what_the_examples_use(tmp_path: Path) -> None:
    """By its own types: methods, their arguments and the fields of what is sent."""
    home = install(ROOT / "tools" / "conformance-node", SDK)
    (tmp_path / "node_modules").symlink_to(home / "node_modules")
    (tmp_path / "known.d.ts").write_text(KNOWN)
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": COMPILER}))
    places = {}
    for number, block in enumerate(blocks(PAGES)):
        if block.language == "js" and ("client." in block.text or "rooms." in block.text):
            name = f"snippet{number}.js"
            (tmp_path / name).write_text(block.text)
            places[name] = str(block)
    assert places
    compiler = install(ROOT / "web", "typescript") / "node_modules" / ".bin" / "tsc"
    done = subprocess.run([compiler, "-p", tmp_path], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), (done.stdout, places)


def test_there_is_a_snippet_of_each() -> None:
    assert {block.language for block in SNIPPETS} == set(CHECKS)
