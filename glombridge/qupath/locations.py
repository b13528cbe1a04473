"""Between the URIs of a QuPath project and the files of this machine."""

from __future__ import annotations

import ntpath
import os
import posixpath
import re
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from .project_file import ProjectFile
    from .store import ImageEntry

_DRIVE = re.compile(r"/?([A-Za-z]:)(/.*|$)")
_SAFE = "/!$&'()*+,;=:@-._~"
"""Characters Java leaves as they are in the path of a URI."""


def uri_to_path(uri: str) -> PurePath | None:
    """The path a ``file:`` URI names, in the flavour of the system it was written on.

    Knows ``file:/path``, ``file:///path``, ``file:/C:/path`` and ``file://server/share``; percent
    escapes are UTF-8. ``None`` for any other kind of URI. A bare path, which old versions wrote,
    is taken as one.
    """
    scheme, colon, rest = uri.partition(":")
    if not colon or len(scheme) == 1:
        windows = (bool(colon) and len(scheme) == 1) or uri.startswith("\\\\")
        return PureWindowsPath(uri) if windows else PurePosixPath(uri) if uri else None
    if scheme.lower() != "file":
        return None
    path = unquote(rest, errors="surrogateescape")
    if path.startswith("//"):
        host, slash, below = path[2:].partition("/")
        if host and host.lower() != "localhost":
            return PureWindowsPath(f"//{host}{slash}{below}")
        # file:////server/share is how Java writes a share, too.
        path = slash + below
        if path.startswith("//"):
            return PureWindowsPath(path)
    drive = _DRIVE.fullmatch(path)
    if drive is not None:
        return PureWindowsPath(drive.group(1) + (drive.group(2) or "/"))
    return PurePosixPath(path)


def path_to_uri(path: PurePath) -> str:
    """The ``file:`` URI of an absolute path, with three slashes, as QuPath writes images.

    Args:
        path: absolute; a ``Path`` that is relative is taken from the working folder.
    """
    if isinstance(path, Path):
        path = Path(os.path.abspath(path))  # noqa: PTH100 (resolve() would follow links)
    text = path.as_posix()
    if isinstance(path, PureWindowsPath):
        if path.drive.startswith("\\\\"):
            return "file:" + quote(text, safe=_SAFE)
        return "file:///" + quote(text, safe=_SAFE)
    return "file://" + quote(text.encode("utf-8", "surrogateescape"), safe=_SAFE)


def resolve_slide(entry: ImageEntry, project: ProjectFile) -> Path | None:
    """The existing file of an image, also where the project was moved together with its slides.

    Tries the URI as it stands, then the same place relative to where the project is now, as
    QuPath does. An image made of several files gives the first.

    Returns:
        ``None`` if there is no such file.
    """
    for uri in entry.uris:
        written = uri_to_path(uri)
        if written is None:
            continue
        for path in (_here(written), moved_path(written, project)):
            # Unlike Path.exists, this is no error for a folder we may not look into.
            if path is not None and os.path.exists(path):  # noqa: PTH110
                return path
        return None
    return None


def moved_path(written: PurePath, project: ProjectFile) -> Path | None:
    """Where a path would be if it had moved with the project; ``None`` if that cannot be said."""
    old_project = uri_to_path(project.uri) if project.uri else None
    if old_project is None or type(old_project) is not type(written):
        return None
    flavour = ntpath if isinstance(written, PureWindowsPath) else posixpath
    try:
        relative = flavour.relpath(str(written), str(old_project.parent))
    except ValueError:
        return None  # on another drive
    parts = type(written)(relative).parts
    return Path(os.path.normpath(project.folder.joinpath(*parts)))


def _here(path: PurePath) -> Path | None:
    """The path on this machine, if it is of this machine's kind."""
    is_windows = isinstance(path, PureWindowsPath)
    return Path(path) if is_windows == (os.name == "nt") else None
