"""The plan of a demo study: which patients, which slides, which stain, which are left unmarked."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from ..errors import UsageError

MAX_SLIDES_PER_PATIENT = 3
"""A needle biopsy rarely leaves more levels than this on file."""

MPP = 0.5
"""Micrometres per level-0 pixel of every demo slide, as of a 20x scan."""

PATIENT_PATTERN = r"^(P\d+)-"
"""Finds the patient in a demo slide's name; its one group is the patient's code."""


class Stain(str, Enum):
    """What the simulated laboratory stained the section with."""

    PAS = "PAS"
    HE = "HE"


@dataclass(frozen=True)
class StudyOptions:
    """All that can be chosen about a demo study. Ranges are inclusive, lengths are of tissue.

    Attributes:
        n_annotated_patients: patients all of whose slides the simulated pathologist marks.
        n_annotated_slides: their slides together, one to three of each patient.
        n_unannotated_patients: patients nobody has marked: honestly held out.
        n_unannotated_slides: their slides together.
        cores_per_slide: least and most tissue cores on one slide.
        tissue_length_um: length of all cores of a slide together, shared among them.
        core_length_um: least and most length of one core.
        core_width_um: least and most width of one core.
        margin_um: bright glass around and between the cores.
        glomeruli_per_slide: least and most glomeruli asked for; crowded tissue may hold fewer.
        sclerotic_share: probability that a glomerulus is sclerotic.
        medulla_share: least and most share of a core's length that is medulla.
        distractors_per_mm2: things that are no glomeruli but about as large.
        artefacts: whether slides may carry folds, pen marks and air bubbles.
        jpeg_quality: of the tiles, 1 to 100.
    """

    n_annotated_patients: int = 9
    n_annotated_slides: int = 13
    n_unannotated_patients: int = 2
    n_unannotated_slides: int = 4
    cores_per_slide: tuple[int, int] = (1, 3)
    tissue_length_um: tuple[float, float] = (15000.0, 18500.0)
    core_length_um: tuple[float, float] = (5500.0, 10300.0)
    core_width_um: tuple[float, float] = (620.0, 960.0)
    margin_um: float = 200.0
    glomeruli_per_slide: tuple[int, int] = (18, 26)
    sclerotic_share: float = 0.13
    medulla_share: tuple[float, float] = (0.0, 0.3)
    distractors_per_mm2: float = 0.6
    artefacts: bool = True
    jpeg_quality: int = 80

    def __post_init__(self) -> None:
        for patients, slides, what in (
            (self.n_annotated_patients, self.n_annotated_slides, "annotated"),
            (self.n_unannotated_patients, self.n_unannotated_slides, "unannotated"),
        ):
            if not patients <= slides <= MAX_SLIDES_PER_PATIENT * patients:
                msg = (
                    f"{slides} {what} slides cannot be shared among {patients} patients: each has "
                    f"one to {MAX_SLIDES_PER_PATIENT}. Change n_{what}_slides or n_{what}_patients."
                )
                raise UsageError(msg)


@dataclass(frozen=True)
class SlidePlan:
    """One slide to paint; holds all that its pixels depend on.

    Attributes:
        name: file name, for example ``P03-2_PAS.tif``.
        patient: the code before the dash of the name.
        stain: of this section.
        seed: the study's seed.
        index: the slide's number in the study from 0; with the seed it fixes every pixel.
        annotated: whether the simulated pathologist marks it.
        options: of the study.
    """

    name: str
    patient: str
    stain: Stain
    seed: int
    index: int
    annotated: bool
    options: StudyOptions = field(default_factory=StudyOptions)

    def rng(self, purpose: int = 0) -> np.random.Generator:
        """A fresh generator for one purpose of this slide, the same at each call."""
        return np.random.default_rng(np.random.SeedSequence([self.seed, self.index, purpose]))


def plan_study(seed: int, options: StudyOptions | None = None) -> list[SlidePlan]:
    """Share the slides among patients and choose stains.

    Args:
        seed: any integer from 0; the same seed and options give the same plan.
        options: the study's size and tissue; the default is 17 slides of 11 patients.

    Returns:
        One plan per slide, in order of patient and slide. Unannotated slides belong to patients
        of their own.

    Raises:
        UsageError: a negative seed.
    """
    options = options or StudyOptions()
    if seed < 0:
        msg = f"the seed must be 0 or above, got {seed}"
        raise UsageError(msg)
    rng = np.random.default_rng(np.random.SeedSequence([seed]))
    n_patients = options.n_annotated_patients + options.n_unannotated_patients
    is_annotated = np.arange(n_patients) < options.n_annotated_patients
    rng.shuffle(is_annotated)
    of_annotated = iter(_share(rng, options.n_annotated_slides, options.n_annotated_patients))
    of_others = iter(_share(rng, options.n_unannotated_slides, options.n_unannotated_patients))
    owners = [
        (f"P{number:02d}", slide, bool(annotated))
        for number, annotated in enumerate(is_annotated, start=1)
        for slide in range(1, 1 + next(of_annotated if annotated else of_others))
    ]
    # Alternate before shuffling, so that both stains are in each group, marked and unmarked.
    stains = list(Stain)
    chosen: dict[bool, list[Stain]] = {}
    for annotated in (True, False):
        n = sum(owner[2] is annotated for owner in owners)
        order = rng.permutation(n)
        chosen[annotated] = [stains[int(i) % len(stains)] for i in order]
    plans: list[SlidePlan] = []
    for index, (patient, slide, annotated) in enumerate(owners):
        stain = chosen[annotated].pop()
        name = f"{patient}-{slide}_{stain.value}.tif"
        plans.append(SlidePlan(name, patient, stain, seed, index, annotated, options))
    return plans


def _share(rng: np.random.Generator, n_slides: int, n_patients: int) -> list[int]:
    counts = np.ones(n_patients, dtype=int)
    for _ in range(n_slides - n_patients):
        open_to = np.flatnonzero(counts < MAX_SLIDES_PER_PATIENT)
        counts[rng.choice(open_to)] += 1
    return [int(n) for n in counts]
