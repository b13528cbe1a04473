"""``agree`` as typed: two readers, what they agree on, adjudication."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from folders import files_in
from marked import MARKS, TO_JUDGE, decide, graded, objects, put
from typed import run_json

from glombridge.cli import main
from glombridge.ledger import Workspace
from glombridge.provenance import REVIEWED, REVIEWER
from glombridge.qupath import ImageServerInfo, NativeStore
from glombridge.qupath.store import ImageEntry
from glombridge.settings import Settings
from glombridge.steps.agree import common_images


def test_the_loop_of_two_readers(
    project: Path, readers: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    states = []
    for folder in readers:
        image = run_json(capsys, "pull", folder)["images"][0]
        states.append({UUID(d["id"]): (d["to"], d["by"]) for d in image["decisions"]})
    anna, bert = states
    assert anna == dict.fromkeys(TO_JUDGE, ("accepted", "anna"))
    assert bert == {
        **{m.id: ("accepted", "bert") for m in MARKS[:3]},
        MARKS[3].id: ("rejected", "unknown"),
        MARKS[4].id: ("deleted", "unknown"),
    }
    out = project.with_name("tables")
    said = run_json(capsys, "agree", *readers, "--out", out)
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


def test_tables_are_all_of_one_call(
    project: Path,
    readers: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    replacing_fails: Callable[[int], None],
) -> None:
    out = project.with_name("tables")
    run_json(capsys, "agree", *readers, "--out", out)
    before = files_in(out)
    replacing_fails(2)
    run_json(capsys, "agree", *reversed(readers), "--out", out, code=7)
    assert files_in(out) == before


def test_adjudication_is_a_queue_that_changes_nobodys_marks(
    project: Path, readers: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before = objects(project, 1)
    files = files_in(project / "data")
    words = ["agree", *readers, "--adjudicate", project]
    dry = run_json(capsys, *words, "--dry-run")["adjudicate"]
    assert len(dry["images"][0]["add"]) == 3
    assert files_in(project / "data") == files
    first = run_json(capsys, *words)["adjudicate"]
    assert first["write"] == "write-001"
    there = objects(project, 1)
    assert {k: there[k] for k in before} == before
    new = [there[k] for k in there.keys() - before.keys()]
    assert {str(o.path_class) for o in new} == {"Disagreement"}
    assert sorted(o.measurements["Queue rank"] for o in new) == [1, 2, 3]
    top = next(o for o in new if o.measurements["Queue rank"] == 1)
    assert top.metadata["glombridge.reason"].startswith("Slight (anna: 1, bert: 0)")
    # Never truth, never a proposal, never a decision.
    pulled = run_json(capsys, "pull", project)["images"][0]
    assert (pulled["truth"], pulled["pending"]) == (2, 3)
    assert not {d["id"] for d in pulled["decisions"]} & {str(o.id) for o in new}
    after = files_in(project / "data")
    assert run_json(capsys, *words)["adjudicate"]["write"] is None
    assert files_in(project / "data") == after
    assert main(["undo", str(project)]) == 0
    assert files_in(project / "data") == files


def test_what_somebody_adjudicates_replaces_only_what_nobody_touched(
    project: Path, readers: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["agree", *readers, "--adjudicate", project]
    run_json(capsys, *words)
    signs = [o for o in objects(project, 1).values() if str(o.path_class) == "Disagreement"]
    put(NativeStore.open(project), 1, replace=(replace(signs[0], name="seen"),))
    decide(readers[1], 1, lambda o: graded(o, "bert", Slight=1, Severe=0, Sclerotic=0))
    run_json(capsys, *words)
    there = objects(project, 1)
    assert there[signs[0].id].name == "seen"
    assert len([o for o in there.values() if str(o.path_class) == "Disagreement"]) > 1


def test_a_settled_disagreement_stays_and_is_not_shown_again(
    project: Path, readers: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Settled as the review window does it: reader and time on the sign, nothing else of it."""
    words = ["agree", *readers, "--adjudicate", project]
    run_json(capsys, *words)
    run_json(capsys, "pull", project)
    times = run_json(capsys, "history", project, "--times")
    signs = [o for o in objects(project, 1).values() if str(o.path_class) == "Disagreement"]
    said = {REVIEWER: "carla", REVIEWED: "2026-11-25T08:00:00Z"}
    settled = replace(signs[0], metadata={**signs[0].metadata, **said})
    put(NativeStore.open(project), 1, replace=(settled,))
    for _ in range(2):
        assert run_json(capsys, *words)["adjudicate"]["write"] is None
        there = objects(project, 1)
        assert there[settled.id] == settled
        assert len([o for o in there.values() if str(o.path_class) == "Disagreement"]) == len(signs)
    # It is nobody's mark, and took nobody's time.
    pulled = run_json(capsys, "pull", project)["images"][0]
    assert (pulled["truth"], pulled["pending"], pulled["decisions"]) == (2, 3, [])
    assert run_json(capsys, "history", project, "--times") == times
    # Once a reader says something else, it is another disagreement.
    decide(readers[1], 1, lambda o: graded(o, "bert", Slight=1, Severe=0, Sclerotic=0))
    run_json(capsys, *words)
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
    folder = Path(run_json(capsys, "copy", project, "--reader", "cleo")["copy"])
    decide(folder, 1, lambda _: None)
    (pair,) = run_json(capsys, "agree", readers[0], folder)["pairs"]
    assert (pair["images"], pair["found_by_both"]) == (0, 0)


def other_project(project: Path) -> Path:
    store = NativeStore.create(project.with_name("other"))
    store.add_image(project / "z.tif", name="z.tif", metadata=ImageServerInfo(400, 300))
    Workspace(store.folder).create(Settings().with_scheme("three-grade", project))
    return store.folder
