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
_BLOCKS = THUMBNAIL_CELLS // _BLOCK_CELLS  # in each direction
_TOGETHER = 1024  # slides, and pairs of them, compared at once
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
        cells = np.stack([_detail(i.look.thumbnail) for i in items])
        spread = cells.std(axis=1)
        cells /= np.maximum(np.linalg.norm(cells, axis=1, keepdims=True), 1e-9)
        aspects = np.array([i.look.aspect for i in items])
        told = np.flatnonzero(spread >= _LEAST_DETAIL)
        for pair in _candidates(cells[told], aspects[told]):
            before, after = told[pair.min(axis=0)], told[pair.max(axis=0)]
            likeness = np.einsum("nc,nc->n", cells[before], cells[after])
            is_like = (likeness >= ALIKE_LIKENESS) & (
                np.abs(aspects[before] / aspects[after] - 1) <= _SAME_SHAPE
            )
            for first, second, value in zip(
                *(values[is_like].tolist() for values in (before, after, likeness)), strict=True
            ):
                found.setdefault((first, second), value)
    return [(first, second, found[first, second]) for first, second in sorted(found)]


def _candidates(
    cells: NDArray[np.float32], aspects: NDArray[np.float64]
) -> Iterator[NDArray[np.intp]]:
    """Pairs that may be alike; nearly all others are left out, none that is.

    Only slides of nearly one shape are compared, and first by the lengths of the parts that their
    vectors have in blocks of cells: by the Cauchy-Schwarz inequality in each block, two vectors cannot
    correlate by more than these few lengths do.

    Args:
        cells: of length 1, shape (n, cells).
        aspects: shape (n,).

    Yields:
        Some pairs of places, shape (2, m), in any order.
    """
    blocks = cells.reshape(len(cells), _BLOCKS, _BLOCK_CELLS, _BLOCKS, _BLOCK_CELLS)
    order = np.argsort(aspects)
    lengths = np.sqrt(np.einsum("nabcd,nabcd->nac", blocks, blocks))[order].reshape(
        len(order), _BLOCKS**2
    )
    widest = np.searchsorted(aspects[order], aspects[order] / (1 - 1.01 * _SAME_SHAPE), "right")
    least = ALIKE_LIKENESS - 1e-3  # more than rounding to 32 bits can do
    for start in range(0, len(order), _TOGETHER):
        some = slice(start, start + _TOGETHER)
        for other in range(start, int(widest[some][-1]), _TOGETHER):
            likely = lengths[some] @ lengths[other : other + _TOGETHER].T >= least
            places = np.argwhere(likely) + np.array((start, other))
            places = places[places[:, 0] < places[:, 1]]
            for at in range(0, len(places), _TOGETHER):
                yield order[places[at : at + _TOGETHER].T]


def _detail(thumbnail: NDArray[np.uint8]) -> NDArray[np.float32]:
    density = thumbnail.astype(np.float32) / 255
    detail = density - cv2.GaussianBlur(density, (0, 0), _DETAIL_CELLS)
    flat: NDArray[np.float32] = (detail - detail.mean()).ravel()
    return flat
