"""Which weights may be loaded. A ``.pt`` file is a pickle, and a pickle is a program.

Loaded are weights that a run of the same project made, by its manifest, and those that the user of
this machine has trusted by name or trained here. Trust goes by the hash of the file, is kept in the
user's own configuration and travels with no project: whoever can write into a project folder must
not be able to say what others run.

No list of ultralytics' official hashes is shipped: they could not be verified when this was written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from filelock import FileLock

from ..documents import parse_json
from ..errors import DamagedFileError, InputError, MachineError, ProtectedError
from ..ledger.history import utc_now
from ..ledger.manifest import sha256_of, write_json

CONFIG_VARIABLE = "GLOMBRIDGE_CONFIG_DIR"
"""Environment variable that names another folder for the user's configuration."""


def config_folder() -> Path:
    """The user's configuration folder, where the operating system keeps such things."""
    return Path(os.environ.get(CONFIG_VARIABLE) or click.get_app_dir("glombridge"))


def trust_file() -> Path:
    """The user's list of trusted weights."""
    return config_folder() / "trusted-weights.json"


def trusted() -> dict[str, dict[str, Any]]:
    """What the user trusts: by SHA-256, with the file's name, when, and why.

    Raises:
        DamagedFileError: the list is no such list.
    """
    path = trust_file()
    try:
        listed: dict[str, dict[str, Any]] = parse_json(path.read_text("utf-8"))["weights"]
    except FileNotFoundError:
        return {}
    except (KeyError, TypeError, ValueError) as error:
        msg = (
            f"{path} is not a list of trusted weights: {error!r}. Delete it, and trust files anew."
        )
        raise DamagedFileError(msg) from error
    return listed


def trust(file: Path, why: str) -> str:
    """Trust a weights file from now on, whatever its name will be; returns its SHA-256.

    Raises:
        InputError: there is no such file.
        MachineError: the user's configuration cannot be written.
    """
    if not file.is_file():
        msg = f"no weights file {file}"
        raise InputError(msg)
    sha256 = sha256_of(file)
    path = trust_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            listed = trusted()
            if sha256 not in listed:
                listed[sha256] = {"file": file.name, "when": utc_now(), "why": why}
                write_json(path, {"weights": listed})
    except OSError as error:
        msg = (
            f"cannot write {path}: {error}. {CONFIG_VARIABLE} names another folder for glombridge's "
            "configuration."
        )
        raise MachineError(msg) from error
    return sha256


def require_trust(file: Path, runs: Path | None) -> str:
    """Refuse to load weights that nobody answers for; returns the SHA-256.

    Args:
        file: the weights.
        runs: folder of the project's training runs, ``None`` outside a project.

    Raises:
        InputError: there is no such file.
        ProtectedError: its hash is in no manifest of a run there, and not in the user's list.
    """
    if not file.is_file():
        msg = f"no weights file {file}"
        raise InputError(msg)
    sha256 = sha256_of(file)
    if sha256 in trusted() or sha256 in _made_by(runs):
        return sha256
    where = f"no training run in {runs} made it" if runs else "it belongs to no project here"
    msg = (
        f"{file} is not loaded: weights are programs that run when they are loaded, {where}, and you "
        f"have not trusted it (SHA-256 {sha256[:16]}...). If you know who made it, say "
        f"--trust-weights {file}, once."
    )
    raise ProtectedError(msg)


def require_hash(file: Path, sha256: str) -> None:
    """Refuse weights other than those that somebody else answers for.

    A worker has no list of its own: the machine that gives it work has looked, and says which file
    it means. Who gives a worker work can have it run anything in any case.

    Raises:
        InputError: there is no such file.
        ProtectedError: it is another file.
    """
    if not file.is_file():
        msg = f"no weights file {file}"
        raise InputError(msg)
    found = sha256_of(file)
    if found != sha256:
        msg = (
            f"{file} is not loaded: its SHA-256 is {found[:16]}..., but the weights meant have "
            f"{sha256[:16]}.... Make all machines see the same file there."
        )
        raise ProtectedError(msg)


def _made_by(runs: Path | None) -> Iterator[str]:
    for path in sorted(runs.glob("*/manifest.json")) if runs and runs.is_dir() else ():
        try:
            yield parse_json(path.read_text("utf-8"))["weights"]["sha256"]
        except (KeyError, TypeError, ValueError):
            continue  # a damaged manifest vouches for nothing
