"""A study to be read, and two copies of it that were."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from marked import (
    MARKS,
    as_json,
    decide,
    graded,
    marked,
)

from glombridge.objects import PathClass, SlideObject
from glombridge.qupath import ImageServerInfo, NativeStore


@pytest.fixture
def project(tmp_path: Path) -> Path:
    store = NativeStore.create(tmp_path / "study")
    for name in ("a.tif", "b.tif"):
        info = ImageServerInfo(width=4096, height=3072, mpp_x=0.5, mpp_y=0.5)
        store.add_image(tmp_path / "slides" / name, name=name, metadata=info)
    return marked(store.folder, scheme="three-grade")


def by_anna(obj: SlideObject) -> SlideObject:
    k = [m.id for m in MARKS].index(obj.id)
    return graded(obj, "anna", Slight=int(k < 2), Severe=int(k == 2), Sclerotic=int(k > 2))


def by_bert(obj: SlideObject) -> SlideObject | None:
    k = [m.id for m in MARKS].index(obj.id)
    if k == 4:
        return None
    if k == 3:
        return replace(obj, path_class=PathClass(("Rejected*",)))
    return graded(obj, "bert", Slight=int(k == 0), Severe=int(k > 0), Sclerotic=0)


@pytest.fixture
def readers(project: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Path, Path]:
    """Two copies, read; the second image holds nothing."""
    made = []
    for name, change in (("anna", by_anna), ("bert", by_bert)):
        folder = Path(as_json(capsys, "copy", project, "--reader", name)["copy"])
        decide(folder, 1, change)
        made.append(folder)
    return made[0], made[1]
