"""The sections of the settings file, each checked by itself."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import UsageError
from ..objects import Color
from ..schemes import SHIPPED

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

DEFAULT_CLASS = "Glomerulus"

PatientSource = Literal["metadata", "name", "csv", "image"]
OverlapUnit = Literal["auto", "share", "px", "um"]

_LONGEST_OVERLAP = 30


def parse_overlap(value: float | str) -> tuple[OverlapUnit, float]:
    """What an overlap of tiles means: ``0.3``, ``"1/3"``, ``"400 px"``, ``"200 um"`` or ``"auto"``.

    Returns:
        The unit and the number; a share of the tile's width and height where no unit is given.

    Raises:
        ValueError: it is none of these, or a share outside 0 to below 1.
    """
    unit: OverlapUnit = "share"
    text = str(value).strip().lower().replace("µ", "u")
    if text == "auto":
        return "auto", 0.0
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+|\d+/[1-9]\d*)\s*(px|um)?", text)
    number = math.nan
    if isinstance(value, int | float):
        number = float(value)
    elif match is not None and len(text) <= _LONGEST_OVERLAP:
        number = float(Fraction(match[1]))
        unit = "px" if match[2] == "px" else "um" if match[2] == "um" else "share"
    is_px = unit == "px" and number == int(number)
    if not (is_px or unit == "um" or (unit == "share" and 0 <= number < 1)):
        msg = (
            'an overlap is a share from 0 to below 1 (0.3 or "1/3"), whole pixels ("400 px"), '
            f'micrometres ("200 um") or "auto", got {value!r}'
        )
        raise ValueError(msg)
    return unit, number


class Section(BaseModel):
    """A table of the settings file."""

    # A misspelt key must be an error: a setting that is silently ignored trains the wrong model.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ProjectSettings(Section):
    """How the project is opened, and where every glomerulus has been marked."""

    store: Literal["paquo", "native"] = "native"
    searched: Literal["annotated-images", "regions"] = "annotated-images"
    mpp: float | None = Field(default=None, gt=0, le=100)
    slides: dict[str, str] = {}
    keep_snapshots: int = Field(default=20, ge=1)
    keep_snapshots_days: int | None = Field(default=None, ge=1)


class PatientSettings(Section):
    """Where the patient of an image comes from; patients never sit on two sides of a split."""

    source: PatientSource | None = None
    key: str = "patient"
    pattern: str = ""
    file: str = ""

    @model_validator(mode="after")
    def _pattern_is_given(self) -> PatientSettings:
        if self.source == "csv" and not self.file:
            msg = 'patients.source = "csv" needs patients.file, a table with columns image and patient'
            raise ValueError(msg)
        if self.source == "name" and not self.pattern:
            msg = 'patients.source = "name" needs patients.pattern, a regular expression with one group'
            raise ValueError(msg)
        return self


def _reason(error: ErrorDetails) -> str:
    """What pydantic has against a value, with the key and the value where it is about one."""
    text = error["msg"].removeprefix("Value error, ")
    where = ".".join(str(part) for part in error["loc"])
    return f"{where} = {error['input']!r}: {text[:1].lower()}{text[1:]}" if where else text


class TileSettings(Section):
    """The tile grid, at the target resolution, and what becomes of cut objects."""

    task: Literal["detect", "segment"] = "detect"
    width_px: int = Field(default=1024, ge=32, le=16384)
    height_px: int = Field(default=1024, ge=32, le=16384)
    width_um: float | None = Field(default=None, gt=0, le=1e6)
    height_um: float | None = Field(default=None, gt=0, le=1e6)
    mpp: float | None = Field(default=1.0, gt=0, le=100)
    overlap: float | str = 1 / 3
    keep_visible: float = Field(default=0.5, gt=0, le=1)
    drop_visible: float = Field(default=0.1, ge=0, lt=1)
    background_ratio: float = Field(default=0.5, ge=0, le=1e6)
    jpeg_quality: int = Field(default=90, ge=1, le=100)

    @model_validator(mode="after")
    def _fits_together(self) -> TileSettings:
        unit, _ = parse_overlap(self.overlap)
        if self.drop_visible > self.keep_visible:
            msg = "tiles.drop_visible must not exceed tiles.keep_visible"
            raise ValueError(msg)
        if (self.width_um is None) != (self.height_um is None):
            msg = "tiles.width_um and tiles.height_um are given together or not at all"
            raise ValueError(msg)
        if self.mpp is None and (unit == "um" or self.width_um is not None):
            msg = "tiles in um need tiles.mpp, the um per pixel they are cut at (--mpp)"
            raise ValueError(msg)
        return self

    def changed(self, changes: Mapping[str, object]) -> TileSettings:
        """These settings with some replaced, checked like all.

        Raises:
            UsageError: the result cannot be.
        """
        try:
            return TileSettings.model_validate({**self.model_dump(), **changes})
        except ValidationError as error:
            reasons = "; ".join(_reason(e) for e in error.errors())
            msg = f"tiles cannot be cut like that: {reasons}"
            raise UsageError(msg) from error


PAPER_TILES: dict[str, object] = {
    "width_px": 1600,
    "height_px": 1200,
    "width_um": None,
    "height_um": None,
    "mpp": None,
    "overlap": "1/3",
}
"""Tiles of the paper: 1600 x 1200 px of the slide's own, overlapping by one third."""


class TrainSettings(Section):
    """What is trained and for how long.

    Attributes:
        pretrained: start from published weights; ``None`` = where they are on this machine.
        patience: stop after so many epochs without a better one; 0 = never.
        batch: tiles per step; ``None`` = as many as fit a GPU, 8 on a CPU.
    """

    model: str = "yolo11n"
    pretrained: bool | None = None
    epochs: int = Field(default=100, ge=1)
    patience: int = Field(default=30, ge=0)
    batch: int | None = Field(default=None, ge=1)
    learning_rate: float | None = Field(default=None, gt=0, le=1)
    threads: int | None = Field(default=None, ge=1)
    validate_epochs: bool = True


class DetectSettings(Section):
    """How tiles are shown to the model, and boxes stitched.

    Attributes:
        batch: tiles shown at once; ``None`` = from their size on a CPU, by trial on a GPU.
        workers: threads that decode tiles while the model works; ``None`` = half the cores, at most 8.
        method: how boxes of overlapping tiles become objects.
    """

    batch: int | None = Field(default=None, ge=1)
    workers: int | None = Field(default=None, ge=1, le=64)
    method: Literal["views", "nms", "nmm"] = "views"
    min_confidence: float | None = Field(default=None, ge=0, le=1)


class PushSettings(Section):
    """How proposals appear in QuPath, and when a rejected one may be proposed again."""

    objects: Literal["annotation", "detection"] = "annotation"
    color: str = Field(default="#FFA500", pattern="^#[0-9A-Fa-f]{6}$")
    reopen_above: float | None = Field(default=None, ge=0, le=1)

    @property
    def proposed_color(self) -> Color:
        """The colour of the class that proposals carry."""
        return Color(*bytes.fromhex(self.color[1:]))


class EvaluateSettings(Section):
    """How the operating point is chosen on the validation slides, and what is reported.

    Attributes:
        iou: least overlap of a detection and an object that are a pair.
        target: a recall to reach, because an object that is not proposed is not graded; or best F1.
        stain_key: image metadata that says the stain.
        resamples: of patients, for intervals.
    """

    iou: float = Field(default=0.5, gt=0, le=1)
    target: Literal["f1", "recall"] = "recall"
    target_recall: float = Field(default=0.98, gt=0, le=1)
    stain_key: str = "stain"
    resamples: int = Field(default=1000, ge=100, le=100000)


class ReviewSettings(Section):
    """How glomeruli are graded, and which slide of a case counts.

    Attributes:
        scheme: a grading scheme that comes with glombridge, or the path of a file, ending in
            ``.toml`` and relative to the settings; ``None`` = nothing is graded.
        counting: names of images of which each is the one that counts for its case.
        distinct: names of images that show other tissue than every other one of the case.
    """

    scheme: str | None = None
    counting: list[str] = []
    distinct: list[str] = []

    @model_validator(mode="after")
    def _scheme_is_known(self) -> ReviewSettings:
        if (
            self.scheme is not None
            and not is_scheme_file(self.scheme)
            and self.scheme not in SHIPPED
        ):
            msg = (
                f"no grading scheme {self.scheme!r}: one of {', '.join(SHIPPED)}, or a file that ends "
                "in .toml, relative to the settings"
            )
            raise ValueError(msg)
        return self


def is_scheme_file(scheme: str) -> bool:
    """Whether a grading scheme is named by its file."""
    return scheme.lower().endswith(".toml")


class SplitSettings(Section):
    """Shares of the patients; test patients stay test patients for the life of the project.

    ``val`` is the share of what is not test, so that 0.2 and 0.2 are the paper's 4 : 1 with
    validation a fifth of the 4.
    """

    test: float = Field(default=0.2, ge=0, lt=1)
    val: float = Field(default=0.2, ge=0, lt=1)
    stain_key: str = "stain"
