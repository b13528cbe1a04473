"""``detect`` typed on the walked project, and what it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from glombridge.cli import main
from glombridge.qupath import NativeStore


def run(*arguments: object) -> int:
    return int(main([str(a) for a in arguments]))


def detected(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> Any:
    capsys.readouterr()
    assert run("detect", *arguments, "--json") == code, capsys.readouterr().err
    out = capsys.readouterr().out
    return json.loads(out) if out else None


def contents(folder: Path) -> dict[str, Any]:
    """The bytes of every file of a run; of the manifest all but when and under which name."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if path.name == "manifest.json":
            document = json.loads(path.read_text("utf-8"))
            found[path.name] = {k: v for k, v in document.items() if k not in ("finished", "run")}
        else:
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def weights_of(project: Path) -> Path:
    return project / "glombridge" / "runs" / "train-001" / "weights" / "best.pt"


def entries_of(project: Path) -> dict[str, Any]:
    return {e.name: e for e in NativeStore.open(project).images()}


def slides_of(project: Path) -> list[Path]:
    return sorted((project.parent / "slides").glob("*.tif"))
