"""Trained weights and the manifest of the run that made them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..documents import parse_json
from ..errors import DamagedFileError, InputError
from ..ledger.manifest import sha256_of
from .project import spec_from


def manifest_of(file: Path) -> dict[str, Any]:
    """The manifest of the run that made a weights file.

    Raises:
        InputError: there is none, so that nobody knows the tiles, or it names another file.
    """
    path = file.parent.parent / "manifest.json"
    if not file.is_file():
        msg = f"no weights file {file}"
        raise InputError(msg)
    if not path.is_file():
        msg = (
            f"{file} has no manifest.json beside its folder, so the tiles it was trained on are not "
            "known. Keep weights in the run folder that 'glombridge train' made."
        )
        raise InputError(msg)
    try:
        manifest: dict[str, Any] = parse_json(path.read_text(encoding="utf-8"))
        expected = manifest["weights"]["sha256"]
        _ = spec_from(manifest), manifest["run"], list(manifest["classes"])
        manifest.get("dataset", {}).get("name")
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        msg = f"{path} is not the manifest of a training run: {error!r}. Train again."
        raise DamagedFileError(msg) from error
    if expected != sha256_of(file):
        msg = f"{file} is not the file its manifest.json names: the hashes differ. Train again."
        raise InputError(msg)
    return manifest
