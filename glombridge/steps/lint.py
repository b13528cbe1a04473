"""``lint``: check GeoJSON files object by object, and write repaired copies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import InputError, ProtectedError, UsageError
from ..geojson_codec import write_geojson
from ..geojson_codec.lint import Linted, lint_objects

FIXED = ".fixed.geojson"


@dataclass(frozen=True)
class LintedFile:
    """One checked file.

    Attributes:
        result: ``None`` for a file that cannot be read at all; ``error`` says why.
        fixed: the repaired copy, ``None`` = none was written.
    """

    path: Path
    result: Linted | None
    error: str | None = None
    fixed: Path | None = None

    @property
    def problems(self) -> int:
        """Faults that are still there: all, or after repairing those a person has to decide."""
        if self.result is None:
            return 1
        return len(self.result.faults if self.fixed is None else self.result.remaining)

    @property
    def is_repairable(self) -> bool:
        """Whether a repaired copy would have fewer faults."""
        return self.result is not None and any(f.done is not None for f in self.result.faults)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        findings = self.result.findings if self.result else ()
        return {
            "file": str(self.path),
            "error": self.error,
            "objects": len(self.result.objects) if self.result else None,
            "faults": dict(Counter(f.fault.value for f in findings if not f.is_note)),
            "problems": self.problems,
            "fixed": str(self.fixed) if self.fixed else None,
            "lost_in_a_copy": list(self.result.lost) if self.result else [],
            "findings": [f.as_dict() for f in findings],
        }


@dataclass(frozen=True)
class LintResult:
    """All files, in the order given."""

    files: tuple[LintedFile, ...]

    @property
    def problems(self) -> int:
        """Over all files."""
        return sum(f.problems for f in self.files)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"problems": self.problems, "files": [f.as_dict() for f in self.files]}


def lint(
    files: Sequence[Path],
    *,
    fix: bool = False,
    slide: Path | None = None,
    size_px: tuple[int, int] | None = None,
) -> LintResult:
    """Check files; a file that cannot be read does not stop the others.

    Args:
        files: GeoJSON, gzipped or not.
        fix: write ``NAME.fixed.geojson`` beside each file that has a fault.
        slide: the slide file the objects belong to: what lies off it is a fault.
        size_px: width and height of the slide in QuPath px, instead of the file.

    Raises:
        UsageError: both a slide and a size.
        InputError: the slide cannot be read.
        ProtectedError: a repaired copy is there already; nothing was written.
        MachineError: disk full, no permission.
    """
    if slide is not None and size_px is not None:
        msg = "give --slide or --size, not both"
        raise UsageError(msg)
    if slide is not None:
        size_px = _size_of(slide)
    copies = [fixed_name(path) for path in files]
    in_the_way = [copy for copy in copies if copy.exists()]
    doubled = [copy for copy, n in Counter(copies).items() if n > 1]
    if fix and (in_the_way or doubled):
        names = ", ".join(str(copy) for copy in in_the_way or doubled)
        state = "is there already" if in_the_way else "would be written twice"
        msg = f"{names} {state}. Nothing was written; move the copy away or rename the file."
        raise ProtectedError(msg)
    done = []
    for path, copy in zip(files, copies, strict=True):
        try:
            result = lint_objects(path, size_px=size_px)
        except InputError as error:
            done.append(LintedFile(path, None, str(error)))
            continue
        linted = LintedFile(path, result)
        if fix and linted.is_repairable:
            write_geojson(copy, result.objects)
            linted = replace(linted, fixed=copy)
        done.append(linted)
    return LintResult(tuple(done))


def fixed_name(path: Path) -> Path:
    """Where the repaired copy of a file goes: ``a.geojson.gz`` becomes ``a.fixed.geojson``."""
    name = path.name
    for suffix in (".gz", ".json", ".geojson"):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            name = name[: -len(suffix)]
    return path.with_name(name + FIXED)


def _size_of(slide: Path) -> tuple[int, int]:
    from ..slides.reader import Slide  # OpenSlide is not needed without --slide

    with Slide(slide) as opened:
        return opened.frame.width_px, opened.frame.height_px
