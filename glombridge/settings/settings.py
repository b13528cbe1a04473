"""All settings of a project, and what they say about classes."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, PrivateAttr, model_validator

from ..errors import UsageError
from ..objects import CLASS_SEPARATOR, PathClass
from ..provenance import ERROR_CLASSES, PROPOSED
from ..schemes import SHIPPED, Scheme, load_scheme, shipped_scheme
from .sections import (
    DEFAULT_CLASS,
    DetectSettings,
    EvaluateSettings,
    PatientSettings,
    ProjectSettings,
    PushSettings,
    ReviewSettings,
    Section,
    SplitSettings,
    TileSettings,
    TrainSettings,
    is_scheme_file,
)


class Settings(Section):
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
    ignore: list[str] = Field(default=["Ignore*"])
    regions: list[str] = Field(default=["Region*"])
    rejected: list[str] = Field(default=["Rejected*"])
    unused: list[str] = Field(default=[])
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
        scheme = load_scheme(folder / name) if is_scheme_file(name) else shipped_scheme(name)
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
        if self.scheme is None or path_class.levels[-1] not in self.scheme.lesion_labelled:
            return None
        name = str(path_class)
        if any(name in said for said in (self.ignore, self.regions, self.rejected, self.unused)):
            return None
        base = CLASS_SEPARATOR.join(path_class.levels[:-1])
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
