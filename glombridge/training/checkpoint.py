"""Where an interrupted training stands: everything needed to go on as if nothing had happened.

ultralytics' own checkpoint holds the averaged weights and the optimizer in half precision and not
the trained weights at all, so what it resumes is another training. This one holds each in full. It
is plain tensors and numbers, read with ``weights_only``: no program runs when it is loaded.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DamagedFileError
from ..ledger.manifest import write_json
from ..ledger.unfinished import PROGRESS

STATE = "state.pt"


def save_state(folder: Path, state: Mapping[str, Any], best: Mapping[str, Any] | None) -> None:
    """Write the state after an epoch, completely or not at all.

    Args:
        folder: of the unfinished run.
        state: with ``epoch`` and ``best_epoch``.
        best: the averaged weights, if this epoch is the best so far.
    """
    if best is not None:
        # Named by its epoch: were it written over the last one, a kill between the two files would
        # leave the best weights of an epoch that has not been.
        _write(folder / _best(state["epoch"]), best)
    _write(folder / STATE, state)
    # The same for those who must not load torch to ask.
    write_json(folder / PROGRESS, {"epochs_done": state["epoch"] + 1})
    for path in folder.glob("best-*.pt"):
        if path.name != _best(state["best_epoch"]):
            path.unlink(missing_ok=True)


def load_state(folder: Path, *, peek: bool = False) -> dict[str, Any] | None:
    """The state of an unfinished run, ``None`` if not one epoch was finished.

    Args:
        folder: of the run.
        peek: only numbers and texts are looked at; tensors stay on disk. Let go of it before the next
            state is written.

    Raises:
        DamagedFileError: the file cannot be read.
    """
    path = folder / STATE
    return _read(path, peek=peek) if path.is_file() else None


def load_best(folder: Path, epoch: int) -> dict[str, Any]:
    """The averaged weights of the best epoch.

    Raises:
        DamagedFileError: they are not there or cannot be read.
    """
    return _read(folder / _best(epoch))


def _best(epoch: int) -> str:
    return f"best-{epoch + 1:04d}.pt"


def _write(path: Path, document: Mapping[str, Any]) -> None:
    import torch

    draft = path.with_suffix(".tmp")
    with draft.open("wb") as file:
        torch.save(dict(document), file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _read(path: Path, *, peek: bool = False) -> dict[str, Any]:
    import torch

    try:
        document: dict[str, Any] = torch.load(
            path, map_location="cpu", weights_only=True, mmap=peek
        )
    except Exception as error:  # a damaged archive can fail in any way
        msg = f"{path} cannot be read, so this training cannot go on: {error}. Train anew."
        raise DamagedFileError(msg) from error
    return document
