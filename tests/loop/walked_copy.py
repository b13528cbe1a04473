"""The project that a demo walked, copied to be spoilt."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from glombridge.demo.run import DemoResult
from glombridge.qupath import path_to_uri


def copy_of(walked: DemoResult, copy: Path) -> Path:
    """The walked project in another folder, its slides linked beside it."""
    root = walked.project_file.parent.parent
    copy.mkdir()
    shutil.copytree(root / "project", copy / "project")
    (copy / "slides").mkdir()
    for slide in (root / "slides").glob("*.tif"):
        os.link(slide, copy / "slides" / slide.name)
    # The original slides are still where the project says: point it at the copies.
    file = copy / "project" / "project.qpproj"
    text = file.read_text("utf-8")
    assert path_to_uri(root / "slides") in text
    file.write_text(
        text.replace(path_to_uri(root / "slides"), path_to_uri(copy / "slides")), encoding="utf-8"
    )
    return copy / "project"
