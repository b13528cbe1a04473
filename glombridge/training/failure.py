"""Why a training ended: what torch and the machine say, in words with a way out.

A training on several GPUs runs in processes of ultralytics' launcher, of which the caller only gets
an exit code. What they know is left in the run's folder for it.
"""

from __future__ import annotations

import json
from pathlib import Path

from .. import errors
from ..errors import GlombridgeError, MachineError
from ..ledger.manifest import write_json
from ..ledger.unfinished import WORK
from .checkpoint import STATE
from .device_errors import device_failed, is_device_failure, is_out_of_memory

FILE = "failure.json"

_NO_ROOM = ("No space left", "PytorchStreamWriter", "Disk quota exceeded")


def explained(
    error: Exception, *, batch: int, device: str, n_devices: int, run: Path
) -> GlombridgeError | None:
    """An error of a training as one of ours; ``None`` where nothing better is known.

    Args:
        error: what was raised.
        batch: tiles per step, over all devices; below 1 where that was still being measured.
        device: as ultralytics names it.
        n_devices: that share the batch.
        run: folder of the run.
    """
    if isinstance(error, GlombridgeError):
        return error
    if isinstance(error, OSError):
        return MachineError(
            f"training stopped: {error}. Free space on the disk that holds {run} and go on with --resume."
        )
    # torch raises the second of GPUs that are not there any more, ultralytics the third.
    if not isinstance(error, (RuntimeError, AssertionError, ValueError)):
        return None
    if is_device_failure(error):
        return device_failed(device, error, _kept(run))
    if not isinstance(error, RuntimeError):
        return None
    if is_out_of_memory(error):
        return out_of_memory(batch, device, n_devices)
    if any(words in str(error) for words in _NO_ROOM):
        return MachineError(
            f"training could not write to {run}: {error}. Free space, then --resume."
        )
    return None


def _kept(run: Path) -> str:
    if (run / WORK / STATE).is_file():
        return (
            f"What {run.name} learnt up to its last finished epoch is kept: go on with --resume, or with "
            "--resume and another --device."
        )
    return "No epoch was finished, so nothing is kept: train again, or on another --device."


def out_of_memory(batch: int, device: str, n_devices: int) -> MachineError:
    """What to say when memory ran out, and which batch to try."""
    # What devices share stays a multiple of their number.
    smaller = batch // 2 // n_devices * n_devices
    if smaller >= 1:
        return MachineError(f"out of memory on {device} with batch {batch}. Try --batch {smaller}.")
    each = " each" if n_devices > 1 else ""
    return MachineError(
        f"out of memory on {device} with a single tile{each}. Use a smaller --model, smaller tiles, or "
        "another --device."
    )


def keep_failure(work: Path, error: GlombridgeError) -> None:
    """Leave word for the process that started this one."""
    write_json(work / FILE, {"error": type(error).__name__, "message": str(error)})


def kept_failure(work: Path) -> GlombridgeError | None:
    """What a process of ours left, if it could say anything."""
    try:
        told = json.loads((work / FILE).read_text("utf-8"))
        kind, message = getattr(errors, told["error"]), str(told["message"])
    except (OSError, AttributeError, KeyError, TypeError, ValueError):
        return None
    made: GlombridgeError = kind(message)
    return made


def forget_failure(work: Path) -> None:
    """Before a new attempt."""
    (work / FILE).unlink(missing_ok=True)
