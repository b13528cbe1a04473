"""How far a detection is: slides, tiles per second, time left, objects found so far."""

from __future__ import annotations

import time
from typing import Any

from ..progress import Task
from .detect_run import DetectedImage
from .detect_targets import Target
from .detect_work import Emit


class DetectProgress:
    """Turns the events of the work into a bar for people and lines for a scheduler.

    Attributes:
        images: by id, those that are finished.
        failed: name and reason of those that failed.
        profile: where the time went, one per device.
    """

    def __init__(
        self, targets: list[Target], done: list[DetectedImage], task: Task, on_event: Emit
    ) -> None:
        self.images = {image.entry_id: image for image in done}
        self.failed: list[tuple[str, str]] = []
        self.profile: list[dict[str, Any]] = []
        self._n_slides = len(targets)
        self._n_before = len(done)
        self._task, self._on_event = task, on_event
        self._tiles = 0
        self._share: dict[int, float] = {}
        self._started = time.monotonic()
        if done:
            task.advance(len(done), note=f"{len(done)} slides were finished before")
        on_event({"event": "start", "slides": self._n_slides, "finished_before": len(done)})

    def __call__(self, event: dict[str, Any]) -> None:
        """Take in one event of the work."""
        slide, name = event.get("id", 0), event.get("slide", "")
        kind = event["event"]
        if kind == "begin":
            # A slide whose worker was lost begins anew.
            self._task.advance(-self._share.get(slide, 0.0))
            self._share[slide] = 0.0
        elif kind == "tiles":
            self._tiles += event["n"]
            self._advance(slide, name, event["n"] / event["of"])
            self._on_event({"event": "progress", **self.numbers()})
        elif kind == "slide":
            image = DetectedImage.from_dict(event["image"])
            self.images[image.entry_id] = image
            self._advance(slide, name, 1.0)
            self._on_event({**event, **self.numbers()})
        elif kind == "failed":
            self.failed.append((name, event["reason"]))
            self._advance(slide, name, 1.0)
            self._on_event({**event, **self.numbers()})
        else:
            self.profile.append({k: v for k, v in event.items() if k != "event"})
            self._on_event(event)

    def numbers(self) -> dict[str, Any]:
        """Slides, tiles/s, time left and objects so far."""
        seconds = time.monotonic() - self._started
        share = sum(self._share.values())
        left = self._n_slides - self._n_before - share
        return {
            "slides": self._n_slides,
            "slides_done": len(self.images) + len(self.failed),
            "tiles": self._tiles,
            "tiles_per_second": round(self._tiles / seconds, 2) if seconds else None,
            "seconds_left": round(seconds / share * left, 1) if share else None,
            "found": sum(i.found for i in self.images.values()),
        }

    def _advance(self, slide: int, name: str, by: float) -> None:
        before = self._share.get(slide, 0.0)
        self._share[slide] = min(1.0, before + by)
        n = self.numbers()
        speed = f"{n['tiles_per_second']:.0f} tiles/s, " if n["tiles_per_second"] else ""
        note = f"{name}, {speed}{n['found']} found"
        self._task.advance(self._share[slide] - before, note=note)
