"""The same decisions, by the window's Groovy in a real QuPath and by Python: the same in the ledger.

A project is pushed to and copied. In one copy Groovy decides and QuPath saves, then comes a pull; in
the other :func:`write_decisions` writes the same.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import shapely
from groovy_in_qupath import SCRIPTS, needs_groovy, run_job
from test_decisions import TABLE, decide

from glombridge.ledger import State, Workspace, running_qupath
from glombridge.objects import PathClass, SlideObject
from glombridge.provenance import LESION, RUN
from glombridge.qupath import NativeStore, find_installation, version_numbers
from glombridge.qupath.stored_form import differences
from glombridge.review.session import Deed, write_decisions
from glombridge.settings import Settings
from glombridge.steps.history import history
from glombridge.steps.project import Project
from glombridge.steps.pull import pull
from glombridge.steps.scripts import update_scripts
from glombridge.sync.push import Proposals, push

GROOVY = Path(__file__).parent / "groovy" / "decide_proposals.groovy"
GOLDEN = Path(__file__).parents[1] / "data" / "qupath_golden"
CASES = TABLE["cases"]
IDS = [c["id"] for c in CASES]

pytestmark = [pytest.mark.qupath, needs_groovy]


@dataclass(frozen=True)
class Decided:
    """One copy after its decisions: what the ledger and the data file say, by object."""

    objects: dict[UUID, SlideObject]
    states: dict[UUID, State]
    said: dict[UUID, dict[str, Any]]
    steps: dict[UUID, list[dict[str, Any]]]


def scheme_toml() -> str:
    """The table's scheme as the file that a project names; JSON's strings and lists are TOML's."""
    told = TABLE["scheme"]
    lines = ["format = 1"]
    lines += [f"{k} = {json.dumps(told[k])}" for k in ("name", "version", "title", "dominance")]
    for lesion in told["lesions"]:
        lines.append("[[lesions]]")
        lines += [f"{k} = {json.dumps(v)}" for k, v in lesion.items() if v is not None]
        lines.append('help = "for tests"')
    return "\n".join(lines)


def opened(folder: Path) -> Project:
    store = NativeStore.open(folder)
    workspace = Workspace(store.folder)
    return Project(store, workspace, workspace.settings())


def pushed(folder: Path) -> tuple[int, list[UUID]]:
    """A project of the newest form this QuPath knows, with one proposal for each case."""
    installed = find_installation()
    assert installed is not None
    (*_, golden) = (
        f
        for f in sorted(GOLDEN.glob("v0.?.?"))
        if f.is_dir() and version_numbers(f.name) <= version_numbers(installed.version)
    )
    shutil.copytree(golden, folder)
    workspace = Workspace(folder)
    workspace.folder.mkdir()
    (workspace.folder / "test.toml").write_text(scheme_toml(), "utf-8")
    workspace.create(Settings().with_scheme("test.toml", workspace.folder))
    update_scripts(folder)
    project = opened(folder)
    image = project.store.images()[0].id
    n = len(CASES)
    boxes = np.array([(20.0 + 60 * k, 900.0, 60.0 + 60 * k, 940.0) for k in range(n)])
    whole = shapely.box(0, 0, 10_000, 10_000)
    wanted = Proposals(image, boxes, np.full(n, 0.5), np.zeros(n, np.int64), None, "s", whole)
    push(project.store, project.workspace, project.settings, [wanted], run="detect-1", model="m")
    found = [o for o in project.store.read(image).objects if o.metadata.get(RUN) == "detect-1"]
    assert len(found) == n
    found.sort(key=lambda o: o.outline.bounds if o.outline else ())
    return image, [o.id for o in found]


def by_hand(case: dict[str, Any]) -> str | None:
    """The class that somebody gave the object before it was decided, ``None`` = it is proposed."""
    name: str | None = case["object"]["class"]
    return None if name == "Glomerulus: Proposed" else name


def in_python(case: dict[str, Any]) -> Deed:
    def deed(obj: SlideObject) -> SlideObject:
        name = by_hand(case)
        life = [replace(obj, path_class=PathClass.parse(name)) if name else obj]
        for said in case["decisions"]:
            if said["do"] == "undo":
                life.pop()
            else:
                life.append(decide(life[-1], said))
        return life[-1]

    return deed


def seen(project: Project, image: int, said: dict[UUID, dict[str, Any]]) -> Decided:
    with project.workspace.ledger_view() as ledger:
        states = {b.id: b.state for b in ledger.base(image)}
    # When a step went on record is not when it was decided.
    steps = {
        i: [
            {k: v for k, v in s.as_dict().items() if k != "at"}
            for s in history(project, str(i)).steps
        ]
        for i in states
    }
    objects = {o.id: o for o in project.store.read(image).objects}
    return Decided(objects, states, said, steps)


def said_of(decisions: Any) -> dict[UUID, dict[str, Any]]:
    return {
        d.id: {
            "states": (d.before, d.after),
            "class": d.path_class,
            "by": d.by,
            "at": d.at,
            "seconds": d.seconds,
            "graded": d.graded,
            "grades": dict(d.grades),
            "regraded": d.regraded,
        }
        for d in decisions
    }


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[UUID], Decided, Decided]:
    root = tmp_path_factory.mktemp("both")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running_qupath, "running_qupath", list)
        image, ids = pushed(root / "groovy")
        shutil.copytree(root / "groovy", root / "python")
        deeds = {
            str(i): {"byHand": by_hand(case), "decisions": case["decisions"]}
            for i, case in zip(ids, CASES, strict=True)
        }
        done = run_job(
            GROOVY,
            root,
            shared=str(SCRIPTS / "glombridge_shared.groovy"),
            project=str(root / "groovy" / "project.qpproj"),
            image=str(image),
            deeds=deeds,
        )
        assert done["decided"] == len(CASES)
        theirs = opened(root / "groovy")
        pulled = pull(theirs)
        assert not [p for i in pulled.images if i.entry.id == image for p in i.problems]
        by_groovy = seen(theirs, image, said_of(pulled.decisions[image]))

        ours = opened(root / "python")
        session = write_decisions(
            ours.store,
            ours.workspace,
            ours.settings,
            {image: {i: in_python(case) for i, case in zip(ids, CASES, strict=True)}},
        )
        by_python = seen(ours, image, said_of(session.decisions[image]))
        # A pull of either afterwards finds nothing new.
        assert image not in pull(theirs).decisions
        assert image not in pull(ours).decisions
    return ids, by_groovy, by_python


@pytest.mark.parametrize("number", range(len(CASES)), ids=IDS)
def test_groovy_and_python_leave_the_same(
    both: tuple[list[UUID], Decided, Decided], number: int
) -> None:
    ids, groovy, python = both
    i = ids[number]
    assert groovy.states[i] is python.states[i]
    assert groovy.said.get(i) == python.said.get(i)
    assert groovy.steps[i] == python.steps[i]
    assert not differences(groovy.objects[i], python.objects[i])


def test_the_table_reaches_what_can_become_of_a_proposal(
    both: tuple[list[UUID], Decided, Decided],
) -> None:
    ids, groovy, _ = both
    assert {groovy.states[i] for i in ids} >= {State.ACCEPTED, State.REJECTED, State.PROPOSAL}
    said = [groovy.said[i] for i in ids if i in groovy.said]
    assert {s["by"] for s in said} == {"Dr A"}
    assert any(s["graded"] == "test 1" and s["grades"] for s in said)
    assert any(s["seconds"] is None for s in said)
    assert any(s["seconds"] for s in said)
    named = {LESION + name for s in said for name in s["grades"]}
    assert {LESION + x["name"] for x in TABLE["scheme"]["lesions"]} == named


def test_nothing_else_in_the_image_changed(both: tuple[list[UUID], Decided, Decided]) -> None:
    ids, groovy, python = both
    others = python.objects.keys() - set(ids)
    assert others
    assert groovy.objects.keys() == python.objects.keys()
    assert not [d for i in others for d in differences(groovy.objects[i], python.objects[i])]
