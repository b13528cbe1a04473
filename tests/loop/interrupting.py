"""A command line in a process that is sent a signal at a given moment, counted in function calls.

python interrupting.py MOMENT SIGNAL COUNTS COMMAND...
    MOMENT 0 sends none, and writes the number of calls, and at which of them a file was put in place,
    to the file COUNTS.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from glombridge.__main__ import run
from glombridge.cli import main, registry  # noqa: F401 - loaded before calls are counted
from glombridge.ledger import running_qupath


def interrupted(moment: int, number: int, counts: str) -> None:
    running_qupath.running_qupath = list
    count, placed = 0, []

    def profile(_frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        if event in ("call", "c_call"):
            count += 1
            if argument is os.replace:
                placed.append(count)
            if count == moment:
                os.kill(os.getpid(), number)

    sys.setprofile(profile)
    try:
        run()
    finally:
        sys.setprofile(None)
        if not moment:
            with open(counts, "w", encoding="utf-8") as file:  # noqa: PTH123
                json.dump({"calls": count, "placed": placed}, file)


if __name__ == "__main__":
    _moment, _number, _counts, *_command = sys.argv[1:]
    sys.argv = ["glombridge", *_command]
    interrupted(int(_moment), int(_number), _counts)
