import errno
import os
import stat
import sys

import pytest

from glombridge.errors import MachineError, ProtectedError
from glombridge.qupath import FileStamp, stamp_of
from glombridge.qupath.saving import MISSING, atomic_write, read_stamped, replace_file

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")


def accept(_):
    return None


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "data.qpdata"
    path.write_bytes(b"old")
    return path


def names(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


def test_replace_keeps_a_copy_and_gives_the_new_stamp(file, tmp_path):
    snapshot = tmp_path / "kept" / "copy"
    old = stamp_of(file)
    new = replace_file(file, b"new", expected=old, snapshot=snapshot, verify=accept)
    assert (file.read_bytes(), snapshot.read_bytes()) == (b"new", b"old")
    assert new == stamp_of(file) != old
    assert names(tmp_path) == ["copy", "data.qpdata"]


def test_new_file(tmp_path):
    path = tmp_path / "f"
    replace_file(path, b"new", expected=MISSING, snapshot=tmp_path / "no", verify=accept)
    assert names(tmp_path) == ["f"]
    assert stamp_of(tmp_path / "other") == FileStamp(0, 0, "")


@POSIX
def test_mode_is_kept(file):
    file.chmod(0o640)
    replace_file(file, b"new", expected=stamp_of(file), snapshot=None, verify=accept)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


@POSIX
def test_new_file_has_an_ordinary_mode(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    atomic_write(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda p: p.write_bytes(b"other"), "changed"),
        (lambda p: p.unlink(), "disappeared"),
        (lambda p: os.utime(p, (1e9, 1e9)), "changed"),
    ],
    ids=["content", "removed", "touched"],
)
def test_file_that_changed_since_it_was_read_is_not_overwritten(file, tmp_path, change, says):
    old = stamp_of(file)
    change(file)
    state = file.read_bytes() if file.exists() else None
    with pytest.raises(ProtectedError, match=says):
        replace_file(file, b"new", expected=old, snapshot=tmp_path / "copy", verify=accept)
    assert (file.read_bytes() if file.exists() else None) == state
    assert set(names(tmp_path)) <= {"data.qpdata"}


def test_read_only_file_is_not_replaced(file, tmp_path, monkeypatch):
    # What os.access says for mode 0o444 to anyone but root, who may write it.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(MachineError, match="read-only"):
        atomic_write(file, b"new")
    assert file.read_bytes() == b"old"
    assert names(tmp_path) == ["data.qpdata"]


@POSIX
def test_link_stays_a_link(file, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(file)
    atomic_write(link, b"new")
    assert link.is_symlink()
    assert file.read_bytes() == b"new"


def test_file_that_appeared_is_not_overwritten(file):
    with pytest.raises(ProtectedError, match="appeared"):
        replace_file(file, b"new", expected=MISSING, snapshot=None, verify=accept)
    assert file.read_bytes() == b"old"


def test_change_while_the_copy_is_made_is_seen(file, tmp_path):
    old = stamp_of(file)

    def verify(_):
        file.write_bytes(b"human")

    with pytest.raises(ProtectedError, match="changed"):
        replace_file(file, b"new", expected=old, snapshot=tmp_path / "copy", verify=verify)
    assert file.read_bytes() == b"human"


def test_failed_verification_publishes_nothing(file, tmp_path):
    def verify(data):
        assert data == b"new"
        msg = "no"
        raise ProtectedError(msg)

    with pytest.raises(ProtectedError, match="no"):
        replace_file(file, b"new", expected=stamp_of(file), snapshot=tmp_path / "c", verify=verify)
    assert file.read_bytes() == b"old"
    assert names(tmp_path) == ["data.qpdata"]


def test_earlier_copy_is_not_overwritten(file, tmp_path):
    copy = tmp_path / "copy"
    copy.write_bytes(b"earlier")
    with pytest.raises(ProtectedError, match="not be overwritten"):
        replace_file(file, b"new", expected=stamp_of(file), snapshot=copy, verify=accept)
    assert (file.read_bytes(), copy.read_bytes()) == (b"old", b"earlier")


CALLS = {
    "fsync": 1,
    "replace-of-the-copy": 1,
    "replace-of-the-file": 2,
}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("step", CALLS)
@pytest.mark.parametrize("interrupt", [False, True], ids=["error", "killed"])
def test_failure_at_each_step_leaves_the_old_file(
    file, tmp_path, monkeypatch, step, code, interrupt
):
    name = step.split("-")[0]
    real, calls = getattr(os, name), []

    def failing(*args):
        calls.append(args)
        if len(calls) == CALLS[step]:
            if interrupt:
                raise KeyboardInterrupt
            raise OSError(code, os.strerror(code))
        return real(*args)

    expected = stamp_of(file)
    monkeypatch.setattr(os, name, failing)
    snapshot = tmp_path / "kept" / "copy"
    with pytest.raises(KeyboardInterrupt if interrupt else MachineError) as caught:
        replace_file(file, b"new", expected=expected, snapshot=snapshot, verify=accept)
    monkeypatch.undo()
    assert file.read_bytes() == b"old"
    assert set(names(tmp_path)) <= {"data.qpdata", "copy"}
    if snapshot.exists():
        assert snapshot.read_bytes() == b"old"
    if not interrupt:
        assert os.strerror(code) in str(caught.value)
        assert "unchanged" in str(caught.value)


def test_folder_that_cannot_be_synced_is_no_error(file, monkeypatch):
    real, calls = os.fsync, []

    def fsync(handle):
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    atomic_write(file, b"new")
    assert file.read_bytes() == b"new"


def test_disk_that_gives_back_other_bytes(file, monkeypatch):
    from pathlib import Path

    expected = stamp_of(file)
    monkeypatch.setattr(Path, "read_bytes", lambda self: b"neu")
    with pytest.raises(ProtectedError, match="other bytes"):
        replace_file(file, b"new", expected=expected, snapshot=None, verify=accept)
    monkeypatch.undo()
    assert file.read_bytes() == b"old"


def test_missing_folder_is_a_machine_error(tmp_path):
    with pytest.raises(MachineError, match="cannot write"):
        atomic_write(tmp_path / "no" / "file", b"")


def test_reading_a_folder_is_a_machine_error(tmp_path):
    with pytest.raises(MachineError, match="cannot read"):
        read_stamped(tmp_path)
