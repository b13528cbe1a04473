"""Commands that a signal ends in the middle of what they do.

How long a command takes is a matter of the machine. Where it was done before the signal came, that
says nothing: it is given anew, and the signal is sent sooner.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import NamedTuple

import pytest

TRIES = 6
PATIENCE_SECONDS = 120


class Started(NamedTuple):
    process: subprocess.Popen[bytes]
    is_begun: Callable[[], bool]
    """Whether it is in the middle of what it does."""


class Caught(NamedTuple):
    attempt: int
    """From 0; each starts from something fresh."""
    process: subprocess.Popen[bytes]
    told: str
    """What it wrote to stderr, where that is a pipe."""


def caught(
    start: Callable[[int], Started],
    strike: Callable[[subprocess.Popen[bytes]], None],
    seconds: float = 0.0,
) -> Caught:
    """Start a command, and strike when it has begun and some seconds have gone by.

    It may end with any code but 0; which one is for the test to judge.
    """
    for attempt in range(TRIES):
        process, is_begun = start(attempt)
        end = time.monotonic() + PATIENCE_SECONDS
        while process.poll() is None and not is_begun():
            assert time.monotonic() < end, "it did not begin"
            time.sleep(0.002)
        last = attempt == TRIES - 1
        time.sleep(0 if last else seconds / 2**attempt)
        if process.poll() is None:
            strike(process)
        told = process.communicate(timeout=PATIENCE_SECONDS)[1]
        if process.returncode != 0:
            return Caught(attempt, process, (told or b"").decode())
    return pytest.fail(f"{TRIES} times it was done before the signal came")
