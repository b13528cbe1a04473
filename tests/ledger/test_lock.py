"""One writer at a time: dead owners of this host are taken over, others are refused."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from glombridge.errors import ProtectedError
from glombridge.ledger import ProjectLock


def write_owner(path: Path, **owner: object) -> None:
    path.write_text(json.dumps(owner), encoding="utf-8")


def test_it_is_released_even_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(ZeroDivisionError), ProjectLock(path):
        _ = 1 / (not path.exists())
    assert not path.exists()
    with ProjectLock(path):
        pass


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with ProjectLock(path):
        with pytest.raises(ProtectedError, match=f"process {os.getpid()} on this host"):
            ProjectLock(path).__enter__()
        assert path.exists()


def test_a_lock_that_another_broke_is_left_to_them(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first, second = ProjectLock(path), ProjectLock(path, break_lock=True)
    with first:
        second.__enter__()
        theirs = path.read_text()
    assert path.read_text() == theirs
    with pytest.raises(ProtectedError):
        ProjectLock(path).__enter__()
    second.__exit__(None, None, None)
    assert not path.exists()


def test_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import sys, os; from pathlib import Path; from glombridge.ledger import ProjectLock; "
        "ProjectLock(Path(sys.argv[1])).__enter__(); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert path.exists()
    with ProjectLock(path):
        assert json.loads(path.read_text())["pid"] == os.getpid()


@pytest.mark.skipif(sys.platform == "win32", reason="kills by a POSIX signal")
@pytest.mark.parametrize("at", ["json.dump", "json.dumps", "pathlib.Path.write_text", "os.link"])
@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_a_kill_while_it_is_taken_leaves_no_nameless_lock(
    at: str, is_done: bool, tmp_path: Path
) -> None:
    """``json.dump`` is where an earlier version was between the file and its text; this one never calls it."""
    code = (
        "import sys, os, signal, json, pathlib; from glombridge.ledger import ProjectLock\n"
        "where, name = {at.rpartition('.')[0]}, sys.argv[2].rpartition('.')[2]\n"
        "does = getattr(where, name)\n"
        "def killed(*a, **k):\n"
        "    if int(sys.argv[3]): does(*a, **k)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "setattr(where, name, killed)\n"
        "ProjectLock(pathlib.Path(sys.argv[1])).__enter__()\n"
    ).replace("{at.rpartition('.')[0]}", at.rpartition(".")[0])
    path = tmp_path / "lock"
    subprocess.run([sys.executable, "-c", code, path, at, str(int(is_done))], check=False)
    with ProjectLock(path):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert {p.name for p in tmp_path.iterdir()} <= {"lock.guard"}


def test_a_disk_that_knows_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    test_a_second_writer_is_refused(tmp_path)


def test_a_process_number_given_again_is_not_the_owner(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    started = psutil.Process().create_time() - 1000
    write_owner(path, host=socket.gethostname(), pid=os.getpid(), started=started)
    with ProjectLock(path):
        pass


@pytest.mark.parametrize(
    "owner",
    [
        pytest.param({"host": "another-host", "pid": 1, "started": 0}, id="another-host"),
        pytest.param({"host": socket.gethostname()}, id="unclear-owner"),
    ],
)
def test_what_cannot_be_judged_is_refused_without_break_lock(
    tmp_path: Path, owner: dict[str, object]
) -> None:
    path = tmp_path / "lock"
    write_owner(path, **owner)
    with pytest.raises(ProtectedError, match="--break-lock"):
        ProjectLock(path).__enter__()
    assert json.loads(path.read_text()) == owner
    with ProjectLock(path, break_lock=True):
        pass


def test_an_unreadable_lock_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_bytes(b"\xff")
    with pytest.raises(ProtectedError, match="cannot be read"):
        ProjectLock(path).__enter__()
