"""A study so small that the whole loop over it takes seconds; its detector need not be good."""

from __future__ import annotations

from glombridge.demo.run import demo_settings
from glombridge.demo.study import StudyOptions
from glombridge.settings import Settings

TINY_STUDY = StudyOptions(
    n_annotated_patients=3,
    n_annotated_slides=4,
    n_unannotated_patients=1,
    n_unannotated_slides=1,
    cores_per_slide=(1, 1),
    tissue_length_um=(2200.0, 2400.0),
    core_length_um=(2000.0, 2500.0),
    core_width_um=(680.0, 780.0),
    margin_um=120.0,
    glomeruli_per_slide=(6, 7),
    medulla_share=(0.0, 0.0),
)


def tiny_settings(seed: int) -> Settings:
    """The demo's settings with just enough training to see something."""
    settings = demo_settings(seed)
    return settings.model_copy(
        update={
            "train": settings.train.model_copy(
                update={"epochs": 40, "batch": 4, "learning_rate": 0.004}
            ),
            "evaluate": settings.evaluate.model_copy(update={"target": "recall"}),
        }
    )
