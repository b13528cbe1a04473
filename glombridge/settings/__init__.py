"""The settings of a project: ``glombridge/glombridge.toml``, checked when it is read."""

from __future__ import annotations

from .file import load_settings, render_settings
from .sections import (
    DEFAULT_CLASS,
    PAPER_TILES,
    DetectSettings,
    EvaluateSettings,
    PatientSettings,
    PatientSource,
    ProjectSettings,
    PushSettings,
    ReviewSettings,
    SplitSettings,
    TileSettings,
    TrainSettings,
    parse_overlap,
)
from .settings import Settings

__all__ = [
    "DEFAULT_CLASS",
    "PAPER_TILES",
    "DetectSettings",
    "EvaluateSettings",
    "PatientSettings",
    "PatientSource",
    "ProjectSettings",
    "PushSettings",
    "ReviewSettings",
    "Settings",
    "SplitSettings",
    "TileSettings",
    "TrainSettings",
    "load_settings",
    "parse_overlap",
    "render_settings",
]
