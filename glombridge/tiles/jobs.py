"""What a dataset is made from: one job per image, and the settings they share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..frames import Frame
from ..objects import SlideObject
from .grid import PAPER, TileSpec
from .labels import Areas, ClassMap, Task, VisibleRule
from .split import Part


@dataclass(frozen=True)
class SlideJob:
    """One image to cut.

    Attributes:
        entry_id: of the image in its project; tells two images of one name apart.
        image_name: as in QuPath.
        slide_path: the slide file.
        frame: of the image.
        patient, part: who it is from, and which side of the split that is.
        objects: truth objects, in QuPath px.
        areas: where the image may be learnt from.
        hard_negatives: rejected proposals; a tile that shows one whole is always kept.
        stain: as the project says; empty where it does not.
    """

    entry_id: int
    image_name: str
    slide_path: Path
    frame: Frame
    patient: str
    part: Part
    objects: tuple[SlideObject, ...] = ()
    areas: Areas = field(default_factory=Areas)
    hard_negatives: tuple[SlideObject, ...] = ()
    stain: str = ""


@dataclass(frozen=True)
class DatasetSettings:
    """How tiles are cut and chosen.

    Attributes:
        class_map: what to detect.
        spec: the tiles; an ``"auto"`` overlap is resolved from the objects of all jobs.
        rule: objects cut by a tile's border.
        background_ratio: tissue tiles without objects kept per tile with objects, in each slide.
        background_empty_slide: tissue tiles kept of a searched slide without any object.
        seed: chooses the background tiles.
        jpeg_quality: 1 to 100.
        task: boxes or outlines.
        patients_from: where the patients were taken from; stated in the leak check.
    """

    class_map: ClassMap
    spec: TileSpec = PAPER
    rule: VisibleRule = field(default_factory=VisibleRule)
    background_ratio: float = 1.0
    background_empty_slide: int = 8
    seed: int = 0
    jpeg_quality: int = 90
    task: Task = "detect"
    patients_from: str = ""
