"""``copy`` and ``agree`` as typed: two blinded copies, two readers, what they agree on, adjudication."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest
from test_with_real_qupath import in_qupath

from glombridge.cli import main
from glombridge.ledger import Workspace
from glombridge.objects import ObjectKind, Outline, PathClass, SlideObject
from glombridge.provenance import REVIEWED, REVIEWER
from glombridge.qupath import HierarchyEdit, ImageServerInfo, NativeStore
from glombridge.qupath.paquo.installation import find_installation, version_numbers
from glombridge.qupath.project_file import ProjectFile
from glombridge.qupath.store import ImageEntry
from glombridge.settings import Settings
from glombridge.steps.agree import common_images
from glombridge.steps.project import Project
from glombridge.sync.roles import assign_roles

DATA = Path(__file__).parents[1] / "data"
GOLDEN = DATA / "qupath_golden"
SPACE = UUID("55555555-2222-5333-8444-555555555555")
SCORE = 0.7310585786300049
SECRETS = (
    "Secretreader",
    "secretnote",
    "secretname",
    "secretlesion",
    "secretdescription",
    "secrettag",
)
STORES = [
    pytest.param("native", id="native"),
    pytest.param("paquo", id="paquo", marks=pytest.mark.qupath),
]


def glomerulus(k: int, class_name: str, **fields: Any) -> SlideObject:
    x = 100.0 + 300 * k
    return SlideObject(
        id=uuid5(SPACE, str(k)),
        kind=ObjectKind.ANNOTATION,
        outline=Outline.ellipse(x, 400, x + 200, 600),
        path_class=PathClass.parse(class_name),
        **fields,
    )


def proposal(k: int) -> SlideObject:
    return glomerulus(
        k,
        "Glomerulus: Proposed",
        locked=True,
        measurements={"Confidence": SCORE, "Queue rank": 1.0, "Confidence sd over flips": 0.25},
        metadata={"glombridge.state": "proposal", "glombridge.run": "detect-001"},
    )


def judged(k: int, name: str) -> SlideObject:
    return glomerulus(
        k,
        name,
        name="secretname",
        measurements={"Confidence": SCORE, "Lesion: secretlesion": 1.0},
        metadata={"glombridge.reviewer": "Secretreader", "note": "secretnote"},
    )


MARKS = (
    *(proposal(k) for k in range(3)),
    judged(3, "Glomerulus"),
    judged(4, "Glomerulus"),
    judged(5, "Rejected*"),
    replace(judged(6, "Region*"), outline=Outline.rectangle(0, 0, 3000, 2000)),
)
TO_JUDGE = {m.id for m in MARKS[:5]}


def put(store: NativeStore, entry: int, **edit: Any) -> None:
    store.write(
        entry,
        HierarchyEdit(**edit),
        expected=store.stamp(entry),
        snapshot_folder=store.folder.parent / "elsewhere",
    )


def marked(project: Path, *, kind: str = "native", scheme: str | None = None) -> Path:
    """A set-up project with marks of others in its first image."""
    store = NativeStore.open(project)
    first = store.images()[0].id
    put(store, first, add=MARKS)
    file = ProjectFile.open(project)
    for item in file.document["images"]:
        item["description"], item["tags"] = "secretdescription", ["secrettag"]
    file.save()
    patients = {
        e.id: {"patient": f"P{e.id}", "glombridge.searched_by": "Secretreader"}
        for e in store.images()
    }
    store.set_metadata_of_images(patients)
    more = ["--scheme", scheme] if scheme else []
    assert main(["init", str(project), "--store", kind, *more]) == 0
    return project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    store = NativeStore.create(tmp_path / "study")
    for name in ("a.tif", "b.tif"):
        info = ImageServerInfo(width=4096, height=3072, mpp_x=0.5, mpp_y=0.5)
        store.add_image(tmp_path / "slides" / name, name=name, metadata=info)
    return marked(store.folder, scheme="three-grade")


def every_file(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def as_json(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def objects(folder: Path, entry: int) -> dict[UUID, SlideObject]:
    return {o.id: o for o in NativeStore.open(folder).read(entry).objects}


def assert_blind(folder: Path) -> None:
    """Nothing of others, in what is read and in the bytes of every file."""
    store = NativeStore.open(folder)
    for entry in store.images():
        for obj in store.read(entry.id).objects:
            assert set(obj.measurements) <= {"Queue rank"}
            assert set(obj.metadata) <= {
                *("glombridge.state", "glombridge.run", "glombridge.layer", "glombridge.box"),
                *("glombridge.queue", "glombridge.reason"),
            }
            assert obj.name is None
    score = (struct.pack(">d", SCORE), struct.pack(">f", SCORE), repr(SCORE)[:8].encode())
    for name, data in every_file(folder).items():
        for secret in (*(s.encode() for s in SECRETS), *score, b"Confidence", b"detect-001"):
            assert secret not in data, (name, secret)


VERSIONS = ["v0.3.2", "v0.4.4", "v0.5.1", "v0.6.0", "v0.7.0"]


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_copy_holds_the_same_glomeruli_and_nothing_of_others(
    version: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    installed = find_installation()
    made_with = version_numbers(version.removeprefix("v"))
    if kind == "paquo" and installed is not None and version_numbers(installed.version) < made_with:
        pytest.skip("this QuPath is older than the project, and refuses it")
    shutil.copytree(GOLDEN / version, tmp_path / "p")
    source = marked(tmp_path / "p", kind=kind)
    before = every_file(source)
    said = as_json(capsys, "copy", source, "--reader", "anna")
    assert every_file(source) == before
    folder = Path(said["copy"])
    assert folder == tmp_path / "p-anna"
    assert_blind(folder)
    settings = Workspace(source).settings()
    theirs, ours = NativeStore.open(source), NativeStore.open(folder)
    assert [e.name for e in ours.images()] == [e.name for e in theirs.images()]
    ranks = []
    for entry in theirs.images():
        contents = theirs.read(entry.id)
        roles = assign_roles(contents.objects, settings)
        wanted = {o.id: o for o in (*roles.pending, *(t.object for t in roles.truth))}
        there = objects(folder, entry.id)
        assert there.keys() == wanted.keys()
        for key, obj in there.items():
            assert obj.outline is not None
            assert wanted[key].outline is not None
            assert obj.outline.kind is wanted[key].outline.kind  # type: ignore[union-attr]
            assert obj.outline.bounds == pytest.approx(wanted[key].outline.bounds, abs=0.01)  # type: ignore[union-attr]
            assert str(obj.path_class) == "Glomerulus: Proposed"
            ranks.append(obj.measurements["Queue rank"])
        assert ours.read(entry.id).image_type == contents.image_type
    assert sorted(ranks) == list(range(1, len(ranks) + 1))
    assert (folder / "glombridge" / "reader.txt").read_text("utf-8") == "anna\n"
    copied = next(Workspace(folder).history.events())
    assert (copied["event"], copied["source"], copied["seed"]) == ("copied", "p", 0)
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_the_copy_is_pulled_without_a_decision_and_cannot_be_undone_away(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for shown in ("proposals", "outlines", "nothing"):
        out = project.with_name(shown)
        as_json(capsys, "copy", project, "--reader", "anna", "--out", out, "--with", shown)
        pulled = as_json(capsys, "pull", out)
        assert [i["decisions"] for i in pulled["images"]] == [[], []]
        counts = [(i["truth"], i["pending"]) for i in pulled["images"]]
        assert (
            counts
            == {
                "proposals": [(0, 5), (0, 0)],
                "outlines": [(2, 0), (0, 0)],
                "nothing": [(0, 0), (0, 0)],
            }[shown]
        )
        assert_blind(out)
        assert main(["undo", str(out)]) == 3


def test_order_is_random_by_seed_and_reader(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def order(out: str, *more: str) -> list[UUID]:
        as_json(capsys, "copy", project, "--out", project.with_name(out), *more)
        found = objects(project.with_name(out), 1).values()
        return [o.id for o in sorted(found, key=lambda o: o.measurements["Queue rank"])]

    first = order("1", "--reader", "anna")
    assert order("2", "--reader", "anna") == first
    # Of 120 orders: chance makes all of these alike once in more than a million times.
    seeds = {tuple(order(f"s{s}", "--reader", "anna", "--seed", str(s))) for s in range(4)}
    readers = {tuple(order(f"r{k}", "--reader", f"reader {k}")) for k in range(4)}
    assert len(seeds) > 1
    assert len(readers) > 1


def test_slides_are_found_from_the_copy_where_they_were_found_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Made elsewhere, then moved together with its slides: only the relative place is right.
    store = NativeStore.create(tmp_path / "old" / "study")
    store.add_image(tmp_path / "old" / "slides" / "a.tif", metadata=ImageServerInfo(4096, 3072))
    store.add_image(tmp_path / "gone" / "b.tif", metadata=ImageServerInfo(4096, 3072))
    shutil.move(tmp_path / "old", tmp_path / "new")
    (tmp_path / "new" / "slides").mkdir()
    shutil.copy(DATA / "slides" / "kidney_a.tif", tmp_path / "new" / "slides" / "a.tif")
    source = marked(tmp_path / "new" / "study")
    out = tmp_path / "far" / "away" / "anna"
    said = as_json(capsys, "copy", source, "--reader", "anna", "--out", out)
    assert any("slides of 1 images" in note for note in said["notes"])
    copy = NativeStore.open(out)
    found = [copy.slide_path(e) for e in copy.images()]
    assert found == [tmp_path / "new" / "slides" / "a.tif", None]
    assert copy.images()[1].uris == NativeStore.open(source).images()[1].uris


def test_what_goes_over_of_an_image(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = NativeStore.open(project)
    store.set_image_metadata(1, {"stain": "PAS", "level": "2", "diagnosis": "secretnote"})
    said = as_json(capsys, "copy", project, "--reader", "anna", "--metadata", "level")
    first = NativeStore.open(Path(said["copy"])).images()[0]
    assert first.metadata == {"patient": "P1", "stain": "PAS", "level": "2"}
    assert (first.description, first.tags) == (None, ())
    assert said["images"][0]["left_out"] == {"annotations": 2}
    assert_blind(Path(said["copy"]))


def test_test_patients_stay_test_patients(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Workspace(project).record(
        "split", patients={"P1": "test", "P2": "train"}, patient_from="metadata"
    )
    folder = Path(as_json(capsys, "copy", project, "--reader", "anna")["copy"])
    opened = Project.open(folder)
    assert opened.test_images(opened.store.images()) == {1}
    assert opened.recorded_patient_source == "metadata"


BAD_READERS = ["", "  ", "a/b", "a\\b", "..", ".hidden", "two\nlines", "x\x00y", "a:b", "n" * 61]


@pytest.mark.parametrize("name", BAD_READERS, ids=repr)
def test_a_name_that_no_reader_can_have(
    name: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = every_file(project.parent)
    assert main(["copy", str(project), "--reader", name]) == 2
    assert "reader's name" in capsys.readouterr().err
    assert every_file(project.parent) == before


def test_bad_input_of_copy(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(project)
    assert main(["copy", folder]) == 2
    full = project.with_name("full")
    full.mkdir()
    (full / "file").touch()
    for out, code in ((full, 4), (full / "file", 4), (project, 4), (project / "inside", 4)):
        assert main(["copy", folder, "--reader", "anna", "--out", str(out)]) == code
    (full / "file").unlink()
    assert main(["copy", folder, "--reader", "anna", "--out", str(full)]) == 0, "empty is good"
    assert main(["copy", folder, "--reader", "anna", "--out", str(full)]) == 4
    shutil.rmtree(project / "glombridge")
    assert main(["copy", folder, "--reader", "bert"]) == 3
    assert "glombridge init" in capsys.readouterr().err


def test_a_damaged_image_leaves_nothing_behind(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = NativeStore.open(project).data_file(2)
    data.write_bytes(data.read_bytes()[:-40])
    before = every_file(project.parent)
    assert main(["copy", str(project), "--reader", "anna"]) == 3
    assert "b.tif" in capsys.readouterr().err
    assert every_file(project.parent) == before


def test_a_full_disk_leaves_nothing_behind(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("glombridge.qupath.saving.os.replace", full)
    assert main(["copy", str(project), "--reader", "anna"]) == 7
    assert {p.name for p in project.parent.iterdir()} == {"study", "elsewhere"}


def decide(folder: Path, entry: int, change: Callable[[SlideObject], SlideObject | None]) -> None:
    """What the review window writes, over every object of an image; ``None`` deletes."""
    store = NativeStore.open(folder)
    changed, gone = [], set()
    for obj in store.read(entry).objects:
        made = change(obj)
        if made is None:
            gone.add(obj.id)
        elif made is not obj:
            changed.append(made)
    put(store, entry, replace=tuple(changed), remove=frozenset(gone))


def graded(obj: SlideObject, reader: str, **lesions: int) -> SlideObject:
    label = next((name for name, value in lesions.items() if value), None)
    told = {f"Lesion: {name}": float(value) for name, value in lesions.items()}
    return replace(
        obj,
        path_class=PathClass(("Glomerulus", label) if label else ("Glomerulus",)),
        measurements={**obj.measurements, **told},
        metadata={
            **obj.metadata,
            "glombridge.reviewer": reader,
            "glombridge.reviewed": "2026-11-25T08:30:00Z",
            "glombridge.graded": "three-grade 1",
        },
    )


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


def test_the_loop_of_two_readers(
    project: Path, readers: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    states = []
    for folder in readers:
        image = as_json(capsys, "pull", folder)["images"][0]
        states.append({UUID(d["id"]): (d["to"], d["by"]) for d in image["decisions"]})
    anna, bert = states
    assert anna == dict.fromkeys(TO_JUDGE, ("accepted", "anna"))
    assert bert == {
        **{m.id: ("accepted", "bert") for m in MARKS[:3]},
        MARKS[3].id: ("rejected", "unknown"),
        MARKS[4].id: ("deleted", "unknown"),
    }
    out = project.with_name("tables")
    said = as_json(capsys, "agree", *readers, "--out", out)
    (pair,) = said["pairs"]
    assert pair["readers"] == ["anna", "bert"]
    assert (pair["images"], pair["patients"], pair["few_patients"]) == (1, 1, True)
    assert pair["found_by_both"] == 3
    assert pair["found_only_by"] == {"anna": 2, "bert": 0}
    assert pair["rejected_by_the_other"] == 2
    lesions = {x["lesion"]: x for x in pair["lesions"]}
    # Slight: anna 1 1 0, bert 1 0 0: po = 2/3, pe = (2 * 1 + 1 * 2) / 9.
    assert lesions["Slight"]["kappa"]["none"]["value"] == pytest.approx(
        (2 / 3 - 4 / 9) / (5 / 9), abs=1e-6
    )
    assert lesions["Slight"]["kappa"]["none"]["interval"] is None
    assert lesions["Sclerotic"]["kappa"]["none"]["value"] is None
    assert "both readers gave 0" in lesions["Sclerotic"]["undefined"]
    reasons = {d["ids"]["anna"]: d["reason"] for d in said["disagreements"]}
    assert reasons == {
        str(MARKS[1].id): "Slight (anna: 1, bert: 0); Severe (anna: 0, bert: 1)",
        str(MARKS[3].id): "anna: glomerulus, bert: rejected",
        str(MARKS[4].id): "anna: glomerulus, bert: deleted",
    }
    assert json.loads((out / "agreement.json").read_text("utf-8")) == said
    assert len((out / "disagreements.csv").read_text("utf-8").splitlines()) == 4
    assert (out / "agreement.csv").read_text("utf-8").count("anna,bert,") == 3
    assert main(["agree", *map(str, readers)]) == 0
    shown = capsys.readouterr().out
    assert "to adjudicate: 3" in shown
    assert "undefined" in shown


def test_adjudication_is_a_queue_that_changes_nobodys_marks(
    project: Path, readers: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before = objects(project, 1)
    files = every_file(project / "data")
    words = ["agree", *readers, "--adjudicate", project]
    dry = as_json(capsys, *words, "--dry-run")["adjudicate"]
    assert len(dry["images"][0]["add"]) == 3
    assert every_file(project / "data") == files
    first = as_json(capsys, *words)["adjudicate"]
    assert first["write"] == "write-001"
    there = objects(project, 1)
    assert {k: there[k] for k in before} == before
    new = [there[k] for k in there.keys() - before.keys()]
    assert {str(o.path_class) for o in new} == {"Disagreement"}
    assert sorted(o.measurements["Queue rank"] for o in new) == [1, 2, 3]
    top = next(o for o in new if o.measurements["Queue rank"] == 1)
    assert top.metadata["glombridge.reason"].startswith("Slight (anna: 1, bert: 0)")
    # Never truth, never a proposal, never a decision.
    pulled = as_json(capsys, "pull", project)["images"][0]
    assert (pulled["truth"], pulled["pending"]) == (2, 3)
    assert not {d["id"] for d in pulled["decisions"]} & {str(o.id) for o in new}
    after = every_file(project / "data")
    assert as_json(capsys, *words)["adjudicate"]["write"] is None
    assert every_file(project / "data") == after
    assert main(["undo", str(project)]) == 0
    assert every_file(project / "data") == files


def test_what_somebody_adjudicates_replaces_only_what_nobody_touched(
    project: Path, readers: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["agree", *readers, "--adjudicate", project]
    as_json(capsys, *words)
    signs = [o for o in objects(project, 1).values() if str(o.path_class) == "Disagreement"]
    put(NativeStore.open(project), 1, replace=(replace(signs[0], name="seen"),))
    decide(readers[1], 1, lambda o: graded(o, "bert", Slight=1, Severe=0, Sclerotic=0))
    as_json(capsys, *words)
    there = objects(project, 1)
    assert there[signs[0].id].name == "seen"
    assert len([o for o in there.values() if str(o.path_class) == "Disagreement"]) > 1


def test_a_settled_disagreement_stays_and_is_not_shown_again(
    project: Path, readers: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Settled as the review window does it: reader and time on the sign, nothing else of it."""
    words = ["agree", *readers, "--adjudicate", project]
    as_json(capsys, *words)
    as_json(capsys, "pull", project)
    times = as_json(capsys, "history", project, "--times")
    signs = [o for o in objects(project, 1).values() if str(o.path_class) == "Disagreement"]
    said = {REVIEWER: "carla", REVIEWED: "2026-11-25T08:00:00Z"}
    settled = replace(signs[0], metadata={**signs[0].metadata, **said})
    put(NativeStore.open(project), 1, replace=(settled,))
    for _ in range(2):
        assert as_json(capsys, *words)["adjudicate"]["write"] is None
        there = objects(project, 1)
        assert there[settled.id] == settled
        assert len([o for o in there.values() if str(o.path_class) == "Disagreement"]) == len(signs)
    # It is nobody's mark, and took nobody's time.
    pulled = as_json(capsys, "pull", project)["images"][0]
    assert (pulled["truth"], pulled["pending"], pulled["decisions"]) == (2, 3, [])
    assert as_json(capsys, "history", project, "--times") == times
    # Once a reader says something else, it is another disagreement.
    decide(readers[1], 1, lambda o: graded(o, "bert", Slight=1, Severe=0, Sclerotic=0))
    as_json(capsys, *words)
    assert settled.id in objects(project, 1)


def test_bad_input_of_agree(
    project: Path, readers: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    anna, bert = map(str, readers)

    def refused(*words: str, code: int) -> str:
        capsys.readouterr()
        assert main(["agree", *words]) == code
        return capsys.readouterr().err

    assert "at least two" in refused(anna, code=2)
    assert "--adjudicate" in refused(anna, bert, "--dry-run", code=2)
    assert "both read by 'anna'" in refused(anna, anna, code=3)
    assert "no image in common" in refused(anna, str(other_project(project)), code=3)
    settings = readers[1] / "glombridge" / "glombridge.toml"
    text = settings.read_text("utf-8")
    settings.write_text(text.replace('"three-grade"', '"lupus"'), "utf-8")
    assert "three-grade 1" in refused(anna, bert, code=3)
    settings.write_text(text, "utf-8")
    (readers[1] / "glombridge" / "reader.txt").write_text("\n", "utf-8")
    assert "reader.txt" in refused(anna, bert, code=3)
    (readers[1] / "glombridge" / "reader.txt").unlink()
    assert refused(anna, bert, code=0) is not None, "one reviewer on the objects is the reader"
    decide(readers[1], 1, lambda o: replace(o, measurements={"Lesion: Slight": 7.0}))
    assert "outside 0 to 1" in refused(anna, bert, code=3)
    decide(
        readers[1],
        1,
        lambda o: replace(o, measurements={}, metadata={"glombridge.graded": "lupus 1"}),
    )
    (readers[1] / "glombridge" / "reader.txt").write_text("bert", "utf-8")
    assert "'lupus 1'" in refused(anna, bert, code=3)
    shutil.rmtree(readers[1] / "glombridge")
    assert "glombridge init" in refused(anna, bert, code=3)


COMMON = [
    pytest.param([(1, "a"), (2, "b")], [(2, "b"), (1, "a")], 2, id="order-of-the-list"),
    pytest.param([(1, "a")], [(7, "a")], 1, id="by-name-alone"),
    pytest.param([(1, "a"), (2, "a")], [(7, "a")], 0, id="a-name-that-one-has-twice"),
    pytest.param([(1, "a"), (2, "a")], [(1, "a"), (2, "a")], 2, id="names-twice-told-by-entry"),
    pytest.param([(1, "a")], [(1, "b")], 0, id="an-entry-id-alone-says-nothing"),
]


@pytest.mark.parametrize(("first", "second", "common"), COMMON)
def test_which_images_are_the_same(
    first: list[tuple[int, str]], second: list[tuple[int, str]], common: int
) -> None:
    lists = [[ImageEntry(i, name, ()) for i, name in one] for one in (first, second)]
    found = common_images(lists, required=False)
    assert len(found) == common
    assert all(pair[0].name == pair[1].name for pair in found)


def test_images_of_another_size_are_no_copies(
    readers: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    file = readers[1] / "project.qpproj"
    file.write_text(file.read_text("utf-8").replace("4096", "4000"), "utf-8")
    assert main(["agree", *map(str, readers)]) == 3
    assert "different sizes: 4096 x 3072 px" in capsys.readouterr().err


def test_a_push_that_was_lost_is_nobodys_verdict(
    project: Path, readers: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(as_json(capsys, "copy", project, "--reader", "cleo")["copy"])
    decide(folder, 1, lambda _: None)
    (pair,) = as_json(capsys, "agree", readers[0], folder)["pairs"]
    assert (pair["images"], pair["found_by_both"]) == (0, 0)


def other_project(project: Path) -> Path:
    store = NativeStore.create(project.with_name("other"))
    store.add_image(project / "z.tif", name="z.tif", metadata=ImageServerInfo(400, 300))
    Workspace(store.folder).create(Settings().with_scheme("three-grade", project))
    return store.folder


@pytest.mark.qupath
def test_real_qupath_opens_a_copy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    installed = find_installation()
    assert installed is not None
    store = NativeStore.create(tmp_path / "study", installed.version or "0.6.0")
    for name in ("kidney_a.tif", "empty_c.tif"):
        info = ImageServerInfo(width=4096, height=3072, mpp_x=0.5, mpp_y=0.5)
        store.add_image(DATA / "slides" / name, name=name, metadata=info)
    source = marked(store.folder)
    folder = Path(as_json(capsys, "copy", source, "--reader", "anna")["copy"])
    theirs = in_qupath(folder / "project.qpproj")
    assert theirs["empty_c.tif"] == {}
    assert theirs["kidney_a.tif"].keys() == {str(i) for i in TO_JUDGE}
    for obj in theirs["kidney_a.tif"].values():
        assert obj["class"] == "Glomerulus: Proposed"
        assert obj["locked"]
        assert list(obj["measurements"]) == ["Queue rank"]
