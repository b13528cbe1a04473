"""Push adds proposals and never touches what is there, whoever made it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_project import SmallProject, annotation

from glombridge.errors import InputError, PartlyDoneError, ProtectedError
from glombridge.ledger import ProjectLock, running_qupath
from glombridge.objects import Color, ObjectKind, Outline, OutlineKind, PathClass
from glombridge.qupath.stored_form import differences
from glombridge.settings import PushSettings, Settings
from glombridge.sync import push
from glombridge.sync.guards import Guards
from glombridge.sync.push import Proposals, PushResult

BOX = (1000.0, 1000.0, 1400.0, 1400.0)


def proposals(
    entry_id: int, *boxes: tuple[float, float, float, float], score: float = 0.8
) -> Proposals:
    xyxy = np.array(boxes, float).reshape(-1, 4)
    n = len(xyxy)
    return Proposals(entry_id, xyxy, np.full(n, score), np.zeros(n, np.int64), 0.5)


def run_push(
    project: SmallProject, *wanted: Proposals, run: str = "detect-001", **options: object
) -> PushResult:
    return push(
        project.store,
        project.workspace,
        project.settings,
        wanted,
        run=run,
        model="abc",
        **options,
    )


def test_a_proposal_is_a_locked_annotation_with_its_provenance(project: SmallProject) -> None:
    run_push(project, proposals(project.first, BOX, score=0.75))
    (obj,) = project.objects(project.first).values()
    assert obj.kind is ObjectKind.ANNOTATION
    assert str(obj.path_class) == "Glomerulus: Proposed"
    assert obj.locked
    assert obj.outline is not None
    assert (obj.outline.kind, obj.outline.bounds) == (OutlineKind.RECTANGLE, BOX)
    assert dict(obj.measurements) == {"Confidence": 0.75, "Diameter um": 200.0}
    assert dict(obj.metadata) == {
        "glombridge.state": "proposal",
        "glombridge.run": "detect-001",
        "glombridge.model": "abc",
        "glombridge.layer": "main",
        "glombridge.box": "true",
    }
    assert "Glomerulus: Proposed" in [str(c) for c in project.store.classes()]


def test_a_second_identical_push_changes_no_byte(project: SmallProject) -> None:
    wanted = [proposals(project.first, BOX, (10, 10, 300, 300)), proposals(project.second, BOX)]
    first = run_push(project, *wanted)
    before = project.bytes_of_everything()
    second = run_push(project, *wanted)
    assert (first.added, second.added, second.written) == (3, 0, ())
    assert project.bytes_of_everything() == before
    assert second.count("kept") == 3


@pytest.mark.parametrize(
    "kind", [ObjectKind.ANNOTATION, ObjectKind.DETECTION], ids=lambda k: k.value
)
def test_a_probability_is_pushed_once_and_known_again(
    project: SmallProject, kind: ObjectKind
) -> None:
    # 32-bit files cannot hold it exactly.
    sure = replace(proposals(project.first, BOX), probability=np.array([0.123456]))
    run_push(project, sure, objects=kind)
    (obj,) = project.objects(project.first).values()
    assert obj.measurements["Probability"] == pytest.approx(0.123456, abs=1e-7)
    before = project.bytes_of_everything()
    again = run_push(project, sure, objects=kind)
    assert project.bytes_of_everything() == before
    assert again.count("kept") == 1
    # Another reading of the same score is a change of the proposal, not a human's.
    changed = run_push(
        project, replace(sure, probability=np.array([0.2])), run="detect-002", objects=kind
    )
    assert changed.count("update") == 1
    unknown = run_push(project, proposals(project.first, BOX), run="detect-003", objects=kind)
    assert unknown.count("update") == 1
    (obj,) = project.objects(project.first).values()
    assert "Probability" not in obj.measurements


def test_a_dry_run_writes_nothing_at_all(project: SmallProject) -> None:
    before = project.bytes_of_everything()
    result = run_push(project, proposals(project.first, BOX), guards=Guards(dry_run=True))
    assert result.added == 1
    assert project.bytes_of_everything() == before
    assert not project.workspace.history.path.exists()


def nearby(dx: float) -> tuple[float, float, float, float]:
    return (BOX[0] + dx, BOX[1], BOX[2] + dx, BOX[3])


@pytest.mark.parametrize("dx", [0.0, 30.0])
@pytest.mark.parametrize(
    ("what", "counted"),
    [
        ("Glomerulus", "known"),
        ("Tubule", "known"),
        (None, "known"),
        ("Rejected*", "suppressed"),
        ("Glomerulus: Proposed", "known"),
    ],
)
def test_where_something_is_already_nothing_is_added(
    project: SmallProject, what: str | None, counted: str, dx: float
) -> None:
    project.edit(project.first, add=[annotation(what, BOX)])
    before = project.bytes_of_everything()
    result = run_push(project, proposals(project.first, nearby(dx)))
    assert result.added == 0
    assert result.count(counted) == 1
    after = project.bytes_of_everything()
    assert {k: v for k, v in after.items() if "data.qpdata" in k} == {
        k: v for k, v in before.items() if "data.qpdata" in k
    }


def test_a_region_around_it_does_not_hide_a_detection(project: SmallProject) -> None:
    project.edit(project.first, add=[annotation("Region*", (900, 900, 1500, 1500))])
    assert run_push(project, proposals(project.first, BOX)).added == 1


def test_human_decisions_outlive_the_next_push(project: SmallProject) -> None:
    places = [(k * 500.0, 500.0, k * 500.0 + 300, 800.0) for k in range(6)]
    run_push(project, proposals(project.first, *places))
    there = sorted(project.objects(project.first).values(), key=lambda o: o.outline.bounds)
    accepted, rejected, moved, deleted, edited, _ = there
    truth = PathClass(("Glomerulus",))
    changed = [
        replace(accepted, path_class=truth),
        replace(rejected, path_class=PathClass(("Rejected*",))),
        replace(moved, outline=Outline.rectangle(1020, 520, 1320, 810)),
        replace(edited, path_class=truth, outline=Outline.ellipse(2000, 500, 2290, 790)),
    ]
    project.edit(project.first, replace=changed, remove=[deleted.id])
    before = project.objects(project.first)
    result = run_push(project, proposals(project.first, *places), run="detect-002")
    after = project.objects(project.first)
    (pending,) = result.plans[0].plan.update
    assert {i: o for i, o in after.items() if i != pending.id} == {
        i: o for i, o in before.items() if i != pending.id
    }
    assert after[pending.id].metadata["glombridge.run"] == "detect-002"
    counts = {k: result.count(k) for k in ("add", "withdraw", "known", "suppressed", "kept")}
    assert counts == {"add": 0, "withdraw": 0, "known": 3, "suppressed": 2, "kept": 0}


@settings(
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    human=st.lists(
        st.tuples(
            st.integers(0, 30), st.integers(0, 20), st.sampled_from(["Glomerulus", "Tubule", None])
        ),
        max_size=8,
        unique_by=lambda t: t[:2],
    ),
    wanted=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 20)), max_size=12, unique=True),
)
def test_what_was_there_stays_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, human: list, wanted: list
) -> None:
    project = SmallProject(tmp_path_factory.mktemp("p"))
    drawn = [annotation(n, (x * 120, y * 120, x * 120 + 100, y * 120 + 100)) for x, y, n in human]
    if drawn:
        project.edit(project.first, add=drawn)
    boxes = [(x * 120.0, y * 120.0, x * 120 + 100.0, y * 120 + 100.0) for x, y in wanted]
    result = run_push(project, proposals(project.first, *boxes))
    after = project.objects(project.first)
    taken = {(x, y) for x, y, _ in human}
    assert result.added == len(set(wanted) - taken)
    assert len(after) == len(drawn) + result.added
    for obj in drawn:
        assert not differences(after[obj.id], obj)
    # Twice is once.
    before = project.bytes_of_everything()
    assert run_push(project, proposals(project.first, *boxes)).added == 0
    assert project.bytes_of_everything() == before


BAD = [
    pytest.param(lambda p: proposals(99, BOX), "entry 99: is not in the project", id="image"),
    pytest.param(
        lambda p: proposals(p.first, BOX, score=float("nan")), "not a finite", id="nan-score"
    ),
    pytest.param(
        lambda p: proposals(p.first, (float("inf"), 0, 1, 1)), "not a finite", id="infinite-box"
    ),
    pytest.param(lambda p: proposals(p.first, BOX, score=1.5), "outside 0 to 1", id="score"),
    pytest.param(lambda p: proposals(p.first, (500, 10, 500, 20)), "no extent", id="empty-box"),
    pytest.param(
        lambda p: proposals(p.first, (9000, 10, 9100, 20)), "outside the image", id="outside"
    ),
    pytest.param(
        lambda p: replace(proposals(p.first, BOX), class_index=np.array([3])),
        "not one of",
        id="class",
    ),
    pytest.param(
        lambda p: replace(proposals(p.first, BOX), size_px=(3000, 4000)),
        "3000 x 4000 px, but QuPath shows 4000 x 3000",
        id="other-frame",
    ),
    pytest.param(
        lambda p: replace(proposals(p.first, BOX), mpp=0.25),
        "QuPath says 0.5",
        id="other-resolution",
    ),
    pytest.param(
        lambda p: replace(
            proposals(p.first, BOX), roi_classes=("Cortex",), roi_sha256="of a cortex since redrawn"
        ),
        r"\(Cortex\) that have changed",
        id="changed-annotations",
    ),
]


@pytest.mark.parametrize(("bad", "says"), BAD)
def test_bad_detections_are_named_and_nothing_is_written(
    project: SmallProject, bad: object, says: str
) -> None:
    before = project.bytes_of_everything()
    with pytest.raises(InputError, match=says) as caught:
        run_push(project, proposals(project.second, BOX), bad(project))  # type: ignore[operator]
    assert project.bytes_of_everything() == before
    assert "--skip-bad" in str(caught.value)
    assert "b.tif" not in str(caught.value)


@pytest.mark.parametrize(("bad", "says"), BAD)
def test_the_rest_is_pushed_when_asked_for(project: SmallProject, bad: object, says: str) -> None:
    spoilt = bad(project)  # type: ignore[operator]
    result = run_push(project, proposals(project.second, BOX), spoilt, skip_bad=True)
    assert result.written == (project.second,)
    assert project.objects(project.first) == {}
    with pytest.raises(PartlyDoneError, match=says.removeprefix("entry 99: ")):
        result.raise_if_skipped()


def test_what_is_within_two_percent_is_the_same_resolution(project: SmallProject) -> None:
    assert run_push(project, replace(proposals(project.first, BOX), mpp=0.505)).added == 1


def test_detections_of_one_image_given_twice_are_refused(project: SmallProject) -> None:
    with pytest.raises(InputError, match="named twice"):
        run_push(project, proposals(project.first, BOX), proposals(project.first))


def test_as_detection_and_colour_come_from_the_settings(project: SmallProject) -> None:
    project.settings = Settings(push=PushSettings(objects="detection", color="#0A1B2C"))
    run_push(project, proposals(project.first, BOX))
    (obj,) = project.objects(project.first).values()
    assert obj.kind is ObjectKind.DETECTION
    (proposed,) = [c for c in project.store.classes() if str(c) == "Glomerulus: Proposed"]
    assert proposed.color == (10, 27, 44, 255)
    before = project.bytes_of_everything()
    assert run_push(project, proposals(project.first, BOX)).written == ()
    assert (
        run_push(project, proposals(project.first, BOX), objects=ObjectKind.DETECTION).written == ()
    )
    assert project.bytes_of_everything() == before


def test_a_class_that_has_a_colour_keeps_it(project: SmallProject) -> None:
    project.store.add_classes([PathClass(("Glomerulus", "Proposed"), Color(1, 2, 3))])
    run_push(project, proposals(project.first, BOX))
    colors = {str(c): c.color for c in project.store.classes()}
    assert colors["Glomerulus: Proposed"] == (1, 2, 3, 255)


def test_ids_do_not_depend_on_where_the_project_lies_or_when(tmp_path: Path) -> None:
    ids = []
    for name in ("here", "there"):
        project = SmallProject(tmp_path / name)
        run_push(project, proposals(project.first, BOX, (10, 10, 300, 300)))
        ids.append(sorted(project.objects(project.first)))
    assert ids[0] == ids[1]
    assert {i.version for i in ids[0]} == {5}


def test_the_order_of_slides_does_not_matter(tmp_path: Path) -> None:
    found = []
    for order in (1, -1):
        project = SmallProject(tmp_path / str(order))
        wanted = [proposals(project.first, BOX), proposals(project.second, BOX, (5, 5, 300, 300))]
        result = run_push(project, *wanted[::order])
        found.append(([p.plan for p in result.plans], project.objects(1), project.objects(2)))
    assert repr(found[0]) == repr(found[1])


def test_a_held_lock_is_respected(project: SmallProject) -> None:
    with ProjectLock(project.workspace.lock_file), pytest.raises(ProtectedError, match="lock"):
        run_push(project, proposals(project.first, BOX))


def test_a_running_qupath_is_respected(
    project: SmallProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_qupath, "running_qupath", lambda: [4711])
    with pytest.raises(ProtectedError, match="4711"):
        run_push(project, proposals(project.first, BOX))
    lifted = Guards(while_qupath_runs=True)
    assert run_push(project, proposals(project.first, BOX), guards=lifted).added == 1


def test_one_image_that_cannot_be_written_does_not_stop_the_others(project: SmallProject) -> None:
    path = project.store.data_file(project.first)
    path.with_name("data.qpdata.bkp").write_bytes(b"QuPath is saving")
    with pytest.raises(PartlyDoneError, match=r"a\.tif"):
        run_push(project, proposals(project.first, BOX), proposals(project.second, BOX))
    assert len(project.objects(project.second)) == 1


def test_what_was_replaced_is_kept(project: SmallProject) -> None:
    before = project.store.data_file(project.first).read_bytes()
    run_push(project, proposals(project.first, BOX))
    kept = [p.read_bytes() for p in project.workspace.snapshots.iterdir()]
    assert before in kept
