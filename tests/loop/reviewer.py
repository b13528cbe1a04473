"""A reviewer at work on a project, who remembers what she did and checks every promise against it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import numpy as np
import shapely
from folders import files_in

from glombridge.detection.boxes import pair_overlaps
from glombridge.ledger import State, Workspace
from glombridge.objects import ObjectKind, Outline, PathClass, SlideObject
from glombridge.qupath import HierarchyEdit, ImageServerInfo, NativeStore
from glombridge.qupath.stored_form import as_stored, differences
from glombridge.settings import Settings
from glombridge.steps.project import Project
from glombridge.steps.pull import pull
from glombridge.sync.push import Proposals, PushResult, push

SPACE = UUID("22222222-2222-5333-8444-555555555555")
SIZE = 8000
GLOMERULUS, SCLEROTIC = PathClass(("Glomerulus",)), PathClass(("Glomerulus", "Sclerotic"))
REJECTED = PathClass(("Rejected*",))
SETTINGS = Settings(classes={"Glomerulus": ["Glomerulus", "Glomerulus: Sclerotic"]})

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Model:
    """A detector that finds some of what is there, in its own way, and some of what is not."""

    seed: int
    misses: float
    jitter_px: float
    false: int

    def look(self, image: int, glomeruli: list[Box]) -> Proposals:
        r = random.Random(f"{self.seed} {image}")
        boxes = [
            tuple(v + r.uniform(-self.jitter_px, self.jitter_px) for v in box)
            for box in glomeruli
            if r.random() >= self.misses
        ]
        # The same few false places for every model, as real ones do, and some of its own.
        for k in range(self.false):
            x, y = (3000.0 + 400 * k, 7000.0) if k < 3 else (500.0 * (self.seed % 15) + 300, 7500.0)
            boxes.append((x, y, x + 200, y + 200))
        xyxy = np.array(boxes, float).reshape(-1, 4)
        scores = np.array([r.uniform(0.3, 0.95) for _ in boxes])
        whole = shapely.box(0, 0, SIZE, SIZE)
        size = (SIZE, SIZE)
        return Proposals(
            image, xyxy, scores, np.zeros(len(boxes), np.int64), 0.5, f"slide {image}", whole, size
        )


@dataclass
class Reviewer:
    """The project, and what its reviewer knows to have done."""

    project: Project
    models: dict[str, Model]
    human: dict[tuple[int, UUID], SlideObject] = field(default_factory=dict)
    verdicts: dict[tuple[int, UUID], State] = field(default_factory=dict)
    refused: dict[int, list[Box]] = field(default_factory=lambda: {1: [], 2: [], 3: []})

    def glomeruli(self, image: int) -> list[Box]:
        r = random.Random(f"truth {image}")
        places = [(x * 600.0 + 100, y * 600.0 + 100) for x in range(12) for y in range(10)]
        chosen = r.sample(places, 30)
        return [(x, y, x + r.choice([200, 240]), y + 220.0) for x, y in chosen]

    def objects(self, image: int) -> dict[UUID, SlideObject]:
        return {o.id: o for o in self.project.store.read(image).objects}

    def pending(self, image: int, layer: str = "main") -> dict[UUID, SlideObject]:
        """Proposals that are as we pushed them."""
        with self.project.workspace.ledger_view() as ledger:
            ours = {b.id for b in ledger.base(image) if b.layer == layer}
        return {
            i: o
            for i, o in self.objects(image).items()
            if i in ours
            and (image, i) not in self.human
            and str(o.path_class) == "Glomerulus: Proposed"
        }

    def save(self, image: int, **edit: Any) -> None:
        """A human saves in QuPath."""
        store = self.project.store
        made = HierarchyEdit(**edit)
        store.write(
            image,
            made,
            expected=store.read(image).stamp,
            snapshot_folder=store.folder.parent / "the-human-keeps-none",
        )
        for obj in (*made.add, *made.replace):
            self.human[image, obj.id] = obj
        for i in made.remove:
            self.human.pop((image, i), None)

    def push(
        self, run: str, *, layer: str = "main", images: tuple[int, ...] = (1, 2, 3)
    ) -> PushResult:
        model = self.models[run]
        return push(
            self.project.store,
            self.project.workspace,
            self.project.settings,
            [model.look(i, self.glomeruli(i)) for i in images],
            run=run,
            model=f"model {model.seed}",
            layer=layer,
        )

    def draw(self, image: int, boxes: list[Box], path_class: PathClass) -> None:
        drawn = [
            SlideObject(
                id=uuid5(SPACE, f"{image} {box} {path_class}"),
                kind=ObjectKind.ANNOTATION,
                outline=Outline.ellipse(*box),
                path_class=path_class,
            )
            for box in boxes
        ]
        self.save(image, add=tuple(drawn))
        for obj in drawn:
            self.verdicts[image, obj.id] = State.ADDED

    def review(self, image: int, seed: int) -> None:
        """Accept, reject, delete, move, reclassify, grade and edit, some of each."""
        r = random.Random(f"review {image} {seed}")
        glomeruli = np.array(self.glomeruli(image))
        change: list[SlideObject] = []
        remove: list[UUID] = []
        for n, (i, obj) in enumerate(sorted(self.pending(image).items(), key=lambda x: str(x[0]))):
            x0, y0, x1, y1 = obj.outline.bounds
            is_one = (pair_overlaps(np.array([obj.outline.bounds]), glomeruli)[2] > 0).any()
            deed = r.choice(["accept", "grade", "edit", "move", "artery", "nothing"])
            if not is_one:
                deed = r.choice(["reject", "delete"])
            if n == 0:
                deed = (
                    "nothing"  # so that a save never looks like one of a QuPath that knew no push
                )
            if deed == "accept":
                change.append(replace(obj, path_class=GLOMERULUS))
                self.verdicts[image, i] = State.ACCEPTED
            elif deed == "grade":
                change.append(replace(obj, path_class=SCLEROTIC, locked=False, name="G3"))
                self.verdicts[image, i] = State.ACCEPTED
            elif deed == "edit":
                better = Outline.ellipse(x0 + 5, y0 - 5, x1 + 5, y1 - 5)
                made = replace(obj, path_class=GLOMERULUS, outline=Outline.of(better.geometry))
                change.append(as_stored(made))
                self.verdicts[image, i] = State.EDITED
            elif deed == "move":
                change.append(
                    replace(obj, outline=Outline.rectangle(x0 + 40, y0 + 20, x1 + 40, y1 + 20))
                )
                self.verdicts[image, i] = State.MOVED
            elif deed == "artery":
                change.append(replace(obj, path_class=PathClass(("Artery",))))
                self.verdicts[image, i] = State.RECLASSIFIED
            elif deed == "reject":
                change.append(replace(obj, path_class=REJECTED))
                self.verdicts[image, i] = State.REJECTED
                self.refused[image].append(obj.outline.bounds)
            elif deed == "delete":
                remove.append(i)
                self.verdicts[image, i] = State.DELETED
                self.refused[image].append(obj.outline.bounds)
        self.save(image, replace=tuple(change), remove=frozenset(remove))

    def check(self) -> None:
        """Every promise, object by object."""
        for image in (1, 2, 3):
            there = self.objects(image)
            for (at, i), left in self.human.items():
                if at == image:
                    assert i in there, f"a human's object {i} is gone"
                    assert not differences(there[i], left), f"a human's object {i} was changed"
            pending = [o.outline.bounds for o in self.pending(image).values()]
            boxes = np.array(pending, float).reshape(-1, 4)
            i, j, shared, union = pair_overlaps(boxes, boxes)
            assert not ((i != j) & (shared >= 0.5 * union)).any(), "a proposal stands twice"
            humans = [left.outline.bounds for (at, _), left in self.human.items() if at == image]
            # Where a human has decided, nothing is proposed.
            for judged in (humans, self.refused[image]):
                _, _, shared, union = pair_overlaps(boxes, np.array(judged, float).reshape(-1, 4))
                assert not (shared >= 0.5 * union).any(), "proposed where a human has decided"

    def check_states(self) -> None:
        with self.project.workspace.ledger_view() as ledger:
            found = {(n, b.id): b.state for n in (1, 2, 3) for b in ledger.base(n)}
            drawn = {(n, i) for n in (1, 2, 3) for i in ledger.drawn(n)}
        for key, state in self.verdicts.items():
            if state is State.ADDED:
                assert key in drawn
            else:
                assert found[key] is state, (key, state, found[key])

    def check_pull(self) -> None:
        result = pull(self.project)
        truth = {(i.entry.id, t.object.id) for i in result.images for t in i.roles.truth}
        expected = {
            k for k, s in self.verdicts.items() if s in (State.ACCEPTED, State.EDITED, State.ADDED)
        }
        assert truth == expected
        rejected = {(i.entry.id, o.id) for i in result.images for o in i.roles.rejected}
        assert rejected == {k for k, s in self.verdicts.items() if s is State.REJECTED}
        hard = {(i.entry.id, o.id) for i in result.images for o in i.roles.hard_negatives}
        assert hard <= rejected
        pending = {(i.entry.id, o.id) for i in result.images for o in i.roles.pending}
        moved = {k for k, s in self.verdicts.items() if s is State.MOVED}
        assert moved <= pending
        assert pending.isdisjoint(truth | rejected)

    def check_again(self, run: str, **options: Any) -> None:
        """The same push once more changes no byte of any file."""
        before = everything(self.project)
        again = self.push(run, **options)
        assert again.write is None
        assert everything(self.project) == before


def made_project(folder: Path) -> Project:
    """Three images of which no slide is there: merging needs no pixels."""
    made = NativeStore.create(folder / "project", "0.4.4")
    for name in "abc":
        made.add_image(
            folder / f"{name}.tif",
            name=f"{name}.tif",
            metadata=ImageServerInfo(width=SIZE, height=SIZE, mpp_x=0.5, mpp_y=0.5),
        )
    workspace = Workspace(made.folder)
    workspace.create(SETTINGS)
    return Project(made, workspace, SETTINGS)


def everything(project: Project) -> dict[str, bytes]:
    folder = project.store.folder
    return files_in(folder)
