"""The ledger says what the history says, whatever happens to its file."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glombridge.errors import DamagedFileError, ProtectedError
from glombridge.ledger import History, Ledger, State
from glombridge.ledger import history as history_module
from glombridge.ledger.pushed import record_of, version_of
from glombridge.ledger.writes import read_writes
from glombridge.objects import ObjectKind, Outline, OutlineKind, PathClass, Plane, SlideObject
from glombridge.qupath.stored_form import differences

SPACE = UUID("22222222-2222-5333-8444-555555555555")
SHARED = {"glombridge.run": "detect-001"}


def an_id(k: int) -> UUID:
    return uuid5(SPACE, str(k))


def an_object(k: int, shift: float = 0.0) -> SlideObject:
    return SlideObject(
        id=an_id(k),
        kind=ObjectKind.ANNOTATION,
        outline=Outline.rectangle(k * 100.0 + shift, 0.0, k * 100.0 + shift + 90, 90.0),
        path_class=PathClass.parse("Glomerulus: Proposed"),
        locked=True,
        measurements={"Confidence": 0.5},
        metadata=SHARED,
    )


def begin(
    ledger: Ledger,
    write: str,
    *,
    image: int = 1,
    add: tuple[SlideObject, ...] = (),
    update: tuple[SlideObject, ...] = (),
    withdraw: tuple[int, ...] = (),
    done: bool = True,
    run: str = "detect-001",
) -> None:
    ledger.record(
        "write-begun",
        command="push",
        write=write,
        image=image,
        run=run,
        model="abc",
        layer="main",
        sha256=f"after {write}",
        replaced=f"before {write}",
        snapshot=f"glombridge/snapshots/{write}",
        shared=SHARED,
        add=[record_of(o, SHARED) for o in add],
        update=[record_of(o, SHARED) for o in update],
        withdraw=[str(an_id(k)) for k in withdraw],
    )
    if done:
        ledger.record("write-done", write=write, image=image)


def decide(ledger: Ledger, k: int, state: State, *, image: int = 1) -> None:
    ledger.record(
        "review",
        image=image,
        after=ledger.last_look(image),
        decisions=[{"id": str(an_id(k)), "to": state.value, "by": "unknown"}],
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path)


def said(ledger: Ledger) -> dict[str, Any]:
    """Everything the ledger can be asked."""
    return {
        "base": {i: ledger.base(i) for i in (1, 2)},
        "drawn": {i: ledger.drawn(i) for i in (1, 2)},
        "looks": {i: ledger.last_look(i) for i in (1, 2)},
        "writes": read_writes(ledger),
        "open": ledger.open_writes(),
        "states": ledger.states(),
        "layers": ledger.layers(),
        "steps": [s for k in range(6) for s in ledger.steps(str(an_id(k)))],
        "events": ledger.events(),
        "parts": ledger.parts(),
        "content": ledger.content(1, "main"),
    }


def some_history(ledger: Ledger) -> None:
    ledger.record("split", patients={"P1": "train", "P2": "test"})
    begin(ledger, "write-001", add=tuple(an_object(k) for k in range(4)))
    ledger.record("content", image=1, run="detect-001", layer="main", known=[["x", 0.5, 0.9]])
    decide(ledger, 0, State.ACCEPTED)
    decide(ledger, 1, State.DELETED)
    begin(ledger, "write-002", update=(an_object(2, 3.0),), withdraw=(3,), run="detect-002")
    begin(ledger, "write-002", image=2, add=(an_object(5),), run="detect-002")
    ledger.record("undo", undoes="write-002", run="detect-002", image=2, sha256="", replaced="x")
    begin(ledger, "write-003", update=(an_object(2, 5.0),), done=False, run="detect-003")


def test_the_state_of_each_object_is_its_last_step_in_force(ledger: Ledger) -> None:
    some_history(ledger)
    base = {b.id: b for b in ledger.base(1)}
    states = {k: base[an_id(k)].state for k in range(4)}
    assert states == {
        0: State.ACCEPTED,
        1: State.DELETED,
        2: State.PROPOSAL,
        3: State.WITHDRAWN,
    }
    updated = base[an_id(2)]
    assert [v.object for v in updated.versions] == [an_object(2), an_object(2, 3.0)]
    assert (updated.run, updated.write, updated.is_new_in_write) == (
        "detect-002",
        "write-001",
        True,
    )
    assert ledger.base(2) == []  # undone
    assert [(w.write, w.image) for w in ledger.open_writes()] == [("write-003", 1)]
    assert ledger.states() == {
        1: {State.ACCEPTED: 1, State.DELETED: 1, State.PROPOSAL: 1, State.WITHDRAWN: 1}
    }
    assert [w.id for w in read_writes(ledger)] == ["write-001", "write-002"]
    assert ledger.next_write_id() == "write-004"
    assert ledger.parts() == {"P1": "train", "P2": "test"}


def test_undo_goes_back_to_the_step_before(ledger: Ledger) -> None:
    some_history(ledger)
    ledger.record("write-dropped", write="write-003", image=1, why="test")
    ledger.record("undo", undoes="write-002", run=None, image=1, sha256="", replaced="x")
    base = {b.id: b for b in ledger.base(1)}
    assert base[an_id(2)].object == an_object(2)
    assert base[an_id(3)].state is State.PROPOSAL
    assert {s.undone for s in ledger.steps(str(an_id(3)))} == {False, True}


def test_an_object_that_comes_back_appears_by_its_new_write(ledger: Ledger) -> None:
    begin(ledger, "write-001", add=(an_object(0),))
    begin(ledger, "write-002", withdraw=(0,))
    begin(ledger, "write-003", add=(an_object(0, 1.0),))
    decide(ledger, 0, State.LOST)
    (known,) = ledger.base(1)
    assert (known.write, known.is_new_in_write, known.losses) == ("write-003", False, 1)


def garbage(file: Path) -> None:
    file.write_bytes(b"this is no database" * 100)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: 3 * 4096])


def other_schema(file: Path) -> None:
    with sqlite3.connect(file) as db:
        db.execute("PRAGMA user_version = 99")
        db.execute("CREATE TABLE from_the_future (x)")


def wrong_rows(file: Path) -> None:
    with sqlite3.connect(file) as db:
        db.execute("UPDATE meta SET value = 'something else' WHERE key = 'tail'")
        db.execute("DELETE FROM object")


def folder_in_the_way(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda file: file.unlink(), id="deleted"),
        pytest.param(lambda file: file.write_bytes(b""), id="empty"),
        garbage,
        cut,
        other_schema,
        wrong_rows,
        folder_in_the_way,
    ],
    ids=lambda f: f.__name__,
)
def test_the_file_is_made_anew_from_the_history(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    ledger = Ledger.open(tmp_path)
    some_history(ledger)
    before = said(ledger)
    ledger.close()
    spoil(tmp_path / "ledger.sqlite")
    with Ledger.view(tmp_path) as view:
        assert said(view) == before
    with Ledger.open(tmp_path) as again:
        assert said(again) == before


def full_disk(ledger: Ledger, _: Path) -> None:
    ledger._db.execute("PRAGMA max_page_count = 1")


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(
            lambda _, file: file.unlink(),
            id="deleted",
            marks=pytest.mark.skipif(sys.platform == "win32", reason="Windows does not let you"),
        ),
        pytest.param(lambda _, file: garbage(file), id="garbage"),
        full_disk,
    ],
    ids=lambda f: f.__name__,
)
def test_a_command_goes_on_whose_file_is_spoilt_in_the_middle(
    tmp_path: Path, spoil: Callable[[Ledger, Path], None]
) -> None:
    with Ledger.open(tmp_path) as ledger:
        some_history(ledger)
        spoil(ledger, tmp_path / "ledger.sqlite")
        begin(ledger, "write-004", add=tuple(an_object(k) for k in range(4, 400)))
        decide(ledger, 2, State.REJECTED)
        expected = said(ledger)
    assert an_id(4) in {o.object.id for o in expected["base"][1]}
    with Ledger.open(tmp_path) as again:
        assert said(again) == expected


def test_reading_changes_no_file_and_sees_what_was_appended_since(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        some_history(ledger)
    History(tmp_path / "history.jsonl").append("split", patients={"P9": "val"})
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with Ledger.view(tmp_path) as view:
        assert view.parts()["P9"] == "val"
        assert len(view.base(1)) == 4
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert not any(p.suffix in (".sqlite-wal", ".sqlite-shm") for p in tmp_path.iterdir())


def test_opening_what_is_up_to_date_changes_no_byte(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        some_history(ledger)
    before = (tmp_path / "ledger.sqlite").read_bytes()
    with Ledger.open(tmp_path) as ledger:
        assert len(ledger.base(1)) == 4
    assert (tmp_path / "ledger.sqlite").read_bytes() == before


def test_a_history_brought_back_from_a_backup_is_read_anew(tmp_path: Path) -> None:
    backup = tmp_path / "backup.jsonl"
    with Ledger.open(tmp_path) as ledger:
        begin(ledger, "write-001", add=(an_object(0),))
        shutil.copy(tmp_path / "history.jsonl", backup)
        begin(ledger, "write-002", add=(an_object(1),))
    shutil.copy(backup, tmp_path / "history.jsonl")
    with Ledger.open(tmp_path) as ledger:
        assert [b.id for b in ledger.base(1)] == [an_id(0)]
        begin(ledger, "write-002", add=(an_object(2),))
        assert {b.id for b in ledger.base(1)} == {an_id(0), an_id(2)}


@pytest.fixture(scope="module")
def whole_history(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("whole")
    with Ledger.open(folder) as ledger:
        some_history(ledger)
    return (folder / "history.jsonl").read_bytes()


@settings(max_examples=40)
@given(cut_at=st.integers(1, 4000))
def test_a_history_cut_anywhere_gives_the_same_ledger_read_at_once_or_bit_by_bit(
    tmp_path_factory: pytest.TempPathFactory, whole_history: bytes, cut_at: int
) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    path = folder / "history.jsonl"
    # Taking some into the index first, so that what is cut off has to be forgotten.
    path.write_bytes(whole_history)
    Ledger.open(folder).close()
    path.write_bytes(whole_history[: -min(cut_at, len(whole_history))])
    with Ledger.open(folder) as ledger:
        ledger.record("split", patients={"P3": "val"})
        bit_by_bit = said(ledger)
    with Ledger.in_memory(History(path)) as at_once:
        assert said(at_once) == bit_by_bit
    assert bit_by_bit["parts"]["P3"] == "val"


def test_pushes_of_the_first_format_are_read(tmp_path: Path) -> None:
    line = {
        "v": 1,
        "at": "2026-01-01T00:00:00Z",
        "event": "push",
        "run": "detect-001",
        "model": "abc",
        "image": 1,
        "objects": [
            {
                "id": str(an_id(0)),
                "box": [0.0, 0.0, 9.0, 9.0],
                "class": "Glomerulus: Proposed",
                "score": 0.7,
            }
        ],
    }
    undoable = {"write": "write-004", "sha256": "a", "replaced": "b", "snapshot": None}
    other = [{**line["objects"][0], "id": str(an_id(1))}]
    text = "".join(json.dumps(x) + "\n" for x in (line, {**line, **undoable, "objects": other}))
    (tmp_path / "history.jsonl").write_text(text, "utf-8")
    with Ledger.open(tmp_path) as ledger:
        base = ledger.base(1)
        assert {b.id for b in base} == {an_id(0), an_id(1)}
        assert {(b.layer, b.run, b.score, b.versions[0].in_full) for b in base} == {
            ("main", "detect-001", 0.7, False)
        }
        # Of the older one no data file is on record, so it cannot be undone.
        assert [w.id for w in read_writes(ledger)] == ["write-004"]
        assert ledger.next_write_id() == "write-005"


def test_events_of_a_newer_version_are_refused(tmp_path: Path) -> None:
    line = {"v": history_module.FORMAT_VERSION + 1, "at": "", "event": "push"}
    (tmp_path / "history.jsonl").write_text(json.dumps(line) + "\n", "utf-8")
    for opened in (Ledger.open, Ledger.view):
        with pytest.raises(ProtectedError, match="newer glombridge"):
            opened(tmp_path)


def test_a_damaged_history_is_an_error_not_an_empty_ledger(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        some_history(ledger)
    path = tmp_path / "history.jsonl"
    path.write_bytes(b"rubbish\n" + path.read_bytes())
    for opened in (Ledger.open, Ledger.view):
        with pytest.raises(DamagedFileError, match="line 1"):
            opened(tmp_path)


@pytest.mark.parametrize(
    "obj",
    [
        pytest.param(an_object(3, 0.123456789), id="box"),
        pytest.param(
            SlideObject(
                id=an_id(1),
                kind=ObjectKind.DETECTION,
                outline=Outline(
                    Outline.ellipse(0.1, 0.2, 30.3, 40.4).geometry,
                    OutlineKind.POLYGON,
                    Plane(-1, 2, 3),
                ),
                measurements={"Confidence": 1 / 3, "é": -1e300},
                metadata={"x": "y"},
            ),
            id="polygon",
        ),
    ],
)
def test_an_object_comes_back_from_its_record_to_the_last_digit(obj: SlideObject) -> None:
    record = json.loads(json.dumps(record_of(obj, SHARED)))
    assert not differences(version_of(record, SHARED).object, obj)
    assert record["hash"] != record_of(an_object(7), SHARED)["hash"]
