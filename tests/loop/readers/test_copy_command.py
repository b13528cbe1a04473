"""``copy`` as typed: the same images and places, nothing of others."""

from __future__ import annotations

import shutil
from pathlib import Path
from uuid import UUID

import pytest
from folders import files_in
from marked import DATA, GOLDEN, TO_JUDGE, assert_blind, marked, objects
from test_with_real_qupath import in_qupath
from typed import run_json

from glombridge.cli import main
from glombridge.ledger import Workspace
from glombridge.qupath import ImageServerInfo, NativeStore
from glombridge.qupath.paquo.installation import find_installation, version_numbers
from glombridge.steps.project import Project
from glombridge.sync.roles import assign_roles

STORES = [
    pytest.param("native", id="native"),
    pytest.param("paquo", id="paquo", marks=pytest.mark.qupath),
]


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
    before = files_in(source)
    said = run_json(capsys, "copy", source, "--reader", "anna")
    assert files_in(source) == before
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
        run_json(capsys, "copy", project, "--reader", "anna", "--out", out, "--with", shown)
        pulled = run_json(capsys, "pull", out)
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
        run_json(capsys, "copy", project, "--out", project.with_name(out), *more)
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
    said = run_json(capsys, "copy", source, "--reader", "anna", "--out", out)
    assert any("slides of 1 images" in note for note in said["notes"])
    copy = NativeStore.open(out)
    found = [copy.slide_path(e) for e in copy.images()]
    assert found == [tmp_path / "new" / "slides" / "a.tif", None]
    assert copy.images()[1].uris == NativeStore.open(source).images()[1].uris


def test_what_goes_over_of_an_image(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = NativeStore.open(project)
    store.set_image_metadata(1, {"stain": "PAS", "level": "2", "diagnosis": "secretnote"})
    said = run_json(capsys, "copy", project, "--reader", "anna", "--metadata", "level")
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
    folder = Path(run_json(capsys, "copy", project, "--reader", "anna")["copy"])
    opened = Project.open(folder)
    assert opened.test_images(opened.store.images()) == {1}
    assert opened.recorded_patient_source == "metadata"


BAD_READERS = ["", "  ", "a/b", "a\\b", "..", ".hidden", "two\nlines", "x\x00y", "a:b", "n" * 61]


@pytest.mark.parametrize("name", BAD_READERS, ids=repr)
def test_a_name_that_no_reader_can_have(
    name: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_in(project.parent)
    assert main(["copy", str(project), "--reader", name]) == 2
    assert "reader's name" in capsys.readouterr().err
    assert files_in(project.parent) == before


def test_bad_input_of_copy(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(project)
    assert main(["copy", folder]) == 2
    assert main(["copy", folder, "--reader", "anna", "--metadata", "levle"]) == 2
    assert "no image has metadata 'levle' (what images have: " in capsys.readouterr().err
    full = project.with_name("full")
    full.mkdir()
    (full / "file").touch()
    for out, code in ((full, 4), (full / "file", 4), (project, 4), (project / "inside", 4)):
        assert main(["copy", folder, "--reader", "anna", "--out", str(out)]) == code
    (full / "file").unlink()
    assert main(["copy", folder, "--reader", "anna", "--out", str(full)]) == 0, "empty is good"
    capsys.readouterr()
    assert main(["copy", folder, "--reader", "anna", "--out", str(full)]) == 4
    assert "is a whole copy of study for anna, made at 2" in capsys.readouterr().err
    shutil.rmtree(project / "glombridge")
    assert main(["copy", folder, "--reader", "bert"]) == 3
    assert "glombridge init" in capsys.readouterr().err


def test_a_damaged_image_leaves_nothing_behind(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = NativeStore.open(project).data_file(2)
    data.write_bytes(data.read_bytes()[:-40])
    before = files_in(project.parent)
    assert main(["copy", str(project), "--reader", "anna"]) == 3
    assert "b.tif" in capsys.readouterr().err
    assert files_in(project.parent) == before


def test_a_full_disk_leaves_nothing_behind(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("glombridge.qupath.saving.os.replace", full)
    assert main(["copy", str(project), "--reader", "anna"]) == 7
    assert {p.name for p in project.parent.iterdir()} == {"study", "elsewhere"}


@pytest.mark.qupath
def test_real_qupath_opens_a_copy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    installed = find_installation()
    assert installed is not None
    store = NativeStore.create(tmp_path / "study", installed.version or "0.6.0")
    for name in ("kidney_a.tif", "empty_c.tif"):
        info = ImageServerInfo(width=4096, height=3072, mpp_x=0.5, mpp_y=0.5)
        store.add_image(DATA / "slides" / name, name=name, metadata=info)
    source = marked(store.folder)
    folder = Path(run_json(capsys, "copy", source, "--reader", "anna")["copy"])
    theirs = in_qupath(folder / "project.qpproj")
    assert theirs["empty_c.tif"] == {}
    assert theirs["kidney_a.tif"].keys() == {str(i) for i in TO_JUDGE}
    for obj in theirs["kidney_a.tif"].values():
        assert obj["class"] == "Glomerulus: Proposed"
        assert obj["locked"]
        assert list(obj["measurements"]) == ["Queue rank"]
