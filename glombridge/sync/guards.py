"""What a command that writes into a QuPath project is held back by, and what of it somebody lifts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Guards:
    """How careful a command is with the project; by default it writes, and every guard holds.

    Attributes:
        dry_run: say what would be done and write nothing.
        while_qupath_runs: the project is not open in the QuPath that runs on this machine, so write.
        break_lock: take the project lock whoever holds it.
    """

    dry_run: bool = False
    while_qupath_runs: bool = False
    break_lock: bool = False
