"""The plan of a demo study."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from glombridge.demo.study import PATIENT_PATTERN, Stain, StudyOptions, plan_study
from glombridge.errors import UsageError

SEEDS = [0, 1, 7, 123456789]


@pytest.mark.parametrize("seed", SEEDS)
def test_default_study_has_the_promised_slides(seed: int) -> None:
    plans = plan_study(seed)
    assert len(plans) == 17
    assert sum(p.annotated for p in plans) == 13
    assert len({p.patient for p in plans if p.annotated}) == 9
    assert len({p.patient for p in plans if not p.annotated}) == 2
    assert set(Counter(p.patient for p in plans).values()) <= {1, 2, 3}
    assert len({p.name for p in plans}) == len(plans)


@pytest.mark.parametrize("seed", SEEDS)
def test_unannotated_patients_are_nobody_elses(seed: int) -> None:
    plans = plan_study(seed)
    marked = {p.patient for p in plans if p.annotated}
    unmarked = {p.patient for p in plans if not p.annotated}
    assert not marked & unmarked


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("annotated", [True, False])
def test_both_stains_are_in_each_group(seed: int, annotated: bool) -> None:
    stains = Counter(p.stain for p in plan_study(seed) if p.annotated is annotated)
    assert set(stains) == set(Stain)
    assert max(stains.values()) - min(stains.values()) <= 1


def test_patient_and_stain_can_be_read_from_the_name() -> None:
    for plan in plan_study(5):
        match = re.search(PATIENT_PATTERN, plan.name)
        assert match is not None
        assert match[1] == plan.patient
        assert plan.stain.value in plan.name
        assert plan.name.endswith(".tif")


def test_same_seed_same_plan_other_seed_other_plan() -> None:
    assert plan_study(4) == plan_study(4)
    assert plan_study(4) != plan_study(5)


@pytest.mark.parametrize("n_slides", [1, 7], ids=["too few", "too many"])
def test_slides_that_cannot_be_shared_are_refused(n_slides: int) -> None:
    with pytest.raises(UsageError, match=rf"{n_slides} annotated slides cannot be shared among 2"):
        StudyOptions(n_annotated_patients=2, n_annotated_slides=n_slides)


def test_negative_seed_is_refused() -> None:
    with pytest.raises(UsageError, match="got -1"):
        plan_study(-1)
