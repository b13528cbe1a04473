"""Is a QuPath running on this machine? It would overwrite our writes at its next save."""

from __future__ import annotations

import psutil

from ..errors import ProtectedError


def running_qupath() -> list[int]:
    """Process numbers of every QuPath on this machine; other machines cannot be seen."""
    found = []
    for process in psutil.process_iter(["pid", "name", "exe"]):
        name = (process.info["name"] or "").lower()
        exe = (process.info["exe"] or "").replace("\\", "/").rsplit("/", 1)[-1].lower()
        # The launcher is called QuPath on Linux and macOS, QuPath-0.6.0.exe on Windows.
        if name.startswith("qupath") or exe.startswith("qupath"):
            found.append(int(process.info["pid"]))
    return found


def refuse_while_qupath_runs(*, allow: bool) -> None:
    """Refuse to write while a QuPath runs, unless the person says otherwise.

    Raises:
        ProtectedError: a QuPath is running and ``allow`` is false.
    """
    if allow:
        return
    pids = running_qupath()
    if pids:
        msg = (
            f"QuPath is running on this machine (process {', '.join(map(str, pids))}). It neither "
            "reloads nor warns: an image that is open there would overwrite this write at its next "
            "save. Close QuPath, or give --while-qupath-runs if this project is not open in it."
        )
        raise ProtectedError(msg)
