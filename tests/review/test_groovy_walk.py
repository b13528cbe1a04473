"""The queue of the review window without the window: what is shown, what is next, what can be taken back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from groovy_in_qupath import SCRIPTS, needs_groovy, run_groovy, run_job

HERE = Path(__file__).parent / "groovy"
SCHEME = {
    "format": 1,
    "name": "tiny",
    "version": "1",
    "title": "Tiny",
    "classes": ["Glomerulus"],
    "rejected": "Rejected*",
    "lesions": [
        {"name": "Crescent", "key": "C", "label": "Crescent", "max": 1, "excludes": []},
        {"name": "Slight", "key": "I", "label": None, "max": 2, "excludes": []},
    ],
    "dominance": ["Crescent", "Slight"],
}
DR = {"reader": "Dr A", "at": "2026-11-25T08:00:00Z", "seconds": 2.5}
SETTLED = {"glombridge.reviewer": "Dr A", "glombridge.reviewed": "2026-11-25T08:00:00Z"}

pytestmark = [pytest.mark.qupath, needs_groovy]


def proposal(name: str, x: float, rank: float, confidence: float, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "class": "Glomerulus: Proposed",
        "box": [x, 10, 40, 40],
        "measurements": {"Queue rank": rank, "Confidence": confidence},
        "metadata": {
            "glombridge.state": "proposal",
            "glombridge.reason": f"confidence {confidence}, 0.1 above the operating point (0.10)",
        },
        **more,
    }


def sign(name: str, x: float, rank: float, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "class": "Disagreement",
        "box": [x, 10, 42, 41],
        "measurements": {"Queue rank": rank},
        "metadata": {
            "glombridge.state": "disagreement",
            "glombridge.reason": "Slight (anna: 1, bert: 0)",
        },
        **more,
    }


def human(name: str, x: float, class_name: str = "Glomerulus", **more: Any) -> dict[str, Any]:
    return {"name": name, "class": class_name, "box": [x, 10, 40, 40], **more}


QUEUE = {
    "one": [proposal("third", 10, 3, 0.9), proposal("first", 100, 1, 0.2), human("drawn", 200)],
    # Metadata of a detection are read-only in QuPath 0.5, but for those who know how.
    "two": [proposal("second", 10, 2, 0.5, detection=True)],
}
READERS = {
    "one": [
        human("drawn", 10),
        sign("on drawn", 9, 1),
        human("neighbour", 53),
        sign("on nothing", 500, 2),
        human("thrown out", 300, "Rejected*"),
        human("drawn anew", 303),
        sign("on anew", 300, 3),
        human("other plane", 700, z=1),
        sign("on the first plane", 700, 4),
        {"name": "not ours", "class": "Disagreement", "box": [10, 10, 40, 40]},
    ]
}


def walk(folder: Path, images: dict[str, Any], *steps: dict[str, Any]) -> list[dict[str, Any]]:
    done: list[dict[str, Any]] = run_job(
        HERE / "walk_queue.groovy",
        folder,
        scripts=str(SCRIPTS),
        scheme=SCHEME,
        images=images,
        steps=list(steps),
    )
    return done


def states(answer: dict[str, Any]) -> dict[str, str]:
    return {row["name"]: row["state"] for row in answer["rows"]}


def test_the_queue_goes_by_rank_over_all_images_and_filters_narrow_it(tmp_path: Path) -> None:
    filters = [
        {"shown": "to judge"},
        {"shown": "to grade"},
        {"shown": "judged"},
        {"shown": "everything", "image": "two"},
        {"shown": "everything", "image": None, "lowest": 0.5},
        {"lowest": None, "highest": 0.5, "shown": "to judge"},
        {"highest": None, "kind": "confidence #, # above the operating point (#)"},
    ]
    said = walk(tmp_path, QUEUE, *({"filter": f} for f in filters))
    assert [s["visible"] for s in said] == [
        ["first", "second", "third"],
        ["first", "second", "third", "drawn"],
        ["drawn"],
        ["second"],
        ["second", "third"],
        ["first", "second"],
        ["first", "second", "third"],
    ]
    assert said[0]["counts"] == {"text": "1 judged, 3 left, 0 of 4 graded", "done": 0}
    assert said[0]["choices"] == ["to judge", "to grade", "judged", "everything"]
    assert said[0]["first"] == "to judge"
    lines = {row["name"]: (row["line"], row["words"]) for row in said[0]["rows"]}
    reason = "confidence 0.5, 0.1 above the operating point (0.10)"
    assert lines["second"] == (
        "2.  Glomerulus: Proposed  0.50",
        f"Glomerulus: Proposed - {reason}",
    )
    assert lines["drawn"] == ("Glomerulus", "Glomerulus")


def test_decisions_are_taken_back_the_last_one_first(tmp_path: Path) -> None:
    said = walk(
        tmp_path,
        QUEUE,
        {"do": "next", "on": "first"},
        {"do": "accept", "on": "first", **DR},
        {"do": "reject", "on": "second", **DR},
        {"do": "lesion", "on": "third", "name": "Crescent", "value": 1, **DR},
        {"do": "graded", "on": "third", **DR},
        {"do": "accept", "on": "first", **(DR | {"reader": " "})},
        {"do": "next", "on": "third", "by": -1, "filter": {"shown": "everything"}},
        *({"do": "undo"} for _ in range(5)),
    )
    start, a, b, c, d, refused, back, *undone = said
    assert start["to"] == "second"
    assert states(d) == {
        "first": "accepted",
        "second": "rejected",
        "third": "graded",
        "drawn": "accepted",
    }
    assert d["counts"] == {"text": "4 judged, 0 left, 1 of 3 graded", "done": 0.5}
    assert d["row"]["lesions"] == {"Crescent": 1, "Slight": 0}
    assert "needs the name of its reader" in refused["error"]
    assert refused["state"] == d["state"]
    assert back["to"] == "second"
    # Exactly what was before, one after the other.
    assert [u["state"] for u in undone[:4]] == [s["state"] for s in (c, b, a, start)]
    assert [u["changed"] for u in undone] == [["third"], ["third"], ["second"], ["first"], None]
    assert states(undone[3]) == states(start)


def test_a_verdict_on_a_disagreement_goes_onto_the_glomerulus_and_settles_it(
    tmp_path: Path,
) -> None:
    said = walk(
        tmp_path,
        READERS,
        {"filter": {"shown": "disagreements"}},
        {"do": "lesion", "on": "on drawn", "name": "Slight", "value": 2, **DR},
        {"do": "edit", "on": "on anew", **DR},
        {"do": "reject", "on": "on anew", **DR},
        {"do": "accept", "on": "on nothing", **DR},
        {"do": "reject", "on": "on nothing", **DR},
        *({"do": "undo"} for _ in range(4)),
    )
    start, graded, edited, rejected, refused, nothing, *undone = said
    assert start["first"] == "disagreements"
    assert start["choices"] == ["to judge", "to grade", "judged", "disagreements", "everything"]
    assert start["visible"] == ["on drawn", "on nothing", "on anew", "on the first plane"]
    assert start["counts"] == {"text": "0 settled, 4 left", "done": 0}
    # The glomerulus at its place: not the neighbour, not in another plane, rather drawn than rejected.
    judged = {row["name"]: row["judged"] for row in start["rows"]}
    assert judged["on drawn"] == "drawn"
    assert judged["on anew"] == "drawn anew"
    assert judged["on nothing"] is judged["on the first plane"] is None

    assert graded["row"]["line"] == "1.  Disagreement on Glomerulus"
    assert graded["row"]["words"] == (
        "Disagreement on Glomerulus - Slight (anna: 1, bert: 0) - by Dr A"
    )
    assert graded["changed"] == ["drawn", "on drawn"]
    assert graded["row"]["state"] == "settled"
    assert graded["row"]["lesions"] == {"Slight": 2}
    assert graded["counts"] == {"text": "1 settled, 3 left", "done": 0.25}
    class_name, measured, metadata, _ = graded["state"]["drawn"]
    assert (class_name, measured) == ("Glomerulus", {"Lesion: Slight": 2})
    assert metadata == SETTLED | {"glombridge.seconds": "2.5"}
    was, now = (s["state"]["on drawn"] for s in (start, graded))
    assert now == [was[0], was[1], was[2] | SETTLED, True], "no time, no lesion, no other class"

    assert edited["state"]["drawn anew"][3] is False
    assert edited["row"]["state"] == "disagreement"
    assert rejected["state"]["drawn anew"][0] == "Rejected*"
    assert "No glomerulus is marked here" in refused["error"]
    assert refused["state"] == rejected["state"]
    assert nothing["changed"] == ["on nothing"]
    before = (rejected, edited, graded, start)
    assert [u["state"] for u in undone] == [s["state"] for s in before]
    assert [states(u) for u in undone] == [states(s) for s in before]
    assert "not ours" not in judged


# Scripts of different versions side by side: one was changed by somebody and left as it was.


def of_level_1(folder: Path) -> None:
    """The beginning of every script before there were levels, and its call."""
    (folder / "glombridge_export.groovy").write_text(
        "new GroovyShell(this.class.classLoader)"
        ".parse(new File(args[0] as String, 'glombridge_shared.groovy')).requireQuPath()\n",
        "utf-8",
    )


def without_begin(folder: Path) -> None:
    file = folder / "glombridge_shared.groovy"
    text = file.read_text("utf-8")
    assert "void begin(" in text
    file.write_text(text.replace("void begin(", "void other("), "utf-8")


def other_level(name: str) -> Any:
    def change(folder: Path) -> None:
        file = folder / name
        text = file.read_text("utf-8")
        assert text.count("    return 2\n") == 1
        file.write_text(text.replace("    return 2\n", "    return 3\n"), "utf-8")

    return change


def no_level(folder: Path) -> None:
    file = folder / "glombridge_exchange.groovy"
    text = file.read_text("utf-8")
    assert "int getLevel()" in text
    file.write_text(text.replace("int getLevel()", "int otherLevel()"), "utf-8")


def missing(folder: Path) -> None:
    (folder / "glombridge_exchange.groovy").unlink()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(of_level_1, "the script that was started is of level 1", id="old-script"),
        pytest.param(without_begin, "of an older glombridge than this script", id="old-shared"),
        pytest.param(
            other_level("glombridge_shared.groovy"), "started is of level 2", id="newer-shared"
        ),
        pytest.param(
            other_level("glombridge_exchange.groovy"),
            "glombridge_exchange.groovy is of level 3",
            id="newer-part",
        ),
        pytest.param(no_level, "glombridge_exchange.groovy is of level 1", id="old-part"),
        pytest.param(missing, "glombridge_exchange.groovy must lie beside", id="missing-part"),
    ],
)
def test_scripts_of_different_versions_say_so(tmp_path: Path, change: Any, says: str) -> None:
    folder = tmp_path / "scripts"
    shutil.copytree(SCRIPTS, folder)
    change(folder)
    job = tmp_path / "job.json"
    job.write_text(json.dumps({"format": 1, "result": "result.json"}), "utf-8")
    argument = folder if change is of_level_1 else job
    said = run_groovy(folder / "glombridge_export.groovy", argument, fails=True)
    assert says in said
    assert "MissingMethod" not in said
    assert "glombridge scripts PROJECT" in said
