"""Where QuPath is installed, found without starting it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_CORE = re.compile(r"qupath-core-(?P<version>\d.*)\.jar")
_NUMBERS = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


@dataclass(frozen=True)
class Installation:
    """A QuPath on this machine.

    Attributes:
        app_folder: where its libraries are.
        version: from the name of its core library, ``None`` if that has another name.
    """

    app_folder: Path
    version: str | None


def find_installation() -> Installation | None:
    """The QuPath that paquo would start, ``None`` if there is none.

    paquo's own settings say where to look: ``PAQUO_QUPATH_DIR``, a ``.paquo.toml``, or the usual
    places. Imports JPype but starts no JVM.
    """
    try:
        # The settings have no public way to be handed to the finder.
        from paquo._config import settings, to_kwargs
        from paquo.jpype_backend import find_qupath
    except ImportError:
        return None
    # Reads the environment again, which may have changed since paquo was imported.
    settings.reload()
    try:
        folder = Path(find_qupath(**to_kwargs(settings)).app_dir)
        names = [_CORE.fullmatch(item.name) for item in folder.iterdir()]
    except (ValueError, OSError):
        # ValueError: nothing found. FileNotFoundError: a folder that is no QuPath.
        return None
    versions = [match["version"] for match in names if match]
    return Installation(folder, versions[0] if len(versions) == 1 else None)


def version_numbers(version: str | None) -> tuple[int, ...]:
    """``0.6.0-rc3`` as (0, 6, 0), to compare versions; an unknown one is the oldest."""
    match = _NUMBERS.search(version or "")
    return () if match is None else tuple(int(n or 0) for n in match.groups())
