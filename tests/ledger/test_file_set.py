"""Files that belong together: of one call, whatever happens in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from folders import files_in
from killed_moves import KILL_AT_MOVE

from glombridge.errors import MachineError, ProtectedError
from glombridge.ledger import file_set
from glombridge.ledger.file_set import LOCK, write_file_set

NAMES = ("one.csv", "two.csv", "all.json")
ROOT = Path(__file__).parents[2]
KILLED = (
    KILL_AT_MOVE
    + """
from pathlib import Path
from glombridge.ledger.file_set import write_file_set
write_file_set(Path(sys.argv[1]), dict.fromkeys(("one.csv", "two.csv", "all.json"), "new"))
"""
)


def texts(said: str) -> dict[str, str]:
    return dict.fromkeys(NAMES, said)


def written(said: str) -> dict[str, bytes]:
    return dict.fromkeys(NAMES, said.encode())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the files of an earlier call, and what somebody put beside them."""
    made = tmp_path / "a" / "tables"
    write_file_set(made, texts("old"))
    (made / "notes.txt").write_text("mine")
    return made


def test_they_take_the_place_of_the_earlier_ones(folder: Path) -> None:
    assert write_file_set(folder, texts("new")) == tuple(folder / name for name in NAMES)
    assert files_in(folder) == {**written("new"), "notes.txt": b"mine"}


@pytest.mark.skipif(sys.platform == "win32", reason="kills by a POSIX signal")
@pytest.mark.parametrize("moves", range(7))
def test_a_kill_leaves_no_files_of_two_calls(moves: int, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, folder, str(moves)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == (0 if moves == 6 else -signal.SIGKILL)
    there = {name: (folder / name).read_text() for name in NAMES if (folder / name).is_file()}
    assert len(set(there.values())) <= 1
    assert "all.json" not in there or len(there) == len(NAMES)
    write_file_set(folder, texts("newer"))
    assert files_in(folder) == {**written("newer"), "notes.txt": b"mine"}


@pytest.mark.parametrize("moves", range(6))
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_cannot_be_completed_changes_nothing(
    moves: int, error: BaseException, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, replace = moves, os.replace

    def failing(*paths: Path) -> None:
        nonlocal left
        left -= 1
        if left == -1:
            raise error
        replace(*paths)

    before = files_in(folder)
    monkeypatch.setattr("glombridge.qupath.saving.os.replace", failing)
    with pytest.raises((MachineError, KeyboardInterrupt)):
        write_file_set(folder, texts("new"))
    assert left < 0
    assert files_in(folder) == before


def test_a_folder_in_the_place_of_a_file_stays(folder: Path) -> None:
    (folder / "two.csv").unlink()
    (folder / "two.csv" / "inner").mkdir(parents=True)
    before = files_in(folder)
    with pytest.raises(MachineError, match=r"two\.csv"):
        write_file_set(folder, texts("new"))
    assert files_in(folder) == before
    assert (folder / "two.csv" / "inner").is_dir()


def test_another_process_that_writes_there_is_waited_for_and_then_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_set, "WAIT_SECONDS", 0.01)
    before = files_in(folder)
    with FileLock(folder / LOCK), pytest.raises(ProtectedError, match="another process"):
        write_file_set(folder, texts("new"))
    assert {k: v for k, v in files_in(folder).items() if k != LOCK} == before
    write_file_set(folder, texts("new"))
    assert files_in(folder) == {**written("new"), "notes.txt": b"mine"}
