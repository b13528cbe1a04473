"""kill -9 at random moments of ``queue`` and ``copy``: each file whole or not there, and the same again."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from test_interrupted_commands import objects, typed

from glombridge.cli import main
from glombridge.ledger import Ledger

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills by a POSIX signal")
KILLS = 3


def moments(placed: list[int], name: str) -> list[int]:
    """Between the first and the last file put in place."""
    r = random.Random(name)
    return [r.randrange(placed[0] - 300, placed[-1]) for _ in range(KILLS)]


def test_queue(project: Path, tmp_path: Path) -> None:
    words = ("queue", "--strategy", "random", "-q")
    before, whole, counts = objects(project), tmp_path / "whole", tmp_path / "counts"
    shutil.copytree(project, whole)
    assert typed(0, 0, counts, words[0], whole, *words[1:]).returncode == 0
    told: Any = json.loads(counts.read_text("utf-8"))
    expected = objects(whole)
    assert expected != before
    for k, moment in enumerate(moments(told["placed"], "queue")):
        copy = tmp_path / str(k)
        shutil.copytree(project, copy)
        done = typed(moment, signal.SIGKILL, counts, words[0], copy, *words[1:])
        assert done.returncode == -signal.SIGKILL
        for image, found in objects(copy).items():
            assert found in (before[image], expected[image])
        # Whatever comes next settles it.
        if k % 2:
            assert main(["pull", str(copy), "-q"]) == 0
        assert main([words[0], str(copy), *words[1:]]) == 0
        assert objects(copy) == expected
        with Ledger.open(copy / "glombridge") as ledger:
            assert ledger.open_writes() == []
        assert not list(copy.rglob("*.tmp"))


def test_copy(project: Path, tmp_path: Path) -> None:
    words = ("copy", project, "--reader", "anna", "-q", "--out")
    whole, counts = tmp_path / "whole", tmp_path / "counts"
    assert typed(0, 0, counts, *words, whole).returncode == 0
    expected = objects(whole)
    told: Any = json.loads(counts.read_text("utf-8"))
    before = objects(project)
    for k, moment in enumerate(moments(told["placed"], "copy")):
        out = tmp_path / str(k)
        done = typed(moment, signal.SIGKILL, counts, *words, out)
        assert done.returncode == -signal.SIGKILL
        assert objects(project) == before
        # What it left is hidden beside the copy, and goes with the same command.
        assert [p.name.startswith(f".{k}.") for p in tmp_path.glob(f"*{k}*")] == [True]
        assert main([*map(str, words), str(out)]) == 0
        assert list(tmp_path.glob(f"*{k}*")) == [out]
        assert objects(out) == expected
