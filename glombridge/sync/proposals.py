"""What one detection run wants to put into one image, and the objects it becomes."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

import numpy as np
from shapely.geometry.base import BaseGeometry

from ..detection.boxes import Floats, Outlines
from ..ledger.schema import DEFAULT_LAYER
from ..objects import ObjectKind, Outline, PathClass, SlideObject
from ..provenance import (
    AREA_UM2,
    BOX,
    CONFIDENCE,
    DIAMETER_UM,
    LAYER,
    MODEL,
    PROBABILITY,
    PROPOSAL_STATE,
    RUN,
    SCORE_SD,
    STATE,
)
from ..settings import Settings

_PLACE_GRID_PX = 4.0
_NAMESPACE = uuid.UUID("6f0f9a0e-6d2f-5c0b-9a51-6b1f3a5d7c21")


@dataclass(frozen=True)
class Proposals:
    """What one detection run wants to put into one image.

    Attributes:
        entry_id: of the image.
        xyxy: (N, 4) boxes in QuPath pixels.
        score, class_index: (N,).
        mpp: µm per QuPath pixel, ``None`` = unknown.
        slide: fingerprint of the slide file: with the place and the run it makes an object's id,
            which must not change when slides or projects are moved.
        scanned: what the run looked at, QuPath pixels; ``None`` = not known, so that nothing can be
            said to be no longer seen.
        size_px: width and height of the frame the boxes were found in, ``None`` = not known.
        name: of the image when it was searched, empty = not known.
        roi_classes: classes of the annotations that said where to look, empty = everywhere.
        roi_sha256: hash of their areas then.
        score_sd: (N,) deviation of the score over mirrored looks, ``None`` = there were none.
        outline: (N,) outlines in QuPath pixels, ``None`` where there is only the box; ``None``
            altogether from a model that gives boxes only.
        probability: (N,) calibrated, as of the detection run; ``None`` = its weights had no calibration.
    """

    entry_id: int
    xyxy: Floats
    score: Floats
    class_index: np.ndarray
    mpp: float | None
    slide: str = ""
    scanned: BaseGeometry | None = None
    size_px: tuple[int, int] | None = None
    name: str = ""
    roi_classes: tuple[str, ...] = ()
    roi_sha256: str = ""
    score_sd: Floats | None = None
    outline: Outlines | None = None
    probability: Floats | None = None


@dataclass(frozen=True)
class Source:
    """What puts proposals into a project.

    Attributes:
        run: id of the detection run.
        model: short hash of the weights.
        layer: what a later run replaces: a run updates and withdraws in its own layer only.
    """

    run: str
    model: str
    layer: str = DEFAULT_LAYER

    @property
    def metadata(self) -> dict[str, str]:
        """What each of its proposals carries that is a box; the history keeps it once for all of them."""
        return {**self.outline_metadata, BOX: "true"}

    @property
    def outline_metadata(self) -> dict[str, str]:
        """What each of its proposals carries that is an outline."""
        return {
            STATE: PROPOSAL_STATE,
            RUN: self.run,
            MODEL: self.model,
            LAYER: self.layer,
        }


def as_objects(
    wanted: Proposals, source: Source, settings: Settings, *, kind: ObjectKind
) -> list[SlideObject]:
    """The objects that detections become, each place once.

    Returns:
        In an order that does not depend on that of the detections.
    """
    unique: dict[uuid.UUID, SlideObject] = {}
    color = settings.push.proposed_color
    classes = [
        PathClass(settings.proposed_class(name).names, color) for name in settings.class_names
    ]
    # One of each for all objects: there may be a million.
    about = source.outline_metadata, source.metadata
    x0, y0, x1, y1 = wanted.xyxy.T
    # The same place seen twice in one run would be one id; the better score stands first.
    order = np.lexsort((y1, x1, y0, x0, wanted.class_index, -wanted.score))
    for k in order.tolist():
        obj = _as_object(wanted, k, source, about, classes[int(wanted.class_index[k])], kind)
        unique.setdefault(obj.id, obj)
    return list(unique.values())


def _as_object(
    wanted: Proposals,
    k: int,
    source: Source,
    about: tuple[Mapping[str, str], Mapping[str, str]],
    path_class: PathClass,
    kind: ObjectKind,
) -> SlideObject:
    """One of them; ``about`` is the metadata of an outline, and of a box."""
    # QuPath shows positions to a hundredth of a pixel and older ones keep 32-bit vertices; the
    # detector is not that exact either.
    x0, y0, x1, y1 = (round(float(v), 2) for v in wanted.xyxy[k])
    measurements = {CONFIDENCE: round(float(wanted.score[k]), 6)}
    if wanted.probability is not None:
        measurements[PROBABILITY] = round(float(wanted.probability[k]), 6)
    if wanted.score_sd is not None:
        measurements[SCORE_SD] = round(float(wanted.score_sd[k]), 6)
    if wanted.mpp is not None:
        measurements[DIAMETER_UM] = round((x1 - x0 + y1 - y0) / 2 * wanted.mpp, 2)
    area = None if wanted.outline is None else wanted.outline[k]
    outline = Outline.rectangle(x0, y0, x1, y1) if area is None else Outline.rounded(area)
    if area is not None and wanted.mpp is not None:
        measurements[AREA_UM2] = round(outline.geometry.area * wanted.mpp**2, 2)
    # The box is the place, also of an outline: its corners are many, and say nothing of identity.
    place = [round(v / _PLACE_GRID_PX) for v in (x0, y0, x1, y1)]
    said = [wanted.entry_id, wanted.slide, source.layer, source.run, kind.value, path_class, place]
    return SlideObject(
        id=uuid.uuid5(_NAMESPACE, "|".join(map(str, said))),
        kind=kind,
        outline=outline,
        path_class=path_class,
        locked=True,
        measurements=measurements,
        metadata=about[area is None],
    )


def free_id(taken: Set[uuid.UUID], wanted: uuid.UUID) -> uuid.UUID:
    """An id that nothing has, always the same one for the same question."""
    while wanted in taken:
        wanted = uuid.uuid5(_NAMESPACE, f"{wanted}|again")
    return wanted


def boxes_of(objects: Iterable[SlideObject]) -> Floats:
    """(N, 4) bounds of outlines, QuPath px."""
    boxes = [o.outline.bounds for o in objects if o.outline is not None]
    return np.array(boxes, np.float64).reshape(-1, 4)
