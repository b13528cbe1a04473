"""``agree``: how far readers agree who each read a copy of a project, and what to adjudicate."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import InputError, UsageError
from ..filenames import cell_text
from ..ledger.file_set import write_file_set
from ..ledger.manifest import json_text
from ..progress import SILENT, Reporter
from ..qupath.store import ImageEntry
from ..review.agreement import Comparison, ReadImage, compare, places_of
from ..review.disagreements import DISAGREEMENTS, as_signs
from ..review.readers import READER_FILE, read_reader
from ..schemes import Scheme
from ..sync.guards import Guards
from ..sync.signs import SignsImage, show_signs
from .agree_reading import MOST_NAMED, Reading, read_project
from .project import Project


@dataclass(frozen=True)
class AgreeResult:
    """How far readers agree.

    Attributes:
        scheme: name and version, ``None`` = the projects name none; lesions are then those measured.
        entries: of each image of the comparison, by reader's position.
        notes: what one must know to read the figures.
        files: written.
    """

    comparison: Comparison
    scheme: str | None
    entries: tuple[Mapping[int, ImageEntry], ...]
    notes: tuple[str, ...]
    files: tuple[Path, ...] = ()

    @property
    def readers(self) -> tuple[str, ...]:
        """Their names, in the order of the projects."""
        return self.comparison.readers

    def disagreement_rows(self) -> list[dict[str, Any]]:
        """What is to be adjudicated, the first to look at first."""
        rows = []
        for rank, d in enumerate(self.comparison.disagreements, 1):
            x0, y0, x1, y1 = (round(v, 2) for v in d.box)
            ids = {name: str(d.ids[k]) if k in d.ids else "" for k, name in enumerate(self.readers)}
            rows.append(
                {
                    "rank": rank,
                    "image": self.comparison.images[d.image].name,
                    "x0_px": x0,
                    "y0_px": y0,
                    "x1_px": x1,
                    "y1_px": y1,
                    "reason": d.reason,
                    "ids": ids,
                }
            )
        return rows

    def as_dict(self) -> dict[str, Any]:
        """For ``--json`` and ``agreement.json``."""
        return {
            "readers": list(self.readers),
            "scheme": self.scheme,
            "images": len(self.entries),
            "pairs": [pair.as_dict(self.readers) for pair in self.comparison.pairs],
            "disagreements": self.disagreement_rows(),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class AdjudicateResult:
    """Disagreements shown in a project, or that would be.

    Attributes:
        write: the id that ``undo`` knows this by, ``None`` if nothing was written.
        missing: names of images with disagreements that the project does not have.
    """

    images: tuple[SignsImage, ...]
    dry_run: bool
    write: str | None
    missing: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "dry_run": self.dry_run,
            "write": self.write,
            "images": [i.as_dict() for i in self.images],
            "missing_images": list(self.missing),
        }


def agree(
    projects: Sequence[Project], *, out: Path | None = None, reporter: Reporter = SILENT
) -> AgreeResult:
    """Compare what readers left in their copies; changes nothing in them.

    Args:
        projects: one per reader.
        out: folder for the tables; ``None`` = none are written.
        reporter: for progress.

    Raises:
        UsageError: fewer than two projects.
        InputError: nothing says who read a project, one reader has two of them, they have no image
            in common or images of other sizes, were graded by different schemes, or hold a grade
            outside its range.
        GlombridgeError: an image cannot be read.
        ProtectedError: another process is writing tables there.
        MachineError: the tables cannot be written; they are as they were.
    """
    if len(projects) < 2:
        msg = (
            "agreement needs the projects of at least two readers: glombridge agree PROJECT PROJECT"
        )
        raise UsageError(msg)
    scheme = _one_scheme(projects)
    entries = common_images([project.store.images() for project in projects])
    _check_images(projects, entries)
    read = [
        read_project(project, scheme, [e[k] for e in entries if k in e], reporter)
        for k, project in enumerate(projects)
    ]
    readers = _readers(projects, read)
    stamps = sorted({stamp for r in read for stamp in r.stamps})
    if len(stamps) > 1 or (scheme is not None and stamps not in ([], [scheme.stamp])):
        known = ", ".join(map(repr, stamps))
        by = f" under the scheme {scheme.stamp!r}" if scheme else ""
        msg = (
            f"these projects hold glomeruli graded with {known}{by}: grades of different schemes cannot "
            "be compared. Let both readers grade with one scheme and version."
        )
        raise InputError(msg)
    patients: list[str | None] = []
    images = []
    for found in entries:
        patients.append(_patient(projects, found))
        findings = [
            read[k].findings[found[k].id] if k in found else () for k in range(len(projects))
        ]
        read_by = frozenset(k for k, entry in found.items() if entry.id in read[k].begun)
        name = found[min(found)].name
        images.append(ReadImage(name, patients[-1], read_by, places_of(findings)))
    settings = projects[0].settings
    comparison = compare(
        readers,
        images,
        _highest_grades(scheme, read),
        resamples=settings.evaluate.resamples,
        seed=settings.seed,
    )
    notes = _notes(readers, read, images, scheme)
    stamp = scheme.stamp if scheme else (stamps[0] if stamps else None)
    result = AgreeResult(comparison, stamp, tuple(entries), notes)
    return result if out is None else replace(result, files=_write(result, out))


def adjudicate(
    result: AgreeResult,
    project: Project,
    *,
    guards: Guards = Guards(),
    reporter: Reporter = SILENT,
) -> AdjudicateResult:
    """Show disagreements in a project as a queue, in place of those shown before.

    Args:
        result: what readers see differently.
        project: to show it in; nothing a human made there is changed.
        guards: dry run or not, and which guards of the project are lifted.
        reporter: for progress.

    Raises:
        InputError: the project has none of the images.
        ProtectedError: QuPath runs, somebody else writes, or an image changed meanwhile.
        PartlyDoneError: some images could not be written.
    """
    firsts = [found[min(found)] for found in result.entries]
    theirs = project.store.images()
    entry_of = {
        firsts.index(pair[0]): pair[1].id
        for pair in common_images([firsts, theirs], required=False)
    }
    if not entry_of:
        msg = f"{project.store.folder} has none of the images that were compared."
        raise InputError(msg)
    images, write = show_signs(
        project.store,
        project.workspace,
        project.settings,
        as_signs(result.comparison.disagreements, entry_of),
        DISAGREEMENTS,
        guards=guards,
        reporter=reporter,
    )
    without = {d.image for d in result.comparison.disagreements} - entry_of.keys()
    missing = tuple(result.comparison.images[k].name for k in sorted(without))
    return AdjudicateResult(images, guards.dry_run, write, missing)


def common_images(
    lists: Sequence[Sequence[ImageEntry]], *, required: bool = True
) -> list[dict[int, ImageEntry]]:
    """Images that at least two projects have, by the project's position.

    Copies keep entry ids and names, so both together tell an image; where they do not, a name that
    each project has only once does.

    Raises:
        InputError: there are none, and some are required.
    """
    groups: dict[tuple[int, str], dict[int, ImageEntry]] = {}
    for k, entries in enumerate(lists):
        for entry in entries:
            groups.setdefault((entry.id, entry.name), {})[k] = entry
    alone = [next(iter(group.items())) for group in groups.values() if len(group) == 1]
    counts = Counter((k, entry.name) for k, entries in enumerate(lists) for entry in entries)
    by_name: dict[str, dict[int, ImageEntry]] = {}
    for k, entry in alone:
        if counts[k, entry.name] == 1:
            by_name.setdefault(entry.name, {})[k] = entry
    found = [g for g in (*groups.values(), *by_name.values()) if len(g) > 1]
    if not found and required:
        shown = "; ".join(", ".join(e.name for e in entries[:5]) or "none" for entries in lists)
        msg = (
            "these projects have no image in common, by name and entry or by name alone. The first "
            f"images of each: {shown}. Compare copies of one project."
        )
        raise InputError(msg)
    return found


def _highest_grades(scheme: Scheme | None, read: Sequence[Reading]) -> dict[str, int]:
    if scheme is not None:
        return {lesion.name: lesion.max for lesion in scheme.lesions}
    highest: dict[str, int] = {}
    for reading in read:
        for finding in (f for found in reading.findings.values() for f in found):
            for lesion, grade in finding.grades.items():
                highest[lesion] = max(highest.get(lesion, 1), grade or 0)
    return dict(sorted(highest.items()))


def _one_scheme(projects: Sequence[Project]) -> Scheme | None:
    schemes = [project.settings.scheme for project in projects]
    said = {
        None if s is None else (s.stamp, tuple((x.name, x.max) for x in s.lesions)) for s in schemes
    }
    if len(said) > 1:
        named = "; ".join(
            f"{p.store.folder.name}: {s.stamp if s else 'none'}"
            for p, s in zip(projects, schemes, strict=True)
        )
        msg = (
            f"these projects name different grading schemes ({named}), or different versions of one. "
            "Readers are compared under one scheme: set 'scheme' in [review] of their settings alike."
        )
        raise InputError(msg)
    return schemes[0]


def _check_images(projects: Sequence[Project], entries: Sequence[Mapping[int, ImageEntry]]) -> None:
    for found in entries:
        sizes = {(e.width, e.height) for e in found.values() if e.width and e.height}
        if len(sizes) > 1:
            told = " and ".join(
                f"{e.width} x {e.height} px in {projects[k].store.folder.name}"
                for k, e in found.items()
            )
            name = found[min(found)].name
            msg = f"image {name!r} has different sizes: {told}. These are not copies of one image."
            raise InputError(msg)


def _readers(projects: Sequence[Project], read: Sequence[Reading]) -> list[str]:
    readers: dict[str, Project] = {}
    names = []
    for project, reading in zip(projects, read, strict=True):
        name = read_reader(project.workspace.folder)
        if name is None and len(reading.reviewers) == 1:
            (name,) = reading.reviewers
        if name is None:
            file = project.workspace.folder / READER_FILE
            others = ", ".join(sorted(reading.reviewers)) or "nobody is named on its objects"
            msg = (
                f"nothing says who read {project.store.folder} ({others}). Write the reader's name "
                f"into {file}; 'glombridge copy --reader NAME' does that for copies."
            )
            raise InputError(msg)
        before = readers.setdefault(name.casefold(), project)
        if before is not project:
            msg = (
                f"{before.store.folder} and {project.store.folder} were both read by {name!r}: give "
                "each reader's project once."
            )
            raise InputError(msg)
        names.append(name)
    return names


def _patient(projects: Sequence[Project], found: Mapping[int, ImageEntry]) -> str | None:
    for k, entry in found.items():
        try:
            return projects[k].patient(entry)
        except InputError:
            continue
    return None


def _notes(
    readers: Sequence[str],
    read: Sequence[Reading],
    images: Sequence[ReadImage],
    scheme: Scheme | None,
) -> tuple[str, ...]:
    notes = []
    if scheme is None:
        notes.append(
            "the settings name no grading scheme: lesions and their highest grades are those found in "
            "the measurements"
        )
    unknown = [image.name for image in images if image.patient is None]
    if unknown:
        notes.append(
            f"the patient of {len(unknown)} images is not known ({unknown[0]}, ...), so there are no "
            "intervals; say in [patients] of the settings where patients come from"
        )
    for k, name in enumerate(readers):
        unread = [image.name for image in images if k not in image.read_by]
        if unread:
            notes.append(
                f"{name} has done nothing in {len(unread)} images ({unread[0]}, ...): they are left out; "
                "an image in which nothing was found is marked as searched"
            )
        others = {r: n for r, n in read[k].reviewers.items() if r.casefold() != name.casefold()}
        if others:
            told = ", ".join(f"{n} by {r}" for r, n in sorted(others.items()))
            notes.append(f"in the project of {name} objects were decided by somebody else: {told}")
        notes += [f"{name}: {text}" for text in read[k].texts[:MOST_NAMED]]
        if len(read[k].texts) > MOST_NAMED:
            notes.append(f"{name}: and {len(read[k].texts) - MOST_NAMED} more contradictions")
    return tuple(notes)


def _write(result: AgreeResult, out: Path) -> tuple[Path, ...]:
    found = [
        {**row, **{f"id {name}": text for name, text in row["ids"].items()}}
        for row in result.disagreement_rows()
    ]
    columns = [
        *("rank", "image", "x0_px", "y0_px", "x1_px", "y1_px", "reason"),
        *(f"id {name}" for name in result.readers),
    ]
    texts = {
        "agreement.csv": _csv(_lesion_rows(result), _LESION_COLUMNS),
        "disagreements.csv": _csv(found, columns),
        "agreement.json": json_text(result.as_dict()),
    }
    tables = write_file_set(out, texts)
    return (tables[-1], *tables[:-1])


def _csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: cell_text(v) if isinstance(v, str) else v for k, v in row.items()})
    return text.getvalue()


_LESION_COLUMNS = [
    *("reader_1", "reader_2", "lesion", "max", "n", "unknown", "agreeing", "weights", "kappa"),
    *("low", "high", "undefined", "patients", "few_patients"),
]


def _lesion_rows(result: AgreeResult) -> list[dict[str, Any]]:
    rows = []
    for pair in result.comparison.pairs:
        for lesion in pair.lesions:
            for weights, value in lesion.kappas.items():
                span = lesion.intervals[weights]
                low, high = span.as_list() if span else (None, None)
                rows.append(
                    {
                        "reader_1": result.readers[pair.first],
                        "reader_2": result.readers[pair.second],
                        "lesion": lesion.lesion,
                        "max": lesion.max,
                        "n": lesion.n,
                        "unknown": lesion.unknown,
                        "agreeing": lesion.agreeing,
                        "weights": weights.value,
                        "kappa": None if value is None else round(value, 6),
                        "low": low,
                        "high": high,
                        "undefined": lesion.why_undefined,
                        "patients": pair.patients,
                        "few_patients": pair.has_few_patients,
                    }
                )
    return rows
