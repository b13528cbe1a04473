"""A study small enough to paint in a second, painted once for all tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from glombridge.demo.slides import SlidePlan, SlideTruth, StudyOptions, paint_study, plan_study

TINY = StudyOptions(
    n_annotated_patients=1,
    n_annotated_slides=2,
    n_unannotated_patients=1,
    n_unannotated_slides=1,
    cores_per_slide=(1, 1),
    tissue_length_um=(1100.0, 1250.0),
    core_length_um=(1000.0, 1300.0),
    core_width_um=(680.0, 780.0),
    margin_um=120.0,
    glomeruli_per_slide=(4, 4),
    medulla_share=(0.0, 0.0),
    distractors_per_mm2=3.0,
)


@dataclass(frozen=True)
class Painted:
    plans: list[SlidePlan]
    truths: list[SlideTruth]
    folder: Path


@pytest.fixture(scope="session")
def tiny_options() -> StudyOptions:
    return TINY


@pytest.fixture(scope="session")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Painted:
    folder = tmp_path_factory.mktemp("tiny study")
    plans = plan_study(3, TINY)
    return Painted(plans, paint_study(plans, folder, workers=1), folder)
