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


@given(cut=st.integers(1, 300), zeros=st.sampled_from([0, 0, 7]))
def test_a_record_cut_anywhere_is_passed_over(
    tmp_path_factory: pytest.TempPathFactory, cut: int, zeros: int
) -> None:
    """Within words, numbers, escapes and letters of several bytes; a power cut may leave zeros."""
    path = tmp_path_factory.mktemp("h") / "history.jsonl"
    history = History(path)
    values = [True, False, None, -1, 1.5, 1e-30, {"é": 'ü\n\x01"', "\U0001f9ea": []}, "\\"]
    history.append("cut", values=values, more={"x": {"y": "z"}})
    line = path.read_bytes()
    path.write_bytes(line[: min(cut, len(line) - 2)] + b"\0" * zeros)
    history.append("next")
    assert [e["event"] for e in history.events()] == ["next"]


@pytest.mark.parametrize(
    ("whole", "spoilt"),
    [
        ('"P1":"test"', '"P1":"test'),
        ('"P1":"test"', '"P1:"test"'),
        ('"P1":"test"', '"P1" "test"'),
        ('"seed":"0"}', '"seed":"0}'),
        ('"event"', '"evnt"'),
        ('"v":2', '"v":"x"'),
        ("}", "]"),
        ('"seed":', '"seed":\0'),
        ("P1", "P\udcff"),
    ],
)
def test_a_record_that_was_spoilt_is_not_passed_over(
    tmp_path: Path, whole: str, spoilt: str
) -> None:
    """With this one a test patient would be forgotten, and could be trained on."""
    path = tmp_path / "history.jsonl"
    history = History(path)
    history.append("split", patients={"P1": "test"}, seed="0")
    history.append("next")
    data = path.read_bytes()
    assert whole.encode() in data
    path.write_bytes(data.replace(whole.encode(), spoilt.encode(errors="surrogateescape"), 1))
    with pytest.raises(DamagedFileError, match="line 1"):
        list(history.events())


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
