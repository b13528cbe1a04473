"""Every command block of the documentation is typed here, as it stands, in one shell per document.

A block runs in the order it stands in, in a folder of its own that holds what its document says its
reader has: a set-up project where the words PROJECT or SLIDE stand. A block that cannot run here
says so to its reader in a comment above it, `<!-- not run: reason -->`, and is counted.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from glombridge.cli.registry import cli

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)```", re.DOTALL
)
SHELL = {"sh", "bash", "console", "shell"}


@dataclass(frozen=True)
class Block:
    document: Path
    line: int
    text: str
    reason: str | None


def blocks(document: Path) -> list[Block]:
    """The command blocks of a document."""
    text = document.read_text("utf-8")
    return [
        Block(document, text[: m.start()].count("\n") + 1, m["text"], m["reason"])
        for m in _FENCE.finditer(text)
        if m["language"] in SHELL
    ]


RUN = {d: [b for b in blocks(d) if b.reason is None] for d in DOCUMENTS}


@pytest.mark.parametrize(
    "document", [d for d in DOCUMENTS if RUN[d]], ids=lambda d: str(d.relative_to(ROOT))
)
def test_every_command_block_does_what_it_says(
    document: Path, project: Path, tmp_path: Path
) -> None:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "GLOMBRIDGE_CONFIG_DIR": str(tmp_path / "configuration"),
    }
    folder = tmp_path / "here"
    folder.mkdir()
    slides = sorted((project.parent / "slides").glob("*.tif"))
    words = {
        "PROJECT": str(project),
        "SLIDE": str(slides[0]),
        "IMAGE": slides[0].name,
        "ROOT": str(ROOT),
    }
    for block in RUN[document]:
        script = re.sub(r"\b[A-Z]+\b", lambda m: words.get(m[0], m[0]), block.text)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
        where = f"{document.relative_to(ROOT)}, line {block.line}"
        assert done.returncode == 0, f"{where}:\n{script}\n{done.stdout}\n{done.stderr}"


def test_commands_named_in_the_documents_exist() -> None:
    for document in DOCUMENTS:
        for name in re.findall(r"`(?:glombridge )([a-z-]+)", document.read_text("utf-8")):
            assert name in cli.commands, f"{document.name} names 'glombridge {name}'"


def test_every_command_has_a_row_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    missing = [name for name in cli.commands if f"| `{name}" not in text]
    assert not missing


def test_python_blocks_run(project: Path, tmp_path: Path) -> None:
    for document in DOCUMENTS:
        for m in _FENCE.finditer(document.read_text("utf-8")):
            if m["language"] != "python" or m["reason"]:
                continue
            code = m["text"].replace('"PROJECT"', json.dumps(str(project)))
            done = subprocess.run(
                [sys.executable, "-c", code],
                cwd=tmp_path,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{document.name}:\n{code}\n{done.stderr}"
