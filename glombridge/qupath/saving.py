"""Put bytes into a file so that it is always a complete old or a complete new one."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path

from ..errors import GlombridgeError, MachineError, ProtectedError
from .leftovers import remove_leftovers, temporary_name
from .store import FileStamp

_PIECE = 2**20  # bytes of a file that are looked at together where it need not be held whole

MISSING = FileStamp(0, 0, "")
"""The stamp of a file that is not there."""

_WAYS_OUT = {
    errno.ENOSPC: "Free some space and try again.",
    errno.EDQUOT: "Your quota is used up; free some space and try again.",
    errno.EACCES: "Ask for permission to write there, or close the program that holds the file.",
    errno.EPERM: "Ask for permission to write there, or close the program that holds the file.",
    errno.EROFS: "The folder is read-only; make it writable or work on a copy of the project.",
}


def read_stamped(path: Path) -> tuple[bytes, FileStamp]:
    """The bytes of a file and its stamp; no bytes and an empty stamp if it is not there.

    Raises:
        ProtectedError: it changed while it was read.
        MachineError: it cannot be read.
    """
    pieces: list[bytes] = []
    stamp = _read(path, -1, pieces.append)
    return b"".join(pieces), stamp


def stamp_of(path: Path) -> FileStamp:
    """The stamp of a file as it is now; :data:`MISSING` if it is not there.

    Raises:
        ProtectedError: it changed while it was read.
        MachineError: it cannot be read.
    """
    return _read(path, _PIECE, lambda _: None)


def _read(path: Path, piece_bytes: int, take: Callable[[bytes], None]) -> FileStamp:
    """Give out a file piece by piece, -1 = as one, and tell its stamp."""
    size, digest = 0, hashlib.sha256()
    with _machine_errors("read", path):
        try:
            with path.open("rb") as file:
                before = os.fstat(file.fileno())
                while piece := file.read(piece_bytes):
                    size += len(piece)
                    digest.update(piece)
                    take(piece)
                after = os.fstat(file.fileno())
        except FileNotFoundError:
            return MISSING
    if size != after.st_size or before.st_mtime_ns != after.st_mtime_ns:
        msg = f"{path} is being written by another program, probably QuPath. Try again in a moment."
        raise ProtectedError(msg)
    return FileStamp(size, after.st_mtime_ns, digest.hexdigest())


def atomic_write(path: Path, data: bytes, *, through_link: bool = True) -> None:
    """Write a file so that nobody ever sees a part of it, and that survives a power cut.

    Args:
        path: the file.
        data: its bytes.
        through_link: a link there stays one, to the new content; ``False`` = it is replaced.

    Raises:
        MachineError: the machine does not let us; the file is as it was.
    """
    with _published(path, data, through_link=through_link):
        pass


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write files that belong together, the one that says that all are there last.

    All are on the disk before one takes its place. Then those of an earlier call step aside, and the
    new ones take their places: between the two some are missing, and never are there files of two
    calls. Whoever calls sees to it that nobody else does at the same time.

    Raises:
        MachineError: the machine does not let us; the files are as they were.
    """
    targets = {path.resolve() if path.is_symlink() else path: d for path, d in files.items()}
    new = {path: path.with_name(temporary_name(path.name)) for path in targets}
    old = {path: path.with_name(temporary_name(path.name)) for path in targets}
    moved: list[tuple[Path, Path]] = []
    try:
        for path, data in targets.items():
            with _machine_errors("write", path):
                _write_new(new[path], data)
                _take_over_mode(new[path], path)
        try:
            for path in reversed(targets):
                if path.is_file():  # a folder of that name stays, and is an error
                    _move(path, old[path], moved)
            for path in targets:
                _move(new[path], path, moved)
        except BaseException:
            for before, after in reversed(moved):
                # One that cannot go back stays under its temporary name.
                with contextlib.suppress(OSError):
                    os.replace(after, before)  # noqa: PTH105
            raise
        for path in old.values():
            with contextlib.suppress(OSError):
                path.unlink()
    finally:
        for path in new.values():
            with contextlib.suppress(OSError):
                path.unlink()
    for folder in {path.parent for path in targets}:
        _sync_folder(folder)


def _move(path: Path, to: Path, moved: list[tuple[Path, Path]]) -> None:
    # Noted before it is done: an interruption may come right behind it.
    moved.append((path, to))
    with _machine_errors("replace", path):
        os.replace(path, to)  # noqa: PTH105


def replace_file(
    path: Path,
    data: bytes,
    *,
    expected: FileStamp,
    snapshot: Path | None,
    verify: Callable[[bytes], None],
    ready: Callable[[FileStamp], None] | None = None,
) -> FileStamp:
    """Replace a file that nobody may have touched since it was read.

    Args:
        path: the file.
        data: its new bytes.
        expected: its stamp when it was read.
        snapshot: where to keep the old file; ``None`` if there is none to keep.
        verify: is given the new bytes, which were read back from the disk by then and are the same,
            and raises if they are wrong.
        ready: is given the stamp of the new file when nothing is left to do but to put it in place,
            and may put it on record. If it raises, nothing is replaced.

    Returns:
        The stamp of the new file.

    Raises:
        ProtectedError: the file changed since it was read, or the disk gives back other bytes.
        MachineError: the machine does not let us; the file is as it was.
    """
    remove_leftovers(path.resolve().parent if path.is_symlink() else path.parent)
    with _published(path, data) as temporary:
        with _machine_errors("read back", temporary):
            is_same = temporary.read_bytes() == data
            # Of this file, not of the one in place later: reading that could fail, and whoever
            # wrote would take a file that was replaced for one that was not.
            stamp = FileStamp(
                len(data), temporary.stat().st_mtime_ns, hashlib.sha256(data).hexdigest()
            )
        if not is_same:
            msg = f"{path} was not changed: the disk gave back other bytes than written. Check it."
            raise ProtectedError(msg)
        verify(data)
        if snapshot is not None and expected.exists:
            keep_copy(check_unchanged(path, expected), snapshot)
        else:
            _refuse_changed(path, expected, stamp_of(path))
        if ready is not None:
            ready(stamp)
        # Keeping it and putting it on record took time; look once more, with nothing left to do but
        # the replacement.
        _refuse_changed(path, expected, stamp_of(path))
    return stamp


def remove_file(path: Path, *, expected: FileStamp, snapshot: Path) -> None:
    """Take away a file that nobody may have touched since it was read, and keep a copy of it.

    Raises:
        ProtectedError: it changed since it was read.
        MachineError: the machine does not let us; the file is as it was.
    """
    keep_copy(check_unchanged(path, expected), snapshot)
    _refuse_changed(path, expected, stamp_of(path))
    with _machine_errors("remove", path):
        path.unlink()
    _sync_folder(path.parent)


def check_unchanged(path: Path, expected: FileStamp) -> bytes:
    """The bytes of a file that must still be as it was when it was read.

    Raises:
        ProtectedError: it is not.
    """
    data, now = read_stamped(path)
    _refuse_changed(path, expected, now)
    return data


def _refuse_changed(path: Path, expected: FileStamp, now: FileStamp) -> None:
    if now != expected:
        what = "appeared" if not expected.exists else "changed" if now.exists else "disappeared"
        msg = (
            f"{path} was not written: it {what} since it was read, probably saved in QuPath. "
            "Nothing was lost; read the image again and repeat."
        )
        raise ProtectedError(msg)


SNAPSHOT_NAME = re.compile(r"entry-(?P<image>\d+)\.(?P<time>\d{8}T\d+Z)\..+")
"""Names that :func:`snapshot_name` gives."""


PROJECT_ENTRY = 0
"""Stands for the project file in those names; QuPath counts its entries from 1."""


def snapshot_name(entry_id: int, file_name: str) -> str:
    """Name for the kept copy of an image's file, with the time in UTC to the microsecond."""
    time = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S%fZ")
    return f"entry-{entry_id}.{time}.{file_name}"


def keep_copy(data: bytes, snapshot: Path) -> None:
    """Keep the bytes of a file that is about to be replaced.

    Raises:
        ProtectedError: there is a copy of that name already.
        MachineError: the machine does not let us.
    """
    if snapshot.exists():
        msg = f"{snapshot} is there already and will not be overwritten. Try again."
        raise ProtectedError(msg)
    remove_leftovers(snapshot.parent, once=True)
    with folder_for(snapshot):
        atomic_write(snapshot, data)


@contextlib.contextmanager
def folder_for(path: Path) -> Iterator[None]:
    """Make the folder of a new file, and take it away again if the file does not come.

    Raises:
        MachineError: it cannot be made.
    """
    made = not path.parent.exists()
    with _machine_errors("create", path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if made:
            with contextlib.suppress(OSError):
                path.parent.rmdir()
        raise


@contextlib.contextmanager
def _published(path: Path, data: bytes, *, through_link: bool = True) -> Iterator[Path]:
    """Write a temporary file beside ``path``; move it there when the body ends without an error."""
    path = path.resolve() if through_link and path.is_symlink() else path
    temporary: Path | None = None
    try:
        with _machine_errors("write", path):
            temporary = path.with_name(temporary_name(path.name))
            _write_new(temporary, data)
            _take_over_mode(temporary, path)
        yield temporary
        with _machine_errors("replace", path):
            os.replace(temporary, path)  # noqa: PTH105 (the one call that tests make fail)
        temporary = None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
    _sync_folder(path.parent)


def _write_new(path: Path, data: bytes) -> None:
    # Not mkstemp: a new file gets the mode that any other new file gets here.
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _take_over_mode(temporary: Path, path: Path) -> None:
    if path.is_symlink():
        return
    try:
        old = path.stat()
    except FileNotFoundError:
        return
    if not os.access(path, os.W_OK):
        # POSIX would replace it all the same; whoever made it read-only did not mean that.
        raise PermissionError(errno.EACCES, "the file is read-only")
    temporary.chmod(stat.S_IMODE(old.st_mode))
    if hasattr(os, "chown") and (old.st_uid, old.st_gid) != (os.getuid(), os.getgid()):
        # Only root may give files away; the file is complete and readable without it.
        with contextlib.suppress(OSError):
            os.chown(temporary, old.st_uid, old.st_gid)


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the platform can.

    The new file is already in place, and Windows and some network shares cannot do this at all,
    so a failure is no error.
    """
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def _machine_errors(verb: str, path: Path) -> Iterator[None]:
    try:
        yield
    except GlombridgeError:
        raise
    except OSError as error:
        way_out = _WAYS_OUT.get(error.errno or 0, "Check the disk and the connection, try again.")
        reason = error.strerror or str(error)
        msg = f"cannot {verb} {path}: {reason}. What was there is unchanged. {way_out}"
        raise MachineError(msg) from error
