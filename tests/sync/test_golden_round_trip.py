"""The round trip on projects that each QuPath version wrote: what was there stays, to the byte."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
import shapely

from glombridge.ledger import State, Workspace
from glombridge.objects import PathClass, SlideObject
from glombridge.qupath import HierarchyEdit, NativeStore
from glombridge.qupath.stored_form import differences
from glombridge.settings import Settings
from glombridge.sync import pull, push
from glombridge.sync.push import Proposals, PushResult

GOLDEN = Path(__file__).parents[1] / "data" / "qupath_golden"
VERSIONS = sorted(
    p.name for p in GOLDEN.iterdir() if p.is_dir() and p.name.count(".") == 2 and "-" not in p.name
)
PLACES = [(20.0 + 60 * k, 900.0, 60.0 + 60 * k, 940.0) for k in range(6)]


@pytest.mark.parametrize("version", VERSIONS)
def test_two_rounds(version: str, tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / version, tmp_path / "p")
    store = NativeStore.open(tmp_path / "p")
    workspace = Workspace(store.folder)
    workspace.create(Settings())
    whole = shapely.box(0, 0, 10_000, 10_000)
    before = {e.id: store.read(e.id).objects for e in store.images()}

    def run(name: str, dx: float = 0.0) -> PushResult:
        xyxy = np.array(PLACES) + np.array([dx, 0, dx, 0])
        n = len(xyxy)
        wanted = [
            Proposals(e.id, xyxy, np.full(n, 0.5), np.zeros(n, np.int64), None, "s", whole)
            for e in store.images()
        ]
        return push(store, workspace, Settings(), wanted, run=name, model="m")

    def ours(image: int) -> dict[UUID, SlideObject]:
        known = (
            {o.id for o in before[image]}
            if before[image] and before[image][0].id_is_stored
            else set()
        )
        return {
            o.id: o
            for o in store.read(image).objects
            if "glombridge.run" in o.metadata and o.id not in known
        }

    first = run("detect-001")
    assert first.added == len(PLACES) * len(before)
    for image in before:
        accepted, rejected, deleted, moved, *_ = sorted(
            ours(image).values(), key=lambda o: o.outline.bounds if o.outline else ()
        )
        store.write(
            image,
            HierarchyEdit(
                replace=(
                    replace(accepted, path_class=PathClass(("Glomerulus",))),
                    replace(rejected, path_class=PathClass(("Rejected*",))),
                    replace(moved, name="look"),
                ),
                remove=frozenset([deleted.id]),
            ),
            expected=store.stamp(image),
            snapshot_folder=tmp_path / "kept",
        )
        result = pull(store, workspace, Settings())
        states = {d.id: d.after for d in result.decisions[image] if d.before is State.PROPOSAL}
        assert states == {
            accepted.id: State.ACCEPTED,
            rejected.id: State.REJECTED,
            deleted.id: State.DELETED,
        }
    second = run("detect-002", dx=3)
    for image, plan in zip(before, second.plans, strict=True):
        p = plan.plan
        assert (len(p.add), len(p.update), len(p.known), len(p.suppressed)) == (0, 2, 2, 2)
        after = [o for o in store.read(image).objects if o.id not in ours(image)]
        # Ids of 0.3 are made from the place in the file; ours stand behind what was there.
        assert len(after) == len(before[image])
        for old, new in zip(before[image], after, strict=True):
            assert (new.id, new.parent) == (old.id, old.parent)
            assert not differences(new, old)
    assert run("detect-002", dx=3).write is None
