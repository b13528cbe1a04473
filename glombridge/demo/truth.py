"""What is really on a demo slide: the outlines the painter drew, and their file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from shapely.geometry import Polygon

from ..errors import DamagedFileError
from ..qupath.saving import atomic_write

TRUTH_FILE = "truth.json"
"""Name of the file beside the slides."""

_FORMAT = "glombridge-demo-truth-1"
_DECIMALS = 2


class Subtype(str, Enum):
    """What kind of glomerulus it is."""

    NORMAL = "normal"
    SCLEROTIC = "sclerotic"


@dataclass(frozen=True)
class TrueGlomerulus:
    """Bowman's capsule, clipped to the tissue, in level-0 pixels."""

    outline: Polygon
    subtype: Subtype


@dataclass(frozen=True)
class SlideTruth:
    """All glomeruli of one slide, and what the slide is.

    Attributes:
        name: file name of the slide.
        patient: code of the patient.
        annotated: whether the simulated pathologist is to mark it.
        width_px: of level 0.
        height_px: of level 0.
        mpp: micrometres per level-0 pixel.
        glomeruli: in order of their place, left to right.
    """

    name: str
    patient: str
    annotated: bool
    width_px: int
    height_px: int
    mpp: float
    glomeruli: tuple[TrueGlomerulus, ...]


def rounded(polygon: Polygon) -> Polygon:
    """The polygon on the grid of 0.01 px that the file keeps, so that a round trip is exact."""
    xy = np.round(np.asarray(polygon.exterior.coords)[:, :2], _DECIMALS)
    # Adding 0 turns -0.0, which JSON would keep, into 0.0.
    return Polygon(xy + 0.0)


def save_truth(truths: Sequence[SlideTruth], path: Path) -> None:
    """Write the truth of a study as JSON, all or nothing.

    Args:
        truths: one per slide.
        path: usually :data:`TRUTH_FILE` in the folder of the slides; replaced if it exists.
    """
    document = {
        "format": _FORMAT,
        "frame": "level-0 pixels, x right, y down",
        "slides": [_slide_to_json(truth) for truth in truths],
    }
    atomic_write(path, (json.dumps(document, indent=1) + "\n").encode())


def load_truth(path: Path) -> list[SlideTruth]:
    """Read what :func:`save_truth` wrote.

    Raises:
        DamagedFileError: not JSON, or not of this format.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != _FORMAT:
            msg = f"{path} has format {document['format']!r}, expected {_FORMAT!r}"
            raise DamagedFileError(msg)
        return [_slide_from_json(slide) for slide in document["slides"]]
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DamagedFileError):
            raise
        msg = f"{path} is not the truth of a demo study ({error}). Run the demo again to make it."
        raise DamagedFileError(msg) from error


def _slide_to_json(truth: SlideTruth) -> dict[str, Any]:
    return {
        "name": truth.name,
        "patient": truth.patient,
        "annotated": truth.annotated,
        "width_px": truth.width_px,
        "height_px": truth.height_px,
        "mpp": truth.mpp,
        "glomeruli": [
            {
                "subtype": glomerulus.subtype.value,
                "outline": np.asarray(glomerulus.outline.exterior.coords).round(_DECIMALS).tolist(),
            }
            for glomerulus in truth.glomeruli
        ],
    }


def _slide_from_json(slide: dict[str, Any]) -> SlideTruth:
    return SlideTruth(
        name=str(slide["name"]),
        patient=str(slide["patient"]),
        annotated=bool(slide["annotated"]),
        width_px=int(slide["width_px"]),
        height_px=int(slide["height_px"]),
        mpp=float(slide["mpp"]),
        glomeruli=tuple(
            TrueGlomerulus(Polygon(g["outline"]), Subtype(g["subtype"])) for g in slide["glomeruli"]
        ),
    )
