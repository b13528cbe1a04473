"""How far readers of the same images agree: which glomeruli they found, and what they see in each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any
from uuid import UUID

import numpy as np

from ..detection.boxes import Floats
from ..evaluation.intervals import Interval, intervals
from ..sync.matching import SAME_IOU, pair_up
from .kappa import Weights, cohen_kappa, table_of

FEW_PATIENTS = 10
"""Fewer patients than this are flagged: intervals over so few say little."""


class Word(str, Enum):
    """What a reader says of a place."""

    GLOMERULUS = "glomerulus"
    REJECTED = "rejected"
    DELETED = "deleted"
    PENDING = "pending"
    """A proposal the reader has not judged yet."""


@dataclass(frozen=True)
class Finding:
    """One object as one reader left it.

    Attributes:
        id: of the object.
        box: bounds of its outline, QuPath px.
        word: what the reader says it is.
        grades: by lesion; ``None`` = the reader has not said.
    """

    id: UUID
    box: tuple[float, float, float, float]
    word: Word
    grades: Mapping[str, int | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """One place of an image, and what each reader says of it.

    Attributes:
        findings: by reader's position; a reader without one says nothing is there.
    """

    findings: Mapping[int, Finding]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Of the first reader who has it."""
        return self.findings[min(self.findings)].box

    def is_glomerulus(self, reader: int) -> bool:
        """Whether a reader has a glomerulus here."""
        found = self.findings.get(reader)
        return found is not None and found.word is Word.GLOMERULUS

    def is_pending(self, reader: int) -> bool:
        """Whether a reader has yet to judge it."""
        found = self.findings.get(reader)
        return found is not None and found.word is Word.PENDING


@dataclass(frozen=True)
class ReadImage:
    """One image that several readers have.

    Attributes:
        name: of the image.
        patient: ``None`` = not known.
        read_by: positions of the readers who have done something in it. Of the others nothing is
            known here: what they do not have is not what they missed.
        places: everything any of them has there.
    """

    name: str
    patient: str | None
    read_by: frozenset[int]
    places: tuple[Place, ...]


def places_of(findings: Sequence[Sequence[Finding]]) -> tuple[Place, ...]:
    """Find out which objects of several readers are the same one; each stands in one place only.

    By id first. What is left is paired one to one by overlap of boxes of at least 0.5, the greatest
    first, reader after reader in the order given; a pure function.

    Args:
        findings: of one image, by reader.
    """
    places: list[dict[int, Finding]] = []
    by_id: dict[UUID, int] = {}
    for reader, found in enumerate(findings):
        left = []
        # In order of place: what overlaps equally must not depend on the order in a file.
        for finding in sorted(found, key=lambda f: (f.box, f.id)):
            at = by_id.get(finding.id)
            if at is None or reader in places[at]:
                left.append(finding)
            else:
                places[at][reader] = finding
        free = [k for k, place in enumerate(places) if reader not in place]
        pairs = pair_up(_boxes(left), _boxes([_first(places[k]) for k in free]))
        matched = {}
        for k, j, iou in zip(pairs.found, pairs.there, pairs.iou, strict=True):
            if iou >= SAME_IOU:  # not by their centres alone
                matched[int(k)] = free[int(j)]
        for k, finding in enumerate(left):
            if k in matched:
                places[matched[k]][reader] = finding
            else:
                places.append({reader: finding})
        by_id = {f.id: k for k, place in enumerate(places) for f in place.values()}
    return tuple(Place(place) for place in places)


@dataclass(frozen=True)
class LesionAgreement:
    """Two readers on one lesion.

    Attributes:
        max: 1 = present or absent, above that the highest grade.
        tables: (patients, K, K) counts: the first reader's grade, the second's.
        unknown: pairs of which at least one reader has not said; in no figure.
        kappas: by weights; ``None`` = not defined.
        intervals: likewise.
    """

    lesion: str
    max: int
    tables: Floats
    unknown: int
    kappas: Mapping[Weights, float | None]
    intervals: Mapping[Weights, Interval | None]

    @property
    def table(self) -> Floats:
        """(K, K) counts over all patients."""
        total: Floats = self.tables.sum(axis=0)
        return total

    @property
    def n(self) -> int:
        """Pairs that both readers have graded."""
        return int(self.table.sum())

    @property
    def agreeing(self) -> int:
        """Of those, the pairs with the same grade."""
        return int(np.trace(self.table))

    @property
    def why_undefined(self) -> str | None:
        """Why there is no kappa; ``None`` = there is one."""
        if self.kappas[Weights.NONE] is not None:
            return None
        if not self.n:
            return "no glomerulus was graded for it by both readers"
        grade = int(np.argmax(np.diag(self.table)))
        return f"undefined: both readers gave {grade} to every glomerulus"

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "lesion": self.lesion,
            "max": self.max,
            "n": self.n,
            "unknown": self.unknown,
            "agreeing": self.agreeing,
            "table": self.table.astype(int).tolist(),
            "kappa": {w.value: _figure(k, self.intervals[w]) for w, k in self.kappas.items()},
            "undefined": self.why_undefined,
        }


@dataclass(frozen=True)
class PairAgreement:
    """Two readers on all images that both have read.

    Attributes:
        first, second: positions of the readers.
        images: that both have read.
        patients: they are of; ``None`` = not known, and then there are no intervals.
        both: glomeruli that both have.
        only_first, only_second: that one of them has and the other rejected, deleted or never marked.
        rejected_by_other: how many of those the other one rejected or deleted.
        pending: places that one of them has yet to judge; in no figure.
        found_agreement: share of agreement on what is a glomerulus, 2 both / (2 both + the others);
            ``None`` = nobody has any.
        found_interval: of that.
        lesions: on the glomeruli that both have.
    """

    first: int
    second: int
    images: int
    patients: int | None
    both: int
    only_first: int
    only_second: int
    rejected_by_other: int
    pending: int
    found_agreement: float | None
    found_interval: Interval | None
    lesions: tuple[LesionAgreement, ...]

    @property
    def has_few_patients(self) -> bool:
        """Whether the intervals say little, if there are any."""
        return self.patients is None or self.patients < FEW_PATIENTS

    def as_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """For ``--json``.

        Args:
            names: of the readers.
        """
        return {
            "readers": [names[self.first], names[self.second]],
            "images": self.images,
            "patients": self.patients,
            "few_patients": self.has_few_patients,
            "found_by_both": self.both,
            "found_only_by": {
                names[self.first]: self.only_first,
                names[self.second]: self.only_second,
            },
            "rejected_by_the_other": self.rejected_by_other,
            "not_judged_yet": self.pending,
            "found_agreement": _figure(self.found_agreement, self.found_interval),
            "lesions": [lesion.as_dict() for lesion in self.lesions],
        }


@dataclass(frozen=True)
class Disagreement:
    """A place of which readers say different things.

    Attributes:
        image: position of the image.
        box: QuPath px.
        ids: of the object, by reader's position, where a reader has one.
        reasons: what each says, a line per question.
        apart: sum of the grades between them; not finding it counts 1.
    """

    image: int
    box: tuple[float, float, float, float]
    ids: Mapping[int, UUID]
    reasons: tuple[str, ...]
    apart: int

    @property
    def reason(self) -> str:
        """All of them in one line."""
        return "; ".join(self.reasons)


@dataclass(frozen=True)
class Comparison:
    """What several readers have in common, and not; see :func:`compare`."""

    readers: tuple[str, ...]
    images: tuple[ReadImage, ...]
    max_of: Mapping[str, int]
    resamples: int
    seed: int

    @cached_property
    def pairs(self) -> tuple[PairAgreement, ...]:
        """Every two readers."""
        n = len(self.readers)
        return tuple(self._pair(a, b) for a in range(n) for b in range(a + 1, n))

    @cached_property
    def disagreements(self) -> tuple[Disagreement, ...]:
        """What is to be adjudicated: the widest apart first, then by image and place."""
        found = [
            d
            for k, image in enumerate(self.images)
            for place in image.places
            if (d := self._disagreement(k, image, place)) is not None
        ]
        return tuple(sorted(found, key=lambda d: (-d.apart, d.image, d.box)))

    def _pair(self, a: int, b: int) -> PairAgreement:
        common = [image for image in self.images if {a, b} <= image.read_by]
        patients = sorted({image.patient for image in common if image.patient is not None})
        is_known = all(image.patient is not None for image in common)
        at = {patient: k for k, patient in enumerate(patients)} if is_known else {}
        # (patients, 3): both, only the first, only the second.
        counts = np.zeros((max(len(at), 1), 3))
        shared: list[tuple[int, Finding, Finding]] = []
        rejected = pending = 0
        for image in common:
            patient = at[image.patient] if at and image.patient is not None else 0
            for place in image.places:
                has = (place.is_glomerulus(a), place.is_glomerulus(b))
                if place.is_pending(a) or place.is_pending(b):
                    pending += 1
                elif all(has):
                    counts[patient, 0] += 1
                    shared.append((patient, place.findings[a], place.findings[b]))
                elif any(has):
                    counts[patient, 1 if has[0] else 2] += 1
                    rejected += (b if has[0] else a) in place.findings
        both, only_first, only_second = (int(n) for n in counts.sum(axis=0))
        n_patients = len(at) if at else 0
        found = {"found": lambda weights: _dice(weights @ counts)}
        return PairAgreement(
            first=a,
            second=b,
            images=len(common),
            patients=len(at) if is_known else None,
            both=both,
            only_first=only_first,
            only_second=only_second,
            rejected_by_other=rejected,
            pending=pending,
            found_agreement=_dice(counts.sum(axis=0)),
            found_interval=self._intervals(found, n_patients)["found"],
            lesions=tuple(
                self._lesion(name, highest, shared, n_patients)
                for name, highest in self.max_of.items()
            ),
        )

    def _lesion(
        self,
        lesion: str,
        highest: int,
        shared: Sequence[tuple[int, Finding, Finding]],
        n_patients: int,
    ) -> LesionAgreement:
        graded = [
            (patient, one, other)
            for patient, first, second in shared
            if (one := first.grades.get(lesion)) is not None
            and (other := second.grades.get(lesion)) is not None
        ]
        rows = np.array(graded, np.float64).reshape(-1, 3)
        tables = np.array(
            [
                _table(rows[rows[:, 0] == patient, 1:], highest + 1)
                for patient in range(max(n_patients, 1))
            ]
        )
        wanted = (Weights.NONE,) if highest == 1 else tuple(Weights)
        statistics = {
            w.value: lambda weights, w=w: cohen_kappa(np.tensordot(weights, tables, 1), w)
            for w in wanted
        }
        spans = self._intervals(statistics, n_patients)
        return LesionAgreement(
            lesion,
            highest,
            tables,
            len(shared) - len(graded),
            {w: cohen_kappa(tables.sum(axis=0), w) for w in wanted},
            {w: spans[w.value] for w in wanted},
        )

    def _intervals(self, statistics: Mapping[str, Any], n: int) -> dict[str, Interval | None]:
        return intervals(statistics, n, resamples=self.resamples, seed=self.seed)

    def _disagreement(self, at: int, image: ReadImage, place: Place) -> Disagreement | None:
        said = [r for r in sorted(image.read_by) if not place.is_pending(r)]
        have = [r for r in said if place.is_glomerulus(r)]
        if not have or len(said) < 2:
            return None
        reasons = []
        apart = 0
        if len(have) < len(said):
            words = {r: self._word(place, r) for r in said}
            reasons.append(", ".join(f"{self.readers[r]}: {word}" for r, word in words.items()))
            apart += 1
        for lesion in self.max_of:
            grades = {r: place.findings[r].grades.get(lesion) for r in have}
            known = {r: g for r, g in grades.items() if g is not None}
            if len(set(known.values())) > 1:
                told = ", ".join(f"{self.readers[r]}: {g}" for r, g in known.items())
                reasons.append(f"{lesion} ({told})")
                apart += max(known.values()) - min(known.values())
        if not reasons:
            return None
        ids = {r: f.id for r, f in place.findings.items()}
        return Disagreement(at, place.box, ids, tuple(reasons), apart)

    @staticmethod
    def _word(place: Place, reader: int) -> str:
        found = place.findings.get(reader)
        return "nothing there" if found is None else found.word.value


def compare(
    readers: Sequence[str],
    images: Iterable[ReadImage],
    max_of: Mapping[str, int],
    *,
    resamples: int,
    seed: int,
) -> Comparison:
    """Compare what several readers left; a pure function.

    Kappa is over the glomeruli that two readers both have, in images both have read. A lesion one of
    them has not graded is left out there and counted. Intervals resample patients.

    Args:
        readers: their names.
        images: that at least two of them have.
        max_of: by lesion, the highest grade.
        resamples: of patients.
        seed: of those.
    """
    return Comparison(tuple(readers), tuple(images), dict(max_of), resamples, seed)


def _table(pairs: Floats, grades: int) -> Floats:
    return table_of(pairs[:, 0], pairs[:, 1], grades)


def _dice(counts: Floats) -> float | None:
    total = 2 * counts[0] + counts[1] + counts[2]
    return float(2 * counts[0] / total) if total else None


def _figure(value: float | None, interval: Interval | None) -> dict[str, Any]:
    return {
        "value": None if value is None else round(value, 6),
        "interval": None if interval is None else interval.as_list(),
    }


def _first(place: Mapping[int, Finding]) -> Finding:
    return place[min(place)]


def _boxes(findings: Sequence[Finding]) -> Floats:
    return np.array([f.box for f in findings], np.float64).reshape(-1, 4)
