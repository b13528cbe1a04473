"""Where the time of a detection goes, and which stage the others wait for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

STAGES = ("prepare", "decode", "model", "stitch", "write")
WAITS = ("decoders wait", "model waits")


class StageClock:
    """Seconds per stage, added up over threads; safe to share between them.

    Stages: ``prepare`` (opening, tissue), ``decode`` (tiles), ``model``, ``stitch``, ``write``; and
    ``decoders wait`` (for a free batch) and ``model waits`` (for a full one).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.seconds = dict.fromkeys((*STAGES, *WAITS), 0.0)
        self.tiles = 0
        self.started = time.perf_counter()

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - begun)

    def add(self, stage: str, seconds: float) -> None:
        """Add time to a stage."""
        with self._lock:
            self.seconds[stage] += seconds

    @property
    def limits(self) -> str:
        """The stage the others wait for: ``decode`` or ``model``."""
        starved = self.seconds["model waits"] > self.seconds["decoders wait"]
        return "decode" if starved else "model"

    def as_dict(self, *, decoders: int) -> dict[str, object]:
        """For ``--profile`` and ``--json``.

        Args:
            decoders: threads that share the time of decoding.
        """
        wall = time.perf_counter() - self.started
        busy = {k: self.seconds[k] / (decoders if k == "decode" else 1) for k in STAGES}
        total = sum(busy.values()) or 1.0
        return {
            "wall_seconds": round(wall, 3),
            "tiles": self.tiles,
            "tiles_per_second": round(self.tiles / wall, 2) if wall else None,
            "seconds": {k: round(v, 3) for k, v in self.seconds.items()},
            "share": {k: round(v / total, 4) for k, v in busy.items()},
            "decoders": decoders,
            "limits": self.limits,
        }
