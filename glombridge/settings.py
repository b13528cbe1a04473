"""The settings of a project: ``glombridge/glombridge.toml``, checked when it is read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from .documents import parse_toml
from .errors import InputError, UsageError
from .objects import CLASS_SEPARATOR, Color, PathClass
from .provenance import ERROR_CLASSES, PROPOSED
from .schemes import SHIPPED, Scheme, load_scheme, shipped_scheme

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


class _Section(BaseModel):
    # A misspelt key must be an error: a setting that is silently ignored trains the wrong model.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ProjectSettings(_Section):
    """How the project is opened, and where every glomerulus has been marked."""

    store: Literal["paquo", "native"] = "native"
    searched: Literal["annotated-images", "regions"] = "annotated-images"
    mpp: float | None = Field(default=None, gt=0, le=100)
    slides: dict[str, str] = {}
    keep_snapshots: int = Field(default=20, ge=1)
    keep_snapshots_days: int | None = Field(default=None, ge=1)


class PatientSettings(_Section):
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


class TileSettings(_Section):
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
            reasons = "; ".join(e["msg"].removeprefix("Value error, ") for e in error.errors())
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


class TrainSettings(_Section):
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


class DetectSettings(_Section):
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


class PushSettings(_Section):
    """How proposals appear in QuPath, and when a rejected one may be proposed again."""

    objects: Literal["annotation", "detection"] = "annotation"
    color: str = Field(default="#FFA500", pattern="^#[0-9A-Fa-f]{6}$")
    reopen_above: float | None = Field(default=None, ge=0, le=1)

    @property
    def proposed_color(self) -> Color:
        """The colour of the class that proposals carry."""
        return Color(*bytes.fromhex(self.color[1:]))


class EvaluateSettings(_Section):
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


class ReviewSettings(_Section):
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
        if self.scheme is not None and not _is_file(self.scheme) and self.scheme not in SHIPPED:
            msg = (
                f"no grading scheme {self.scheme!r}: one of {', '.join(SHIPPED)}, or a file that ends "
                "in .toml, relative to the settings"
            )
            raise ValueError(msg)
        return self


def _is_file(scheme: str) -> bool:
    return scheme.lower().endswith(".toml")


class SplitSettings(_Section):
    """Shares of the patients; test patients stay test patients for the life of the project.

    ``val`` is the share of what is not test, so that 0.2 and 0.2 are the paper's 4 : 1 with
    validation a fifth of the 4.
    """

    test: float = Field(default=0.2, ge=0, lt=1)
    val: float = Field(default=0.2, ge=0, lt=1)
    stain_key: str = "stain"


class Settings(_Section):
    """Everything a project lets its people choose.

    Attributes:
        classes: detector class -> QuPath class names, whole names, that count as it.
        ignore: classes of annotations whose area is neither object nor background.
        regions: classes of annotations inside which everything was marked.
        rejected: classes that say "this is not one".
    """

    seed: int = Field(default=0, ge=0, lt=1 << 32)
    classes: dict[str, list[str]] = Field(
        default_factory=lambda: {DEFAULT_CLASS: [DEFAULT_CLASS]}, min_length=1
    )
    ignore: list[str] = ["Ignore*"]
    regions: list[str] = ["Region*"]
    rejected: list[str] = ["Rejected*"]
    unused: list[str] = []
    project: ProjectSettings = ProjectSettings()
    patients: PatientSettings = PatientSettings()
    split: SplitSettings = SplitSettings()
    tiles: TileSettings = TileSettings()
    train: TrainSettings = TrainSettings()
    detect: DetectSettings = DetectSettings()
    push: PushSettings = PushSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    review: ReviewSettings = ReviewSettings()
    _scheme: Scheme | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _one_meaning_per_class(self) -> Settings:
        seen: dict[str, str] = {}
        roles = [
            *((f"classes.{name}", aliases) for name, aliases in self.classes.items()),
            ("ignore", self.ignore),
            ("regions", self.regions),
            ("rejected", self.rejected),
            ("unused", self.unused),
        ]
        for role, names in roles:
            for name in names:
                path = PathClass.parse(name)
                if path.names[-1] == PROPOSED:
                    msg = f"{role} lists {name!r}: a proposal is never truth and needs no setting"
                    raise ValueError(msg)
                if str(path) in ERROR_CLASSES:
                    msg = (
                        f"{role} lists {name!r}, a class of objects that show a detector's errors or "
                        "readers' disagreements"
                    )
                    raise ValueError(msg)
                if str(path) in seen and seen[str(path)] != role:
                    msg = (
                        f"class {name!r} stands both in {seen[str(path)]} and in {role}; leave one"
                    )
                    raise ValueError(msg)
                seen[str(path)] = role
        if self.review.scheme in SHIPPED:
            self._scheme = shipped_scheme(str(self.review.scheme))
        return self

    @property
    def scheme(self) -> Scheme | None:
        """The grading scheme, ``None`` = nothing is graded.

        Raises:
            UsageError: it is a file, and these settings were not read from one that it lies beside.
        """
        if self._scheme is None and self.review.scheme is not None:
            msg = (
                f"the grading scheme {self.review.scheme!r} is relative to a settings file; read the "
                "settings with load_settings, or give the scheme by with_scheme"
            )
            raise UsageError(msg)
        return self._scheme

    def with_scheme(self, name: str, folder: Path) -> Settings:
        """These settings with another grading scheme.

        Args:
            name: of a scheme that comes with glombridge, or a file that ends in ``.toml``.
            folder: what a relative file is relative to.

        Raises:
            InputError: there is no such scheme, or it cannot be used.
        """
        scheme = load_scheme(folder / name) if _is_file(name) else shipped_scheme(name)
        review = self.review.model_copy(update={"scheme": name})
        changed = self.model_copy(update={"review": review})
        changed._scheme = scheme
        return changed

    @property
    def graded_classes(self) -> dict[str, str]:
        """Classes that only the grading scheme brings, to the detector class each counts as.

        ``Glomerulus: LABEL`` for each label; what the settings themselves say of a class wins.
        """
        labels = self.scheme.labels if self.scheme is not None else ()
        derived = [PathClass.parse(name).derive(label) for name in self.classes for label in labels]
        found = ((str(c), self._graded_as(c)) for c in derived)
        return {name: of for name, of in found if of is not None and not self._is_listed(name)}

    def _is_listed(self, name: str) -> bool:
        return any(name in aliases for aliases in self.classes.values())

    def _graded_as(self, path_class: PathClass) -> str | None:
        """The detector class that a class counts as because its leaf is a label of the scheme."""
        if self.scheme is None or path_class.names[-1] not in self.scheme.lesion_labelled:
            return None
        name = str(path_class)
        if any(name in said for said in (self.ignore, self.regions, self.rejected, self.unused)):
            return None
        base = CLASS_SEPARATOR.join(path_class.names[:-1])
        return next((c for c in self.classes if str(PathClass.parse(c)) == base), None)

    @property
    def class_aliases(self) -> dict[str, list[str]]:
        """Detector class -> the QuPath classes that count as it, those of the scheme too."""
        graded = self.graded_classes
        return {
            name: [*aliases, *(alias for alias, of in graded.items() if of == name)]
            for name, aliases in self.classes.items()
        }

    @property
    def class_names(self) -> list[str]:
        """The detector's classes; the position is the YOLO class index."""
        return list(self.classes)

    def class_index(self, path_class: PathClass | None) -> int | None:
        """YOLO class index of a QuPath class, ``None`` if it is not one of the detector's."""
        name = str(path_class)
        for index, aliases in enumerate(self.classes.values()):
            if name in aliases:
                return index
        graded = None if path_class is None else self._graded_as(path_class)
        return None if graded is None else self.class_names.index(graded)

    def proposed_class(self, class_name: str) -> PathClass:
        """The class a proposal of this detector class carries."""
        return PathClass.parse(class_name).derive(PROPOSED)


def load_settings(path: Path) -> Settings:
    """Read and check a settings file.

    Args:
        path: of the TOML file.

    Raises:
        InputError: no such file, not TOML, an unknown key, or a value that cannot be; the message
            names the file, the key and what was expected.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        msg = f"no settings at {path}. Run 'glombridge init {path.parent.parent}' first."
        raise InputError(msg) from None
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path} cannot be read as UTF-8 text: {error}"
        raise InputError(msg) from error
    try:
        document = parse_toml(text)
    except ValueError as error:
        msg = f"{path} is not valid TOML: {error}"
        raise InputError(msg) from error
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']} (got {e['input']!r})"
            for e in error.errors()
        ]
        msg = f"{path} has settings that cannot be:\n" + "\n".join(lines)
        raise InputError(msg) from error
    scheme = settings.review.scheme
    if scheme is None or not _is_file(scheme):
        return settings
    try:
        return settings.with_scheme(scheme, path.parent)
    except InputError as error:
        msg = f"{path}: scheme in [review]: {error}"
        raise InputError(msg) from error


def render_settings(settings: Settings) -> str:
    """The settings as commented TOML text; reading it back gives equal settings.

    Args:
        settings: to be written.
    """
    t, p, patients = settings.tiles, settings.project, settings.patients
    lines = [
        "# glombridge settings of this QuPath project. Every key may be left out.",
        f"seed = {settings.seed}",
        "# Annotations of these classes are neither object nor background.",
        f"ignore = {_toml(settings.ignore)}",
        "# Inside annotations of these classes every object has been marked.",
        f"regions = {_toml(settings.regions)}",
        "# These classes say: this is not one.",
        f"rejected = {_toml(settings.rejected)}",
        "# Classes derived from a detector class that are deliberately left out.",
        f"unused = {_toml(settings.unused)}",
        "",
        "# Detector class = the QuPath classes, whole names, that count as it.",
        "[classes]",
        *(f"{_toml(name)} = {_toml(aliases)}" for name, aliases in settings.classes.items()),
        "",
        "[project]",
        '# "paquo": image data is read and written by an installed QuPath. "native": without QuPath.',
        f"store = {_toml(p.store)}",
        '# "annotated-images": an image with any human annotation has been searched completely.',
        '# "regions": only images marked as searched, and areas inside the classes in "regions".',
        f"searched = {_toml(p.searched)}",
        "# Micrometres per pixel of slides whose file and project say nothing.",
        f"mpp = {p.mpp!r}" if p.mpp is not None else "# mpp = 0.25",
        "# Where slides lie that the project looks for elsewhere: old beginning of the path = new one.",
        "slides = { " + ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in p.slides.items()) + " }"
        if p.slides
        else '# slides = { "D:\\\\slides" = "/mnt/slides" }',
        "# Replaced data files kept per image for 'glombridge undo'; older ones are deleted.",
        f"keep_snapshots = {p.keep_snapshots}",
        f"keep_snapshots_days = {p.keep_snapshots_days}"
        if p.keep_snapshots_days
        else "# keep_snapshots_days = 365",
        "",
        "[patients]",
        '# source = "metadata" (image metadata "key"), "name" ("pattern": a regular expression with',
        '# one group), "csv" ("file": a table with columns image and patient, beside the project)',
        '# or "image" (each image its own patient; reports then say so).',
        *([f"source = {_toml(patients.source)}"] if patients.source else []),
        f"key = {_toml(patients.key)}",
        f"pattern = {_toml(patients.pattern)}",
        f"file = {_toml(patients.file)}",
        "",
        "# Shares of the patients: test of all, val of the others. Once a test patient, always one.",
        '# Each stain (image metadata "stain_key") is shared out alike, as far as patients allow.',
        "[split]",
        f"test = {settings.split.test!r}",
        f"val = {settings.split.val!r}",
        f"stain_key = {_toml(settings.split.stain_key)}",
        "",
        "[tiles]",
        '# "detect" trains boxes, "segment" outlines.',
        f"task = {_toml(t.task)}",
        "# Pixels at the target resolution mpp (micrometres per pixel); leave mpp out for the",
        "# slide's own. width_um and height_um, where given, win over the pixels. overlap is a",
        '# share, "400 px", "200 um", or "auto": the smallest that keeps every annotated object whole',
        "# in at least one tile wherever it lies.",
        *([f"mpp = {t.mpp!r}"] if t.mpp is not None else []),
        *([f"width_um = {t.width_um!r}"] if t.width_um is not None else []),
        *([f"height_um = {t.height_um!r}"] if t.height_um is not None else []),
        f"width_px = {t.width_px}",
        f"height_px = {t.height_px}",
        f"overlap = {_toml(t.overlap)}",
        "# An object is kept in a tile that shows this share of it; below drop_visible it is",
        "# nothing; in between it is painted out.",
        f"keep_visible = {t.keep_visible!r}",
        f"drop_visible = {t.drop_visible!r}",
        "# Tissue tiles without an object, per tile with one.",
        f"background_ratio = {t.background_ratio!r}",
        f"jpeg_quality = {t.jpeg_quality}",
        "",
        "# pretrained: true or false; left out, published weights are used where they are on this machine.",
        "# batch: left out, as many tiles as fit a GPU, 8 on a CPU. patience: stop after so many epochs",
        "# without a better one, 0 for never.",
        *_section("train", settings.train),
        *_section("detect", settings.detect),
        "# objects: proposals as QuPath annotations (class menu, class wheel, grid view) or detections.",
        "# reopen_above: what was rejected or deleted is proposed again by a detection that scores more",
        "# than this and more than the rejected one did; leave it out for never.",
        *_section("push", settings.push),
        '# target: "recall" works at the highest confidence that finds target_recall of the objects on',
        '# the validation slides, "f1" at the one with the best balance of found and false.',
        *_section("evaluate", settings.evaluate),
        "# How glomeruli are graded: scheme is lupus, oxford, three-grade, or a file of your own beside",
        "# this one (docs/grading.md). The classes it gives glomeruli count as their detector class.",
        "# counting: images of which each is the one that counts for its patient. distinct: images that",
        "# show other tissue than any other one of the patient. Other images are never added up.",
        *_section("review", settings.review),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _section(name: str, section: _Section) -> list[str]:
    values = section.model_dump(exclude_none=True)
    return [f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in values.items()), ""]


def _toml(value: str | float | bool | Sequence[str]) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        escaped = "".join(
            f"\\u{ord(c):04X}" if ord(c) < 32 or ord(c) == 127 else "\\" + c if c in '\\"' else c
            for c in value
        )
        return f'"{escaped}"'
    return "[" + ", ".join(_toml(item) for item in value) + "]"
