"""Tiles of one slide as full batches, decoded ahead by threads while the model works.

The tiles are dealt into jobs of whole batches that lie close together, always in the same way. A
thread takes a job, reads it through its own handle of the slide, and fills batches in the job's
order; batches are handed over as they get full. So what stands in which batch, and at which place,
does not depend on the number of threads, while nobody waits for a slower neighbour. Threads do
well here: OpenSlide and OpenCV release Python's lock while they work.

Memory is bounded by the batches, which are allocated once (page-locked where a GPU is to be fed)
and used again: a thread that finds none free waits.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..frames import Frame
from ..slides.reader import RgbArray, Slide
from ..slides.strips import Region, read_regions
from .boxes import Floats, Ints
from .clock import StageClock

log = logging.getLogger(__name__)

JOB_TILES = 192
"""About how many tiles a thread reads in one go. What two jobs share is decoded twice."""

_SPARE_BATCHES = 2  # one with the model, one ready for it
_WHITE = 255

MakeBatch = Callable[[tuple[int, ...]], RgbArray]


@dataclass(frozen=True)
class Batch:
    """Tiles for the model.

    Attributes:
        places: positions of the tiles among the regions asked for.
        pixels: (batch, height, width, 3) RGB; white beyond the tiles there are.
    """

    places: list[int]
    pixels: RgbArray


class TileFeed:
    """The tiles of a slide, batch by batch; iterate once, and use with ``with``.

    Attributes:
        unreadable: after the iteration, positions of regions that the file could not give, in
            order, each with the reason.
    """

    def __init__(
        self,
        path: Path,
        frame: Frame,
        regions: Sequence[Region],
        *,
        mpp: float | None,
        batch: int,
        workers: int,
        make_batch: MakeBatch | None = None,
        clock: StageClock | None = None,
    ) -> None:
        """Start reading.

        Args:
            path: the slide file; each thread opens it for itself.
            frame: QuPath's frame of it.
            regions: what to cut, all of one size.
            mpp: µm per px of the tiles; ``None`` = the slide's own pixels.
            batch: tiles per batch.
            workers: threads.
            make_batch: allocates a batch of a shape, for example in page-locked memory.
            clock: told how long was decoded and waited.
        """
        self._path, self._frame, self._mpp = path, frame, mpp
        self._regions = regions
        self._batch = batch
        self._clock = clock or StageClock()
        self._jobs = iter(jobs(regions, batch))
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._ready: queue.Queue[Batch | BaseException | None] = queue.Queue()
        self._free: queue.Queue[RgbArray] = queue.Queue()
        self._failures: dict[int, str] = {}
        self._running = workers if regions else 0
        if not regions:
            self._ready.put(None)
            return
        shape = (batch, regions[0].height, regions[0].width, 3)
        make = make_batch or (lambda shape: np.empty(shape, np.uint8))
        for _ in range(min(workers, math.ceil(len(regions) / batch)) + _SPARE_BATCHES):
            self._free.put(make(shape))
        self._threads = [
            threading.Thread(target=self._work, name=f"decode-{k}", daemon=True)
            for k in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> TileFeed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def unreadable(self) -> list[tuple[int, str]]:
        """Positions of regions the file could not give, and why."""
        return sorted(self._failures.items())

    def __iter__(self) -> Iterator[Batch]:
        """Batches as they get full; a batch may be overwritten once the next one is asked for.

        Raises:
            InputError: the slide cannot be opened, or cannot be read anywhere.
        """
        while True:
            begun = time.perf_counter()
            item = self._ready.get()
            self._clock.add("model waits", time.perf_counter() - begun)
            if item is None:
                return
            if isinstance(item, BaseException):
                self.close()
                raise item
            yield item
            self._free.put(item.pixels)

    def close(self) -> None:
        """Stop the threads and wait for them."""
        self._stop.set()
        for thread in getattr(self, "_threads", ()):
            thread.join()

    def _work(self) -> None:
        try:
            slide = Slide(self._path, self._frame)
            try:
                while not self._stop.is_set():
                    with self._lock:
                        job = next(self._jobs, None)
                    if job is None:
                        break
                    slide = self._read_job(slide, job)
            finally:
                slide.close()
        except Exception as error:  # noqa: BLE001 - raised again where the tiles are asked for
            self._ready.put(error)
            self._stop.set()
        with self._lock:
            self._running -= 1
            if not self._running:
                self._ready.put(self._why_nothing())

    def _why_nothing(self) -> InputError | None:
        if len(self._failures) < len(self._regions):
            return None
        return InputError(next(iter(self._failures.values())))

    def _read_job(self, slide: Slide, job: list[int]) -> Slide:
        done: set[int] = set()
        pixels: RgbArray | None = None
        places: list[int] = []

        def keep(place: int, rgb: RgbArray) -> bool:
            nonlocal pixels, places
            if pixels is None:
                pixels = self._take_free()
            if pixels is None:
                return False
            pixels[len(places)] = rgb
            places.append(place)
            done.add(place)
            if len(places) == self._batch:
                self._ready.put(Batch(places, pixels))
                pixels, places = None, []
            return True

        for place, rgb in self._timed(self._tiles(slide, job)):
            if not keep(place, rgb):
                return slide
        rest = [place for place in job if place not in done]
        for place in rest:
            # Something in this job is damaged. OpenSlide refuses a handle for ever after an error,
            # so each tile is tried with one that still works, and by itself: only what needs the
            # damaged block is lost.
            slide.close()
            slide = Slide(self._path, self._frame)
            alone = self._alone(slide, place)
            if alone is not None and not keep(place, alone):
                return slide
        if rest:
            slide.close()
            slide = Slide(self._path, self._frame)
        if pixels is not None and places:
            pixels[len(places) :] = _WHITE
            self._ready.put(Batch(places, pixels))
        return slide

    def _tiles(self, slide: Slide, places: list[int]) -> Iterator[tuple[int, RgbArray]]:
        """Tiles, until something cannot be read."""
        wanted = [self._regions[place] for place in places]
        try:
            for index, rgb in read_regions(slide, wanted, mpp=self._mpp):
                yield places[index], rgb
        except InputError as error:
            log.info("%s: reading tile by tile: %s", self._path.name, error)

    def _alone(self, slide: Slide, place: int) -> RgbArray | None:
        try:
            with self._clock.measure("decode"):
                return slide.read_region(*self._regions[place], mpp=self._mpp)
        except InputError as error:
            with self._lock:
                self._failures[place] = str(error)
            return None

    def _timed(self, tiles: Iterator[tuple[int, RgbArray]]) -> Iterator[tuple[int, RgbArray]]:
        while not self._stop.is_set():
            begun = time.perf_counter()
            item = next(tiles, None)
            self._clock.add("decode", time.perf_counter() - begun)
            if item is None:
                return
            yield item

    def _take_free(self) -> RgbArray | None:
        begun = time.perf_counter()
        try:
            while not self._stop.is_set():
                try:
                    return self._free.get(timeout=0.1)
                except queue.Empty:
                    continue
            return None
        finally:
            self._clock.add("decoders wait", time.perf_counter() - begun)


def jobs(regions: Sequence[Region], batch: int) -> list[list[int]]:
    """Positions of regions in groups of whole batches, each group about square on the slide.

    The last group is smaller. Groups do not depend on who reads them.
    """
    if not regions:
        return []
    size = batch * max(1, round(JOB_TILES / batch))
    corner: Floats = np.array([(r.x_px, r.y_px) for r in regions])
    columns: Ints = np.unique(corner[:, 0], return_inverse=True)[1]
    band = columns // max(1, math.isqrt(size))
    order = np.lexsort((corner[:, 0], corner[:, 1], band)).tolist()
    return [order[begin : begin + size] for begin in range(0, len(order), size)]
