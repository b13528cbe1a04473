"""A scripted reviewer over projects of each QuPath: decisions go in, states, grades and times come out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import shapely

from glombridge.errors import InputError, UsageError
from glombridge.ledger import State, Workspace
from glombridge.objects import SlideObject
from glombridge.provenance import GRADED, LESION, RUN, SECONDS
from glombridge.qupath import (
    HierarchyEdit,
    NativeStore,
    PaquoStore,
    find_installation,
    version_numbers,
)
from glombridge.qupath.stored_form import differences
from glombridge.review.decisions import (
    Reader,
    Rules,
    accept,
    grading_done,
    reject,
    set_lesion,
    ungrade,
    unlock,
)
from glombridge.review.session import write_decisions
from glombridge.settings import ReviewSettings, Settings
from glombridge.steps.history import history
from glombridge.steps.project import Project
from glombridge.steps.pull import pull
from glombridge.steps.undo import undo
from glombridge.sync.guards import Guards
from glombridge.sync.push import Proposals, push

GOLDEN = Path(__file__).parents[1] / "data" / "qupath_golden"
VERSIONS = ["v0.4.4", "v0.5.1", "v0.6.0", "v0.7.0"]
SETTINGS = Settings(review=ReviewSettings(scheme="lupus"))
SCHEME = SETTINGS.scheme
assert SCHEME is not None
RULES = Rules.of(SETTINGS)
PLACES = [(20.0 + 60 * k, 900.0, 60.0 + 60 * k, 940.0) for k in range(6)]
CRESCENT, OTHER = (next(x for x in SCHEME.lesions if x.name == n) for n in SCHEME.dominance[-3:-1])


def dr(name: str, minute: int, seconds: float | None = None) -> Reader:
    return Reader(name, f"2026-11-25T08:{minute:02d}:00Z", seconds)


@pytest.fixture(
    params=[
        pytest.param((store, version), id=f"{store}-{version}", marks=marks)
        for store, marks in (("native", ()), ("paquo", pytest.mark.qupath))
        for version in VERSIONS
    ]
)
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Project]:
    kind, version = request.param
    if kind == "paquo":
        installed = find_installation()
        assert installed is not None
        if version_numbers(installed.version) < version_numbers(version.removeprefix("v")):
            pytest.skip(f"QuPath {installed.version} is older than the project, and refuses it")
    shutil.copytree(GOLDEN / version, tmp_path / "p")
    made = NativeStore.open(tmp_path / "p")
    workspace = Workspace(made.folder)
    workspace.create(SETTINGS)
    store = made if kind == "native" else PaquoStore.open(made.folder)
    yield Project(store, workspace, SETTINGS)
    if isinstance(store, PaquoStore):
        store.close()


def propose(project: Project, run: str = "detect-001") -> None:
    n = len(PLACES)
    whole = shapely.box(0, 0, 10_000, 10_000)
    wanted = [
        Proposals(e.id, np.array(PLACES), np.full(n, 0.5), np.zeros(n, np.int64), None, "s", whole)
        for e in project.store.images()
    ]
    push(project.store, project.workspace, SETTINGS, wanted, run=run, model="m")


def proposals(project: Project, image: int) -> list[SlideObject]:
    found = [o for o in project.store.read(image).objects if o.metadata.get(RUN) == "detect-001"]
    return sorted(found, key=lambda o: o.outline.bounds if o.outline else ())


def decide(project: Project, image: int, deeds: dict[UUID, Any]) -> Any:
    return write_decisions(project.store, project.workspace, SETTINGS, {image: deeds})


def in_turn(*deeds: Any) -> Any:
    def deed(obj: SlideObject) -> SlideObject:
        for one in deeds:
            obj = one(obj)
        return obj

    return deed


def test_a_scripted_session_comes_back_as_states_grades_and_times(project: Project) -> None:
    propose(project)
    image = project.store.images()[0].id
    before = {o.id: o for o in project.store.read(image).objects}
    one, two, three, four, five, six = proposals(project, image)
    graded = in_turn(
        lambda o: set_lesion(o, CRESCENT.name, 1, dr("Dr A", 1, 3.5), RULES),
        lambda o: set_lesion(o, OTHER.name, 1, dr("Dr A", 1, 1.2), RULES),
        lambda o: grading_done(o, dr("Dr A", 1, 0.4), RULES),
    )
    session = decide(
        project,
        image,
        {
            one.id: lambda o: accept(o, dr("Dr A", 0, 2.0), RULES),
            two.id: lambda o: reject(o, dr("Dr A", 0), RULES),
            three.id: graded,
            four.id: in_turn(graded, lambda o: ungrade(o, dr("Dr B", 2), RULES)),
            five.id: unlock,
        },
    )
    stays = before.keys() - {one.id, two.id, three.id, four.id, five.id}
    after = {o.id: o for o in project.store.read(image).objects}
    assert not any(differences(after[i], before[i]) for i in stays)

    found = {d.id: d for d in session.decisions[image] if d.before is State.PROPOSAL}
    assert {i: (d.after, d.by, d.at, d.seconds, d.graded) for i, d in found.items()} == {
        one.id: (State.ACCEPTED, "Dr A", "2026-11-25T08:00:00Z", 2.0, None),
        two.id: (State.REJECTED, "Dr A", "2026-11-25T08:00:00Z", None, None),
        three.id: (State.ACCEPTED, "Dr A", "2026-11-25T08:01:00Z", 5.1, SCHEME.stamp),
        four.id: (State.ACCEPTED, "Dr B", "2026-11-25T08:02:00Z", 5.1, None),
    }
    assert found[one.id].grades == found[four.id].grades == {}
    assert set(found[three.id].grades) == set(SCHEME.lesion_of)
    present = {name for name, value in found[three.id].grades.items() if value}
    assert present == {CRESCENT.name, OTHER.name}

    # The decisions are on record already: a pull has nothing to add, nor a second one.
    for _ in range(2):
        pulled = pull(project)
        assert image not in pulled.decisions
    # A proposal that was only unlocked is one still, and is protected.
    with project.workspace.ledger_view() as ledger:
        states = {b.id: b.state for b in ledger.base(image)}
    assert states == {
        **{i: d.after for i, d in found.items()},
        five.id: State.PROPOSAL,
        six.id: State.PROPOSAL,
    }


def test_a_dry_run_decides_the_same_and_writes_nothing(project: Project) -> None:
    propose(project)
    image = project.store.images()[0].id
    one, two, *_ = proposals(project, image)
    deeds = {
        one.id: lambda o: accept(o, dr("Dr A", 0, 2.0), RULES),
        two.id: lambda o: reject(o, dr("Dr A", 0), RULES),
    }
    here = project.store, project.workspace, SETTINGS, {image: deeds}
    before = {p: p.read_bytes() for p in project.store.folder.rglob("*") if p.is_file()}
    would = write_decisions(*here, guards=Guards(dry_run=True))
    assert {p: p.read_bytes() for p in project.store.folder.rglob("*") if p.is_file()} == before
    assert would.write is None
    did = write_decisions(*here)
    assert did.write is not None
    told = [{d.id: (d.before, d.after, d.by) for d in s.decisions[image]} for s in (would, did)]
    assert told[0] == told[1]
    assert told[0].keys() >= {one.id, two.id}


def test_a_review_saved_in_qupath_pulls_back_and_so_does_a_second_look(project: Project) -> None:
    propose(project)
    image = project.store.images()[0].id
    obj, *_ = proposals(project, image)

    def save(made: SlideObject) -> None:
        project.store.write(
            image,
            HierarchyEdit(replace=(made,)),
            expected=project.store.stamp(image),
            snapshot_folder=project.store.folder.parent / "the-human-keeps-none",
        )

    accepted = accept(obj, dr("Dr A", 0, 2.0), RULES)
    save(accepted)
    (first,) = (d for d in pull(project).decisions[image] if d.id == obj.id)
    assert (first.before, first.after) == (State.PROPOSAL, State.ACCEPTED)
    save(set_lesion(accepted, CRESCENT.name, 1, dr("Dr B", 9, 4.0), RULES))
    (second,) = pull(project).decisions[image]
    assert (second.before, second.after, second.regraded) == (
        State.ACCEPTED,
        State.ACCEPTED,
        True,
    )
    assert (second.by, second.seconds, second.grades[CRESCENT.name]) == ("Dr B", 6.0, 1)
    assert image not in pull(project).decisions
    steps = history(project, str(obj.id)).steps
    assert [s.state.value for s in steps] == ["proposal", "accepted", "accepted"]
    assert steps[-1].as_dict()["grades"] == dict(second.grades)
    # An index that is lost is built again with all of it.
    (project.workspace.folder / "ledger.sqlite").unlink()
    assert history(project, str(obj.id)).steps == steps
    assert image not in pull(project).decisions


@pytest.fixture
def plain(tmp_path: Path) -> Project:
    shutil.copytree(GOLDEN / "v0.6.0", tmp_path / "p")
    store = NativeStore.open(tmp_path / "p")
    workspace = Workspace(store.folder)
    workspace.create(SETTINGS)
    made = Project(store, workspace, SETTINGS)
    propose(made)
    return made


def test_undo_takes_a_scripted_review_back_to_the_byte(plain: Project) -> None:
    image = plain.store.images()[0].id
    file = plain.store.folder / "data" / str(image) / "data.qpdata"
    before = file.read_bytes()
    obj, *_ = proposals(plain, image)
    session = decide(plain, image, {obj.id: lambda o: reject(o, dr("Dr A", 0, 2.0), RULES)})
    assert file.read_bytes() != before
    assert undo(plain).write.id == session.write
    assert file.read_bytes() == before
    (back,) = pull(plain).decisions[image]
    assert (back.before, back.after) == (State.REJECTED, State.PROPOSAL)


def test_deciding_the_same_twice_writes_once(plain: Project) -> None:
    image = plain.store.images()[0].id
    obj, *_ = proposals(plain, image)
    deeds = {obj.id: lambda o: accept(o, dr("Dr A", 0), RULES)}
    assert decide(plain, image, deeds).write is not None
    again = decide(plain, image, deeds)
    assert again.write is None
    assert not again.decisions[image]


@pytest.mark.parametrize(
    ("deeds", "error", "says"),
    [
        pytest.param({UUID(int=5): unlock}, InputError, "no object", id="no-such-object"),
        pytest.param(
            {None: lambda o: replace(o, name="mine")}, UsageError, "changes more", id="more"
        ),
    ],
)
def test_what_is_no_decision_is_refused(
    plain: Project, deeds: dict[Any, Any], error: type[Exception], says: str
) -> None:
    image = plain.store.images()[0].id
    obj, *_ = proposals(plain, image)
    before = plain.store.stamp(image)
    with pytest.raises(error, match=says):
        decide(plain, image, {(k or obj.id): deed for k, deed in deeds.items()})
    assert plain.store.stamp(image) == before
    with pytest.raises(InputError, match="999"):
        decide(plain, 999, {})


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        pytest.param(
            lambda o: replace(
                reject(o, dr("A", 0), RULES), measurements={LESION + CRESCENT.name: 1}
            ),
            "rejected, and graded",
            id="rejected-and-graded",
        ),
        pytest.param(
            lambda o: replace(o, measurements={LESION + CRESCENT.name: -1}), "is -1", id="negative"
        ),
        pytest.param(
            lambda o: replace(o, measurements={LESION + CRESCENT.name: 99}), "is 99", id="too-high"
        ),
        pytest.param(
            lambda o: replace(o, measurements={LESION + CRESCENT.name: 0.5}), "0.5", id="half"
        ),
        pytest.param(
            lambda o: replace(o, measurements={LESION + "Warts": 1}), "no such lesion", id="unknown"
        ),
        pytest.param(
            lambda o: replace(o, metadata={"glombridge.reviewed": "2026-11-25T08:00:00Z"}),
            "nobody says by whom",
            id="no-reader",
        ),
        pytest.param(
            lambda o: replace(
                o, metadata={"glombridge.reviewed": "tuesday", "glombridge.reviewer": "A"}
            ),
            "'tuesday'",
            id="no-time",
        ),
        pytest.param(lambda o: replace(o, metadata={SECONDS: "long"}), "'long'", id="no-duration"),
        pytest.param(
            lambda o: replace(o, metadata={GRADED: "oxford 9"}), "'oxford 9'", id="other-scheme"
        ),
    ],
)
def test_what_contradicts_itself_is_named_and_the_rest_taken_in(
    plain: Project, spoil: Any, says: str
) -> None:
    image = plain.store.images()[0].id
    bad, good, *_ = proposals(plain, image)
    assert not any(p for i in pull(plain).images for p in i.problems if "Lesion" in p)
    plain.store.write(
        image,
        HierarchyEdit(replace=(spoil(bad), accept(good, dr("Dr A", 3, 1.0), RULES))),
        expected=plain.store.stamp(image),
        snapshot_folder=plain.store.folder.parent / "the-human-keeps-none",
    )
    pulled = pull(plain)
    problems = [p for i in pulled.images if i.entry.id == image for p in i.problems]
    (told,) = [p for p in problems if str(bad.id) in p]
    assert says in told
    assert good.id in {d.id for d in pulled.decisions[image] if d.after is State.ACCEPTED}
