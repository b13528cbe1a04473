"""Ctrl-C and SIGTERM at any moment of a command that writes: one line, its exit code, nothing half."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from caught import Started, caught
from dask_processes import wait_until
from walked_copy import copy_of

from glombridge.cli import main
from glombridge.demo.run import DemoResult
from glombridge.ledger import Ledger
from glombridge.qupath import NativeStore

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
MOMENTS = 4


def typed(moment: int, number: int, counts: Path, *command: object) -> Any:
    return subprocess.run(
        [
            sys.executable,
            HERE / "interrupting.py",
            *map(str, (moment, int(number), counts, *command)),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def objects(project: Path) -> dict[int, Any]:
    store = NativeStore.open(project)
    return {e.id: {o.id: o for o in store.read(e.id).objects} for e in store.images()}


def is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def pulled(project: Path) -> dict[str, bytes]:
    newest = max((project / "glombridge" / "pulls").glob("pull-*"))
    return {p.name: p.read_bytes() for p in newest.glob("*.geojson")}


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(words, id=words[0])
        for words in (
            ("pull",),
            ("queue", "--strategy", "random"),
            ("push", "--min-confidence", "0.6"),
            ("withdraw", "--run", "detect-001"),
            ("undo",),
        )
    ],
)
def test_at_random_moments(project: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    name, *options = command
    before = objects(project)
    whole, counts = tmp_path / "whole", tmp_path / "counts.json"
    shutil.copytree(project, whole)
    done = typed(0, 0, counts, name, whole, *options, "-q")
    assert done.returncode == 0, done.stderr
    expected = objects(whole)
    told = json.loads(counts.read_text("utf-8"))
    calls, placed = told["calls"], told["placed"]
    r = random.Random(name)
    ended = []
    for k in range(MOMENTS):
        number = list(CODES)[k // 2 % 2]
        low, high = (1, calls) if k % 2 else (placed[0] - 500, placed[-1] + 500)
        moment = r.randrange(max(1, low), min(high, calls))
        copy = tmp_path / str(k)
        shutil.copytree(project, copy)
        done = typed(moment, number, counts, name, copy, *options, "-q")
        where = f"call {moment} of {calls}: {done.stderr}"
        # A signal may come when all is done but the end.
        assert done.returncode in (CODES[number], 0), where
        ended.append(done.returncode)
        assert "Traceback" not in done.stderr, where
        if done.returncode:
            assert done.stderr.strip() == "interrupted", where
        # Each image is as before or as after.
        for image, found in objects(copy).items():
            assert found in (before[image], expected[image]), where
        # Given again it comes to the same.
        assert main([name, str(copy), *options, "-q"]) == 0, where
        assert objects(copy) == expected, where
        if name == "pull":
            assert pulled(copy) == pulled(whole)
        with Ledger.open(copy / "glombridge") as ledger:
            assert ledger.open_writes() == []
        assert not list(copy.rglob("*.tmp"))
    assert any(ended)


@pytest.mark.parametrize(
    ("command", "begun", "number"),
    [
        pytest.param(
            ("tile", "--size", "120x120", "--overlap", "0.8"),
            "datasets/.tiles-*",
            signal.SIGINT,
            id="tile",
        ),
        pytest.param(
            ("train", "--epochs", "50"), "runs/train-002/work/state.pt", signal.SIGTERM, id="train"
        ),
        pytest.param(
            ("detect", "--include-test", "--flips", "--batch", "1"),
            "detections/*.partial/.work/plan.json",
            signal.SIGTERM,
            id="detect",
        ),
        pytest.param(
            ("detect", "--include-test", "--flips", "--batch", "1", "--device", "cpu,cpu"),
            "detections/*.partial/.work/0*.json",
            signal.SIGINT,
            id="detect-in-processes",
        ),
        pytest.param(
            ("evaluate",), "runs/train-001/evaluation/*.parquet", signal.SIGINT, id="evaluate"
        ),
        pytest.param(("round",), "runs/train-002/work/plan.json", signal.SIGTERM, id="round"),
    ],
)
def test_in_the_middle_of_the_long_ones(
    walked: DemoResult, tmp_path: Path, command: tuple[str, ...], begun: str, number: signal.Signals
) -> None:
    name, *options = command

    def start(attempt: int) -> Started:
        project = copy_of(walked, tmp_path / str(attempt))
        shutil.rmtree(project / "glombridge" / "runs" / "train-001" / "evaluation")
        # In a session of its own: as in a terminal, Ctrl-C goes to all of its processes.
        process = subprocess.Popen(
            [sys.executable, "-m", "glombridge", name, project, *options, "-q"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        return Started(process, lambda: any((project / "glombridge").glob(begun)))

    def strike(process: subprocess.Popen[bytes]) -> None:
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)

    moment = random.Random(f"{command} {number}").uniform(0, 0.5)
    attempt, process, told = caught(start, strike, moment)
    project = tmp_path / str(attempt) / "project"
    assert process.returncode == CODES[number], told
    assert told.strip().splitlines()[-1] == "interrupted"
    assert "Traceback" not in told
    assert objects(project) == objects(walked.project_file.parent)
    wait_until(lambda: not is_alive(process.pid))  # nothing that it began is left
    if name != "train":  # 50 epochs
        assert main([name, str(project), *options, "-q"]) == 0
    assert main(["status", str(project)]) == 0


@pytest.mark.parametrize("number", list(CODES))
def test_while_a_class_is_made_from_a_string(tmp_path: Path, number: signal.Signals) -> None:
    """As dataclasses and named tuples are while a library is loaded; CPython remembers that."""
    (tmp_path / "ending.py").write_text(
        "import os\n"
        "from glombridge.__main__ import run\n"
        "from glombridge.cli.registry import cli\n"
        "@cli.command()\n"
        "def ending():\n"
        f"    exec('os.kill(os.getpid(), {int(number)})\\nfor _ in range(10**6): pass')\n"
        "run()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "ending", "ending"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(tmp_path)))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.strip()) == (CODES[number], "interrupted")


def test_while_a_library_in_c_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As pybind11 does it: scipy's solver was being imported when the signal came."""

    def load(*_: object, **__: object) -> None:
        msg = "initialization failed"
        raise ImportError(msg) from KeyboardInterrupt()

    monkeypatch.setattr("glombridge.steps.status.status", load)
    assert main(["status", "project"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_while_it_loads(tmp_path: Path) -> None:
    """Before there is a command line that could say anything."""
    script = (
        "import os, signal, sys, builtins\n"
        "load = builtins.__import__\n"
        "def interrupted(name, *given, **options):\n"
        "    if name == 'click':\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return load(name, *given, **options)\n"
        "builtins.__import__ = interrupted\n"
        "from glombridge.__main__ import run\n"
        "run()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.strip()) == (130, "interrupted")
