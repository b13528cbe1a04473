"""Whether a patient, or one slide under two names, is on two sides of a split.

Slides are compared by their files' fingerprints and by what they show: the detail in an overview of
64 x 64 cells of optical density, so that a copy saved anew, in another container or without its
metadata, is still the same slide. Detail, because two biopsies may well have the same outline.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ProtectedError
from ..slides.reader import Slide, fingerprint
from ..slides.tissue import overview
from .split import PARTS, Part, SplitItem, check_no_leaks

THUMBNAIL_CELLS = 64
SAME_LIKENESS = 0.99
"""Correlation of two overviews from which they are one slide; a copy at JPEG quality 30 has 0.999,
other tissue of the very same outline 0.66."""
ALIKE_LIKENESS = 0.9
"""Correlation from which two slides are named, as neighbouring sections may be; nothing is refused."""

_OVERVIEW_PX = 512  # longer side of what is looked at
_SAME_SHAPE = 0.02  # relative difference of two slides' aspect ratios
_DETAIL_CELLS = 2.0  # detail is what differs from its surroundings blurred by this
_BLOCK_CELLS = 8
_BLOCKS = (THUMBNAIL_CELLS // _BLOCK_CELLS) ** 2
_SMALL_CELLS = 4
_SMALLS = (THUMBNAIL_CELLS // _SMALL_CELLS) ** 2
_DIRECTIONS = 31  # with the length of the rest 32 numbers for each slide
_SAMPLE = 4096  # slides that the directions are chosen by; any choice misses nothing
_TOGETHER = 1024  # slides, and pairs of them, compared at once
_MANY = 0.01  # share of likely pairs from which all are compared by the fine bound
_LEAST_PRODUCT = np.float32(ALIKE_LIKENESS - 1e-3)  # more than rounding to 32 bits can do
_LEAST_DETAIL = 0.004  # spread of density; less is empty glass, which all looks the same


@dataclass(frozen=True)
class SlideLook:
    """What tells a slide from every other.

    Attributes:
        fingerprint: of the file.
        aspect: width of the whole image by its height.
        thumbnail: optical density, shape (64, 64), 0 to 255 for 0 to 1.
    """

    fingerprint: str
    aspect: float
    thumbnail: NDArray[np.uint8]

    def as_dict(self) -> dict[str, Any]:
        """For a record."""
        text = self.thumbnail.tobytes().hex()
        return {"fingerprint": self.fingerprint, "aspect": self.aspect, "thumbnail": text}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SlideLook:
        """What :meth:`as_dict` gave."""
        cells = np.frombuffer(bytes.fromhex(values["thumbnail"]), np.uint8)
        shape = THUMBNAIL_CELLS, THUMBNAIL_CELLS
        return cls(values["fingerprint"], float(values["aspect"]), cells.reshape(shape))


class LeakItem(NamedTuple):
    """One image in a split."""

    image_name: str
    patient: str
    part: Part
    look: SlideLook


@dataclass(frozen=True)
class LeakCheck:
    """What was found; nothing on two sides, or it would have been refused.

    Attributes:
        slides: number of images compared.
        patients: number of patients on each side.
        twice: images that show one slide, on the same side.
        alike: images on two sides that look alike without being one slide, with their likeness.
        patients_from: where the patients were taken from.
    """

    slides: int
    patients: dict[Part, int]
    twice: tuple[tuple[str, str], ...]
    alike: tuple[tuple[str, str, float], ...]
    patients_from: str

    def as_dict(self) -> dict[str, Any]:
        """For a manifest."""
        verdict = "no patient and no slide is on two sides"
        if self.patients_from == "image":
            verdict = (
                "no slide is on two sides; each image was taken as a patient of its own, so slides "
                "of one patient may be"
            )
        return {
            "verdict": verdict,
            "patients_from": self.patients_from,
            "slides_compared": self.slides,
            "patients": dict(self.patients),
            "patients_on_two_sides": [],
            "slides_on_two_sides": [],
            "same_slide_twice_on_one_side": [list(pair) for pair in self.twice],
            "look_alikes_on_two_sides": [
                {"images": [first, second], "likeness": likeness}
                for first, second, likeness in self.alike
            ],
            "compared_by": (
                "patient, fingerprint of the slide file, and correlation of the detail in "
                f"{THUMBNAIL_CELLS} x {THUMBNAIL_CELLS} cells of an overview (one slide from "
                f"{SAME_LIKENESS}, alike from {ALIKE_LIKENESS})"
            ),
        }


def look_at(path: Path, known: Mapping[str, SlideLook] | None = None) -> SlideLook:
    """Look at a slide file.

    Args:
        path: the file.
        known: looks by fingerprint, which need not be taken again.

    Raises:
        InputError: it cannot be read.
    """
    print_ = fingerprint(path)
    if known and print_ in known:
        return known[print_]
    with Slide(path) as slide:
        # In pixels, since a copy need not have kept the pixel size.
        frame = slide.frame = slide.frame.with_mpp(1.0)
        rgb, _ = overview(slide, max(1.0, max(frame.width_px, frame.height_px) / _OVERVIEW_PX))
    darkest = rgb.min(axis=2).astype(np.float32)
    density = np.clip(-np.log10((darkest + 1) / 256), 0, 1)
    size = THUMBNAIL_CELLS, THUMBNAIL_CELLS
    cells = cv2.resize(density, size, interpolation=cv2.INTER_AREA)
    thumbnail = np.round(cells * 255).astype(np.uint8)
    return SlideLook(print_, frame.width_px / frame.height_px, thumbnail)


def check_leaks(items: Sequence[LeakItem], *, patients_from: str = "") -> LeakCheck:
    """Compare all images of a split.

    Raises:
        ProtectedError: a patient or a slide is on two sides; both images are named.
    """
    check_no_leaks(SplitItem(i.image_name, i.patient, i.look.fingerprint, i.part) for i in items)
    twice: list[tuple[str, str]] = []
    alike: list[tuple[str, str, float]] = []
    for first, second, likeness in _like_pairs(items):
        a, b = items[first], items[second]
        if a.look.fingerprint == b.look.fingerprint or likeness >= SAME_LIKENESS:
            if a.part != b.part:
                msg = (
                    f"images {a.image_name!r} ({a.part}) and {b.image_name!r} ({b.part}) show the "
                    f"same slide (their overviews correlate by {likeness:.4f}) under two names and "
                    "patients. Correct the patient of one, or remove it from the project."
                )
                raise ProtectedError(msg)
            twice.append((a.image_name, b.image_name))
        elif a.part != b.part:
            alike.append((a.image_name, b.image_name, round(likeness, 4)))
    people = {part: len({i.patient for i in items if i.part == part}) for part in PARTS}
    return LeakCheck(len(items), people, tuple(twice), tuple(alike), patients_from)


def _like_pairs(items: Sequence[LeakItem]) -> list[tuple[int, int, float]]:
    """Pairs of one file or of like overviews, in order."""
    found: dict[tuple[int, int], float] = {}
    by_file: defaultdict[str, list[int]] = defaultdict(list)
    for k, item in enumerate(items):
        found |= {(other, k): 1.0 for other in by_file[item.look.fingerprint]}
        by_file[item.look.fingerprint].append(k)
    if items:
        aspects = np.array([i.look.aspect for i in items])
        order = np.argsort(aspects)
        bounds = _Bounds.of([items[k].look.thumbnail for k in order])
        for places in _candidates(bounds, aspects[order]):
            (before, after), likeness = _likeness(items, np.sort(order[places], axis=0))
            is_like = (likeness >= ALIKE_LIKENESS) & (
                np.abs(aspects[before] / aspects[after] - 1) <= _SAME_SHAPE
            )
            for first, second, value in zip(
                *(values[is_like].tolist() for values in (before, after, likeness)), strict=True
            ):
                found.setdefault((first, second), value)
    return [(first, second, found[first, second]) for first, second in sorted(found)]


def _likeness(
    items: Sequence[LeakItem], pairs: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Some of (2, m) pairs and their correlation; those left out are not alike.

    The cells are made anew: few slides come this far, and those of all would take 16 kB each.
    """
    used, flat = np.unique(pairs, return_inverse=True)
    place = flat.reshape(2, -1)
    cells, _ = _unit_cells([items[k].look.thumbnail for k in used])
    if len(place[0]) > _MANY * len(used) ** 2:
        near = (cells @ cells.T)[place[0], place[1]] >= _LEAST_PRODUCT
        pairs, place = pairs[:, near], place[:, near]
    likeness = np.empty(len(place[0]), np.float32)
    for at in range(0, len(likeness), _TOGETHER):
        first, second = place[:, at : at + _TOGETHER]
        likeness[at : at + _TOGETHER] = np.einsum("nc,nc->n", cells[first], cells[second])
    return pairs, likeness


@dataclass(frozen=True)
class _Bounds:
    """Few numbers of each overview, of which the products are never below the correlation.

    A vector of cells is split into parts at right angles. By the Cauchy-Schwarz inequality in each part,
    two vectors correlate by no more than the products of their parts' lengths add up to; a part of one
    direction gives its signed product.

    Attributes:
        coarse: (n, 32) the lengths in blocks of cells, turned so that the first directions tell most
            slides apart, and the length of what these leave.
        fine: (n, 320) signed means of small blocks, and the lengths of what these leave in blocks.
    """

    coarse: NDArray[np.float32]
    fine: NDArray[np.float32]

    @classmethod
    def of(cls, thumbnails: Sequence[NDArray[np.uint8]]) -> _Bounds:
        """Of overviews, of whose cells few are held at a time; empty glass is like nothing."""
        n = len(thumbnails)
        lengths = np.empty((n, _BLOCKS), np.float32)
        fine = np.empty((n, _SMALLS + _BLOCKS), np.float32)
        for k in range(0, n, _TOGETHER):
            some = slice(k, k + _TOGETHER)
            lengths[some], fine[some] = _lengths(thumbnails[some])
        # Any turn keeps products; this one is that of the principal components of some slides.
        chosen = lengths[:: -(-n // _SAMPLE)]
        turn = np.linalg.eigh(chosen.T @ chosen).eigenvectors[:, ::-1].astype(np.float32)
        turned = lengths @ turn
        rest = np.linalg.norm(turned[:, _DIRECTIONS:], axis=1, keepdims=True)
        return cls(np.hstack([turned[:, :_DIRECTIONS], rest]), fine)


def _lengths(
    thumbnails: Sequence[NDArray[np.uint8]],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The lengths in blocks, and the fine bounds."""
    cells, is_told = _unit_cells(thumbnails)
    cells[~is_told] = 0
    grid = cells.reshape(-1, THUMBNAIL_CELLS, THUMBNAIL_CELLS)
    mean = _sums(grid, _SMALL_CELLS) / np.float32(_SMALL_CELLS)  # along a direction of length 1
    squared = _sums(grid**2, _BLOCK_CELLS)
    of_means = _sums(mean**2, _BLOCK_CELLS // _SMALL_CELLS)
    # A little more than is left, because rounding must not make it less.
    left = np.sqrt(np.maximum(squared * np.float32(1 + 1e-5) - of_means, 0))
    n = len(cells)
    fine = np.hstack([mean.reshape(n, _SMALLS), left.reshape(n, _BLOCKS)])
    return np.sqrt(squared).reshape(n, _BLOCKS), fine


def _sums(grid: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """(n, m, m) sums over squares of (n, m * side, m * side)."""
    n, m = len(grid), grid.shape[1] // side
    columns = np.kron(np.eye(m, dtype=np.float32), np.ones((side, 1), np.float32))
    along: NDArray[np.float32] = grid.reshape(-1, m * side) @ columns
    summed: NDArray[np.float32] = along.reshape(n, m, side, m).sum(axis=2)
    return summed


def _candidates(bounds: _Bounds, aspects: NDArray[np.float64]) -> Iterator[NDArray[np.intp]]:
    """Pairs that may be alike; nearly all others are left out, none that is.

    Only slides of nearly one shape are compared, and these by what bounds their correlation: each pair by
    the coarse bound, which is most of the work, and what is left by the fine one.

    Args:
        bounds: of slides in order of their shape.
        aspects: shape (n,), rising.

    Yields:
        Some pairs of places, shape (2, m).
    """
    widest = np.searchsorted(aspects, aspects / (1 - 1.01 * _SAME_SHAPE), "right")
    coarse, fine = bounds.coarse, bounds.fine
    for start in range(0, len(aspects), _TOGETHER):
        some = slice(start, start + _TOGETHER)
        for begin in range(start, int(widest[some][-1]), _TOGETHER):
            others = slice(begin, begin + _TOGETHER)
            places = _likely(coarse[some], coarse[others])
            is_dense = len(places) > _MANY * len(coarse[some]) * len(coarse[others])
            if is_dense:  # all products at once then take less than one after the other
                places = _likely(fine[some], fine[others])
            places += np.array((start, begin))
            if not is_dense:
                product = np.einsum("nc,nc->n", fine[places[:, 0]], fine[places[:, 1]])
                places = places[product >= _LEAST_PRODUCT]
            places = places[places[:, 0] < places[:, 1]]
            if len(places):
                yield places.T


def _likely(some: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.intp]:
    """(m, 2) places of pairs whose product reaches the least."""
    # argwhere would take longer than the products.
    flat = np.flatnonzero(some @ others.T >= _LEAST_PRODUCT)
    return np.stack(np.divmod(flat, len(others)), axis=1)


def _unit_cells(
    thumbnails: Sequence[NDArray[np.uint8]],
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(n, cells) the detail of overviews as vectors of length 1, and whether there is any."""
    cells = np.stack([_detail(t) for t in thumbnails])
    is_told = cells.std(axis=1) >= _LEAST_DETAIL
    cells /= np.maximum(np.linalg.norm(cells, axis=1, keepdims=True), 1e-9)
    return cells, is_told


def _detail(thumbnail: NDArray[np.uint8]) -> NDArray[np.float32]:
    density = thumbnail.astype(np.float32) / 255
    detail = density - cv2.GaussianBlur(density, (0, 0), _DETAIL_CELLS)
    flat: NDArray[np.float32] = (detail - detail.mean()).ravel()
    return flat
