"""Work that tests give to workers."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from glombridge.errors import InputError
from glombridge.scale import Tell

VERSION = "GLOMBRIDGE_TEST_VERSION"


def double(value: int, tell: Tell) -> int:
    for step in range(3):
        tell(step, 3)
    return 2 * value


def refuse_odd(value: int, _: Tell) -> int:
    if value % 2:
        msg = f"{value} is odd"
        raise InputError(msg)
    return value


def rest(value: tuple[Path, float], tell: Tell) -> int:
    """Say which process it is, and take a while."""
    note, seconds = value
    with note.open("a") as file:
        file.write(f"{os.getpid()}\n")
    end = time.monotonic() + seconds
    word = "stopped"
    try:
        while time.monotonic() < end:
            tell(0, 1)
            time.sleep(0.01)
        word = "done"
    finally:
        with note.open("a") as file:
            file.write(f"{word}\n")
    return os.getpid()


def die_at(value: tuple[int, int], _: Tell) -> int:
    """One number ends the worker."""
    number, deadly = value
    time.sleep(0.02)
    if number == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def version_here() -> dict[str, str]:
    return {"some library": os.environ.get(VERSION, "1.0")}
