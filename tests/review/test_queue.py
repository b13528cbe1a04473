"""What comes first in a review, and the queue written onto proposals."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
import shapely

from glombridge.cli import main
from glombridge.errors import InputError
from glombridge.ledger import Ledger, State, Workspace
from glombridge.objects import ObjectKind, Outline, PathClass, SlideObject
from glombridge.provenance import CONFIDENCE, QUEUE, QUEUE_RANK, REASON, SCORE_SD
from glombridge.qupath import HierarchyEdit, ImageServerInfo, NativeStore
from glombridge.review.queue import Candidate, Disagreement, Random, Uncertainty, rank, strategy_of
from glombridge.review.queue_writing import QueueResult, write_queue
from glombridge.settings import Settings
from glombridge.steps.project import Project
from glombridge.steps.pull import pull
from glombridge.steps.undo import undo
from glombridge.sync.guards import Guards
from glombridge.sync.push import Proposals, PushResult, push

WHOLE = shapely.box(0, 0, 4000, 3000)


def candidate(
    k: int, score: float, *, sd: float | None = None, others: dict[str, bool] | None = None
) -> Candidate:
    obj = SlideObject(
        UUID(int=k),
        ObjectKind.ANNOTATION,
        Outline.rectangle(0, 0, 9, 9),
        PathClass(("Glomerulus", "Proposed")),
        measurements={CONFIDENCE: score, **({} if sd is None else {SCORE_SD: sd})},
    )
    return Candidate(1, obj, 0.4, "main", others or {})


@pytest.mark.parametrize(
    ("strategy", "candidates", "order"),
    [
        pytest.param(
            Uncertainty(),
            [candidate(1, 0.9), candidate(2, 0.41), candidate(3, 0.35)],
            [2, 3, 1],
            id="nearest-to-the-operating-point",
        ),
        pytest.param(
            Uncertainty(),
            [candidate(1, 0.5), candidate(2, 0.6, sd=0.15), candidate(3, 0.5, sd=0.02)],
            [2, 3, 1],
            id="what-changes-when-mirrored-is-less-sure",
        ),
        pytest.param(
            Uncertainty(), [candidate(2, 0.5), candidate(1, 0.5)], [1, 2], id="ties-go-by-id"
        ),
        pytest.param(
            Disagreement(),
            [
                candidate(1, 0.9, others={"b": True}),
                candidate(2, 0.41),
                candidate(3, 0.8, others={"b": False}),
                candidate(4, 0.5, others={"b": False}),
                candidate(5, 0.5, others={"b": True, "c": False}),
            ],
            [4, 3, 5, 2, 1],
            id="what-one-layer-sees-and-another-does-not",
        ),
    ],
)
def test_what_comes_first(strategy: object, candidates: list[Candidate], order: list[int]) -> None:
    found = rank(candidates, strategy)  # type: ignore[arg-type]
    assert [r.candidate.object.id.int for r in found] == order
    assert [r.rank for r in found] == list(range(1, len(order) + 1))
    assert all(r.reason for r in found)
    shuffled = random.Random(3).sample(candidates, len(candidates))
    assert rank(shuffled, strategy) == found  # type: ignore[arg-type]


def test_chance_goes_by_the_seed_and_by_nothing_else() -> None:
    many = [candidate(k, 0.5) for k in range(200)]
    orders = {s: [r.candidate.object.id for r in rank(many, Random(s))] for s in (0, 0, 1)}
    assert orders[0] != orders[1]
    assert orders[0] == [r.candidate.object.id for r in rank(many[::-1], Random(0))]
    assert orders[0] != sorted(orders[0])
    # What is reviewed meanwhile does not mix up the others.
    rest = [r.candidate.object.id for r in rank(many[:50], Random(0))]
    assert rest == [i for i in orders[0] if i.int < 50]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    store = NativeStore.create(tmp_path / "project")
    for name in "ab":
        info = ImageServerInfo(width=4000, height=3000, mpp_x=0.5, mpp_y=0.5)
        store.add_image(tmp_path / f"{name}.tif", name=f"{name}.tif", metadata=info)
    Workspace(store.folder).create(Settings())
    return Project(store, Workspace(store.folder), Settings())


def pushed(
    project: Project, run: str = "detect-001", layer: str = "main", places: int = 6, dx: float = 0
) -> PushResult:
    wanted = []
    for e in project.store.images():
        xyxy = np.array([(500.0 * k + dx, 100, 500.0 * k + 200 + dx, 300) for k in range(places)])
        score = np.linspace(0.3, 0.9, places) + 0.01 * e.id
        size = (4000, 3000)
        wanted.append(
            Proposals(e.id, xyxy, score, np.zeros(places, np.int64), 0.5, "s", WHOLE, size)
        )
    return push(
        project.store, project.workspace, project.settings, wanted, run=run, model="m", layer=layer
    )


def queue(project: Project, strategy: str = "uncertainty", **more: object) -> QueueResult:
    return write_queue(
        project.store,
        project.workspace,
        project.settings,
        strategy_of(strategy, seed=0),
        seed=0,
        confidences={"detect-001": 0.5, "detect-002": 0.5},
        **more,  # type: ignore[arg-type]
    )


def data_files(project: Project) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(project.store.folder.glob("data/*/*.qpdata"))}


def objects(project: Project) -> list[SlideObject]:
    return [o for e in project.store.images() for o in project.store.read(e.id).objects]


def test_a_queue_leaves_proposals_untouched_and_a_second_one_nothing(project: Project) -> None:
    pushed(project)
    before = data_files(project)
    would = queue(project, guards=Guards(dry_run=True))
    assert (would.changed, would.write, data_files(project)) == (12, None, before)
    done = queue(project)
    assert done.changed == 12
    assert sorted(o.measurements[QUEUE_RANK] for o in objects(project)) == list(range(1, 13))
    assert {o.metadata[QUEUE] for o in objects(project)} == {"uncertainty, seed 0"}
    first = min(objects(project), key=lambda o: o.measurements[QUEUE_RANK])
    assert first.measurements[CONFIDENCE] == pytest.approx(0.55)
    assert "operating point (0.50)" in first.metadata[REASON]

    after = data_files(project)
    history = project.workspace.history.path.read_bytes()
    assert queue(project).write is None
    assert pushed(project).write is None
    assert not pull(project).decisions
    assert data_files(project) == after
    assert project.workspace.history.path.read_bytes().startswith(history)
    with project.workspace.ledger_view() as ledger:
        base = [b for e in project.store.images() for b in ledger.base(e.id)]
    assert {(b.state, b.layer, b.run, b.model) for b in base} == {
        (State.PROPOSAL, "main", "detect-001", "m")
    }
    assert undo(project).write.id == done.write
    assert data_files(project) == before


def test_a_push_that_moves_a_proposal_keeps_its_place_in_the_queue(project: Project) -> None:
    pushed(project)
    queue(project)
    ranks = {o.id: (o.measurements[QUEUE_RANK], o.metadata[REASON]) for o in objects(project)}
    again = pushed(project, "detect-002", dx=9)
    assert again.count("update") == 12
    assert {
        o.id: (o.measurements[QUEUE_RANK], o.metadata[REASON]) for o in objects(project)
    } == ranks
    assert pushed(project, "detect-002", dx=9).write is None
    # What the newer run no longer sees is withdrawn, ranked or not.
    assert pushed(project, "detect-003", places=4).count("withdraw") == 4


def test_only_what_nobody_touched_is_ranked(project: Project) -> None:
    pushed(project)
    image = project.store.images()[0].id
    one, two, three, *_ = project.store.read(image).objects
    mine = (
        replace(one, path_class=PathClass(("Glomerulus",))),
        replace(two, name="ask B"),
        replace(three, locked=False),
    )
    project.store.write(
        image,
        HierarchyEdit(replace=mine),
        expected=project.store.stamp(image),
        snapshot_folder=project.store.folder.parent / "kept",
    )
    assert len(queue(project).ranked) == 9
    after = {o.id: o for o in project.store.read(image).objects}
    assert [after[m.id] for m in mine] == list(mine)


def test_taking_the_queue_away_leaves_what_was_pushed(project: Project) -> None:
    pushed(project)
    before = objects(project)
    queue(project)
    assert queue(project, clear=True).changed == 12
    assert objects(project) == before
    assert queue(project, clear=True).write is None


def test_layers_that_disagree_come_first(project: Project) -> None:
    pushed(project, places=6)
    with pytest.raises(InputError, match="more than one layer"):
        queue(project, "disagreement")
    pushed(project, "detect-002", "second", places=4)
    ranked = queue(project, "disagreement").ranked
    alone, both = ranked[:4], ranked[4:]
    assert {r.reason for r in alone} == {"seen by main, not by second"}
    assert {r.reason for r in both} == {"seen by main and second", "seen by second and main"}
    assert all(r.candidate.object.outline.bounds[0] >= 2000 for r in alone)


@pytest.mark.parametrize("n_images", [2, 9])
def test_what_is_asked_of_all_images_is_asked_once(
    project: Project, monkeypatch: pytest.MonkeyPatch, n_images: int
) -> None:
    info = ImageServerInfo(width=4000, height=3000, mpp_x=0.5, mpp_y=0.5)
    for k in range(n_images - 2):
        project.store.add_image(project.store.folder / f"{k}.tif", name=f"{k}.tif", metadata=info)
    pushed(project)
    calls = []
    for name in ("layers", "states"):
        real = getattr(Ledger, name)
        monkeypatch.setattr(
            Ledger, name, lambda self, real=real: (calls.append(real), real(self))[1]
        )
    assert len(queue(project, guards=Guards(dry_run=True)).ranked) == 6 * n_images
    assert len(calls) == 2


def test_test_patients_are_refused(project: Project) -> None:
    pushed(project)
    before = data_files(project)
    blind = {project.store.images()[1].id}
    with pytest.raises(InputError, match=r"'b\.tif'"):
        queue(project, blind=blind)
    assert data_files(project) == before
    done = queue(project, blind=blind, skip_bad=True)
    assert (len(done.ranked), done.left_out) == (6, ("b.tif",))


def test_the_command(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    pushed(project)
    folder = str(project.store.folder)
    assert main(["queue", folder, "--strategy", "random", "--seed", "7", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [q["rank"] for q in told["queue"]] == list(range(1, 13))
    assert {o.metadata[QUEUE] for o in objects(project)} == {"random, seed 7"}
    assert main(["queue", folder, "--strategy", "random", "--seed", "7"]) == 0
    assert "nothing to write" in capsys.readouterr().out
    assert main(["queue", folder, "--strategy", "disagreement"]) == 3
    assert main(["queue", folder, "--clear", "--dry-run"]) == 0
    assert "would be taken out of the queue: 12" in capsys.readouterr().out
