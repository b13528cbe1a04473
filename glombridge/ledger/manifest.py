"""What made a result: versions, machine, hashes; written beside every run."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .. import __version__
from ..qupath.saving import atomic_write

LIBRARIES = (
    *("torch", "torchvision", "ultralytics", "openslide-python", "shapely", "numpy", "contourpy"),
)


def environment() -> dict[str, Any]:
    """Program and library versions and the kind of machine; nothing that names a person."""
    libraries = {}
    for name in LIBRARIES:
        try:
            libraries[name] = version(name)
        except PackageNotFoundError:
            libraries[name] = "not installed"
    return {
        "glombridge": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "libraries": libraries,
    }


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal text."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def json_text(document: Any) -> str:
    """A JSON document as it stands in a file that people may look into."""
    return json.dumps(document, indent=2, ensure_ascii=False, sort_keys=False) + "\n"


def write_json(path: Path, document: Any) -> None:
    """Write a JSON document completely or not at all."""
    atomic_write(path, json_text(document).encode())
