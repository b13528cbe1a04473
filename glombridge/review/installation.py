"""The Groovy scripts, from where glombridge keeps them into the ``scripts/`` folder of a project.

An installed script begins with a line that holds the version and a hash of all that follows. So a
script that somebody changed is told from one that is only old, whatever version wrote it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from .. import __version__
from ..errors import MachineError, MissingComponentError, ProtectedError
from ..qupath.saving import atomic_write

NEW_SUFFIX = ".new"
"""Behind the name of a script that lies beside one the user changed. QuPath lists ``.groovy`` only."""

_STAMP = re.compile(r"// glombridge (?P<version>\S+), sha256 (?P<sha256>[0-9a-f]{64})[^\n]*\n")


class Installed(Enum):
    """What is or would be done with a script."""

    WRITTEN = "written"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    KEPT = "kept"
    """Somebody changed it, and ours is what was changed or lies beside it already."""
    BESIDE = "beside"
    """Somebody changed it; ours lies beside it under :data:`NEW_SUFFIX`."""


@dataclass(frozen=True)
class ScriptChange:
    """What is or would be done with a script.

    Attributes:
        path: in the project.
    """

    path: Path
    what: Installed


def shipped_scripts() -> dict[str, str]:
    """Name to text of every script that this glombridge brings.

    Raises:
        MissingComponentError: the installation of glombridge is incomplete.
    """
    package = Path(__file__).parents[1]
    # In a wheel the folder lies in the package; in a checkout beside it.
    for folder in (package / "qupath_scripts", package.parent / "qupath_scripts"):
        found = sorted(folder.glob("glombridge_*.groovy"))
        if found:
            return {path.name: _text(path) for path in found}
    msg = (
        f"the QuPath scripts of glombridge {__version__} are missing from its installation "
        f"({package / 'qupath_scripts'}). Install glombridge again."
    )
    raise MissingComponentError(msg)


def stamped(text: str) -> str:
    """A script as it is installed: under a line with the version and its hash."""
    says = "'glombridge scripts' leaves it alone once changed"
    return f"// glombridge {__version__}, sha256 {_hash(text)}: {says}\n{text}"


def install_scripts(
    folder: Path, scripts: Mapping[str, str], *, dry_run: bool = False
) -> list[ScriptChange]:
    """Bring a ``scripts/`` folder up to date; what the user changed is never overwritten.

    Args:
        folder: ``scripts/`` of a QuPath project; made if it is missing.
        scripts: from :func:`shipped_scripts`.
        dry_run: say what would be done and write nothing.

    Raises:
        ProtectedError: the folder is a link to somewhere outside the project.
        MachineError: the folder cannot be read or written.
    """
    _stay_inside(folder)
    changes = []
    if not dry_run:
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            msg = f"cannot make {folder}: {error.strerror or error}"
            raise MachineError(msg) from error
    for name, text in scripts.items():
        path = folder / name
        what = _what(path, text)
        changes.append(ScriptChange(path, what))
        if dry_run or what in (Installed.UNCHANGED, Installed.KEPT):
            continue
        beside = path.with_name(name + NEW_SUFFIX)
        target = beside if what is Installed.BESIDE else path
        atomic_write(target, stamped(text).encode("utf-8"))
        if what is not Installed.BESIDE:
            # What lay beside an older, changed script is answered by this one.
            beside.unlink(missing_ok=True)
    return changes


def _stay_inside(folder: Path) -> None:
    if not folder.resolve().is_relative_to(folder.parent.resolve()):
        msg = (
            f"{folder} is a link to {folder.resolve()}, outside the project: other projects may use "
            "what lies there. Replace the link by a folder, or copy the scripts there by hand."
        )
        raise ProtectedError(msg)


def _what(path: Path, text: str) -> Installed:
    if path.is_symlink():
        # Whoever put the link there means the file behind it, which is not the project's.
        return _beside(path, text)
    if not path.exists():
        return Installed.WRITTEN
    there = _text(path)
    if there == stamped(text):
        return Installed.UNCHANGED
    found = _STAMP.match(there)
    if found is None:
        # Copied by hand from the folder of glombridge, or the user's own.
        return Installed.UPDATED if there == text else _beside(path, text)
    if _hash(there[found.end() :]) == found["sha256"]:
        return Installed.UPDATED
    return Installed.KEPT if found["sha256"] == _hash(text) else _beside(path, text)


def _beside(path: Path, text: str) -> Installed:
    beside = path.with_name(path.name + NEW_SUFFIX)
    is_there = beside.exists() and _text(beside) == stamped(text)
    return Installed.KEPT if is_there else Installed.BESIDE


def _text(path: Path) -> str:
    try:
        # Git and editors on Windows change the ends of lines, which changes nothing of a script.
        data = path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror or error}"
        raise MachineError(msg) from error
    return data.replace("\r\n", "\n")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
