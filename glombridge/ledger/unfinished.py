"""Trainings that were begun and not finished, from small files: ``status`` asks, and never loads torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

WORK = "work"
"""Folder in a run, there until it is finished."""
PLAN = "plan.json"
PROGRESS = "progress.json"
LOCK = "lock"


@dataclass(frozen=True)
class UnfinishedTraining:
    """A training without an end.

    Attributes:
        folder: of the run.
        plan: what was asked for.
        epochs_done: of which the state is kept; one less than that where a kill came between the two.
        epochs: at most.
        is_running: a process is at it now.
    """

    folder: Path
    plan: Mapping[str, Any]
    epochs_done: int
    epochs: int
    is_running: bool

    def text(self, project: Path) -> str:
        """What a user should know, with the way on."""
        name, done = self.folder.name, self.epochs_done
        if self.is_running:
            return f"training {name} is running: {done} of at most {self.epochs} epochs are done"
        when = f"after epoch {done} of {self.epochs}" if done else "in its first epoch"
        return f"training {name} was interrupted {when}; go on with: glombridge train {project} --resume"

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "run": self.folder.name,
            "epochs_done": self.epochs_done,
            "epochs": self.epochs,
            "is_running": self.is_running,
        }


def is_unfinished(run: Path) -> bool:
    """Whether a run was begun and has no manifest."""
    return (run / WORK / PLAN).is_file() and not (run / "manifest.json").is_file()


def is_later(run: Path, other: Path) -> bool:
    """Whether a run was begun after another."""
    return _number(run) > _number(other)


def newest_unfinished(runs: Path) -> UnfinishedTraining | None:
    """The training that ``--resume`` goes on with, if there is one.

    Args:
        runs: folder of the project's training runs.
    """
    begun = [p for p in runs.iterdir() if is_unfinished(p)] if runs.is_dir() else []
    if not begun:
        return None
    newest = max(begun, key=_number)
    work = newest / WORK
    plan = _read(work / PLAN)
    epochs = plan.get("options", {}).get("epochs", 0)
    done = _read(work / PROGRESS).get("epochs_done", 0)
    return UnfinishedTraining(newest, plan, int(done), int(epochs), _is_held(work / LOCK))


def _number(run: Path) -> tuple[int, str]:
    return len(run.name), run.name  # train-1000 comes after train-999


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}  # going on with it says what is wrong
    return document if isinstance(document, dict) else {}


def _is_held(path: Path) -> bool:
    if not path.is_file():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:
        return False  # somebody else's project, which may only be read
    lock.release()
    return False
