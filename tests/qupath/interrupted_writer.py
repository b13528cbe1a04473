"""Write to a project again and again, each time in a process of its own that is interrupted.

    python interrupted_writer.py PROJECT FOLDER MODE

Step by step, the project is copied to ``FOLDER/K`` and the write of :func:`write` is run there in a
forked process that is interrupted at its K-th access to the file system, until one comes to its
end. Prints one JSON list: for each copy the step's name, the exit status, the images whose write had
returned, and the error, if any.

Modes: ``kill`` (SIGKILL), ``full`` and ``denied`` (the access fails), and ``cut`` (the kernel ends
the process in the middle of writing a file, each time after a few hundred bytes more).
"""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qupath_golden import an_object

from glombridge.errors import MachineError
from glombridge.qupath import HierarchyEdit, NativeStore

WATCHED = {
    "open", "os.chmod", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.scandir",
}  # fmt: skip
WRITTEN, MACHINE_ERROR, OTHER_ERROR = 0, 10, 11
ERRORS = {"full": errno.ENOSPC, "denied": errno.EACCES}


def write(folder: Path) -> Iterator[int]:
    """The write that is interrupted: one more object in each image. Gives those that are done."""
    store = NativeStore.open(folder / "project.qpproj")
    for entry in store.images()[:2]:
        store.write(
            entry.id,
            HierarchyEdit(add=(an_object(f"interrupted {entry.id}"),)),
            expected=store.read(entry.id).stamp,
            snapshot_folder=folder / "kept",
        )
        yield entry.id


def interrupt_at(step: int, folder: Path, mode: str, pipe: int) -> None:
    count = 0

    def passed(name: str) -> None:
        nonlocal count
        count += 1
        if count != step:
            return
        os.write(pipe, f"step {name}\n".encode())
        if mode == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(ERRORS[mode], os.strerror(ERRORS[mode]))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in WATCHED and str(arguments[0]).startswith(str(folder)):
            passed(f"{event} {Path(str(arguments[0])).name}")

    real_fsync = os.fsync

    def fsync(handle: int) -> None:
        passed("fsync")
        real_fsync(handle)

    os.fsync = fsync
    sys.addaudithook(hook)


def run(step: int, folder: Path, mode: str, pipe: int) -> int:
    if mode == "cut":
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300 * step, 300 * step))
    else:
        interrupt_at(step, folder, mode, pipe)
    try:
        for image in write(folder):
            os.write(pipe, f"done {image}\n".encode())
    except MachineError as error:
        os.write(pipe, f"error {error}".encode())
        return MACHINE_ERROR
    except Exception:  # noqa: BLE001 (told to the test)
        os.write(pipe, f"error {traceback.format_exc()}".encode())
        return OTHER_ERROR
    return WRITTEN


def main(project: str, out: str, mode: str) -> None:
    warm = Path(out) / "0"
    shutil.copytree(project, warm)
    list(write(warm))  # so that nothing is imported later
    found = []
    for step in range(1, 500):
        folder = Path(out) / str(step)
        shutil.copytree(project, folder)
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(ours)
            os._exit(run(step, folder, mode, theirs))
        os.close(theirs)
        with os.fdopen(ours) as file:
            text, _, error = file.read().partition("error ")
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        lines = [line.split(" ", 1) for line in text.splitlines()]
        name = next((value for key, value in lines if key == "step"), "")
        done = [int(value) for key, value in lines if key == "done"]
        found.append({"step": name, "code": code, "done": done, "error": error})
        if code == WRITTEN and not name:
            break
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
