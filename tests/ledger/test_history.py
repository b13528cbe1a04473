"""The history is append-only, survives an interrupted append, and never swallows foreign text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glombridge.errors import DamagedFileError, MachineError
from glombridge.ledger import History


def test_events_come_back_in_order(tmp_path: Path) -> None:
    history = History(tmp_path / "h" / "history.jsonl")
    history.append("pull", images={"1": "a"})
    history.append("push", objects=[{"id": "é\n"}])
    assert [e["event"] for e in history.events()] == ["pull", "push"]
    assert [e["objects"] for e in history.events("push")] == [[{"id": "é\n"}]]
    assert list(History(tmp_path / "none.jsonl").events()) == []


@given(cut=st.integers(1, 200))
def test_an_append_cut_anywhere_loses_only_itself(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("h") / "history.jsonl"
    history = History(path)
    history.append("first", n=1)
    whole = path.read_bytes()
    history.append("second", text="x" * 100)
    path.write_bytes(path.read_bytes()[: len(whole) + cut])
    is_complete = path.read_bytes().endswith(b"\n")
    history.append("third", n=3)
    kept = [e["event"] for e in history.events()]
    # Without its line end a record counts as unfinished only if its JSON is.
    assert kept[0] == "first"
    assert kept[-1] == "third"
    if is_complete:
        assert kept == ["first", "second", "third"]
    assert path.read_bytes().startswith(whole)


@pytest.mark.parametrize("line", ["not json", "[1]", '{"no": "event"}', "3"])
def test_foreign_lines_are_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(DamagedFileError, match="line 1"):
        list(History(path).events())


def test_a_folder_that_cannot_be_written_is_the_machines_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError):
        History(tmp_path / "file" / "history.jsonl").append("x")
