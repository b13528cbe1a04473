"""Between the URIs of a QuPath project and the files of this machine."""

from __future__ import annotations

import ntpath
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from ..errors import UsageError

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


@dataclass(frozen=True)
class SlideMap:
    """Where slides lie that the project looks for elsewhere: old path prefix -> new one.

    Prefixes are whole path components. Those of Windows ignore case and the kind of slash.
    """

    rules: tuple[tuple[PurePath, PurePath], ...] = ()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> SlideMap:
        """From ``OLD=NEW`` texts; either side is a path of any system or a ``file:`` URI.

        The first ``=`` separates. An OLD that has one itself is written as a URI, with ``%3D``.

        Raises:
            UsageError: not of this form.
        """
        pairs = []
        for text in texts:
            old, equals, new = text.partition("=")
            if not equals:
                msg = (
                    f"{text!r} is no path map: write OLD=NEW, for example 'D:\\slides=/mnt/slides'"
                )
                raise UsageError(msg)
            path = uri_to_path(new.strip())
            if path is not None and _here(path) is None:
                msg = (
                    f"path map {text!r}: {new!r} is a path of another kind of system than this one"
                )
                raise UsageError(msg)
            pairs.append((old, new))
        return cls._of(pairs, Path.cwd())

    @classmethod
    def from_settings(cls, rules: Mapping[str, str], folder: Path) -> SlideMap:
        """From the settings of the project in ``folder``, which a relative NEW is taken from.

        Raises:
            UsageError: a side that is empty, or a URI of another kind than ``file:``.
        """
        return cls._of(rules.items(), folder)

    @classmethod
    def _of(cls, pairs: Iterable[tuple[str, str]], folder: Path) -> SlideMap:
        rules = []
        for old, new in pairs:
            sides = []
            for side in (old.strip(), new.strip()):
                # uri_to_path takes //server/share for POSIX; in a map it is the share.
                path = PureWindowsPath(side) if side.startswith("//") else uri_to_path(side)
                if path is None:
                    msg = f"path map '{old}={new}': {side!r} is neither a path nor a file: URI"
                    raise UsageError(msg)
                # "D:" alone is meant as the drive, not as the folder one happens to be in there.
                sides.append(path / "\\" if path.drive and not path.root else path)
            here = _here(sides[1])
            rules.append((sides[0], sides[1] if here is None else folder / here))
        return cls(tuple(rules))

    def __add__(self, other: SlideMap) -> SlideMap:
        """Both maps; the rules of this one come first."""
        return SlideMap(self.rules + other.rules)

    def apply(self, written: PurePath) -> list[Path]:
        """Where a path would be by each rule that fits it; rules for other systems give nothing."""
        found = []
        for old, new in self.rules:
            # A rule may write a Windows path with slashes, and PurePosixPath would not know it.
            flavour = PureWindowsPath if isinstance(written, PureWindowsPath) else PurePosixPath
            here = _here(new)
            try:
                below = written.relative_to(flavour(str(old)))
            except ValueError:
                continue
            if here is not None:
                found.append(here.joinpath(*below.parts))
        return found


@dataclass(frozen=True)
class SlideFile:
    """One file that an image is made of.

    Attributes:
        uri: as written in the project.
        tried: the places on this machine it may be at, in the order they are looked at.
        found: the first of them that exists, ``None`` = none.
    """

    uri: str
    tried: tuple[Path, ...]
    found: Path | None


class SlideFinder:
    """Finds the slides of one project.

    Args:
        project: the project; read once for all its images.
        slides: where slides have moved.
        in_bulk: list each folder once instead of asking for each file: thousands of questions take
            many seconds on a network share. For one look at all images, not to keep.
    """

    def __init__(
        self, project: ProjectFile, slides: SlideMap = SlideMap(), *, in_bulk: bool = False
    ) -> None:
        self._project = project
        self._map = slides
        self._in_bulk = in_bulk
        self._listings: dict[str, _Listing | None] = {}

    def files(self, entry: ImageEntry) -> tuple[SlideFile, ...]:
        """Every file of an image, with all places where it may be."""
        return tuple(
            SlideFile(uri, places := tuple(dict.fromkeys(self._places(uri))), self._first(places))
            for uri in entry.uris
        )

    def find(self, entry: ImageEntry) -> Path | None:
        """The first file of an image that exists, ``None`` if there is none."""
        for uri in entry.uris:
            found = self._first(self._places(uri))
            if found is not None:
                return found
        return None

    def _places(self, uri: str) -> Iterator[Path]:
        """Where a file may be: mapped, as written, and as moved together with the project.

        One after the other, because most files are where the first says.
        """
        written = uri_to_path(uri)
        if written is None:
            return
        yield from self._map.apply(written)
        here = _here(written)
        if here is not None:
            yield here
        moved = moved_path(written, self._project)
        if moved is not None:
            yield moved

    def _first(self, places: Iterable[Path]) -> Path | None:
        return next((p for p in places if self._exists(p)), None)

    def _exists(self, path: Path) -> bool:
        if self._in_bulk:
            folder, name = os.path.split(path)
            if folder not in self._listings:
                self._listings[folder] = _Listing.of(folder)
            listing = self._listings[folder]
            known = None if listing is None else listing.holds(name)
            if known is not None:
                return known
        # Unlike Path.exists, this is no error for a folder we may not look into.
        return os.path.exists(path)  # noqa: PTH110


@dataclass(frozen=True)
class _Listing:
    """Names in a folder: those that are no links, and all without regard to case."""

    plain: frozenset[str]
    folded: frozenset[str]

    @classmethod
    def of(cls, folder: str) -> _Listing | None:
        """``None`` if the folder cannot be listed; files in it may be there all the same."""
        try:
            with os.scandir(folder) as items:
                found = [(item.name, item.is_symlink()) for item in items]
        except (FileNotFoundError, NotADirectoryError):
            found = []
        except (OSError, ValueError):
            return None
        return cls(
            frozenset(name for name, is_link in found if not is_link),
            frozenset(name.casefold() for name, _ in found),
        )

    def holds(self, name: str) -> bool | None:
        """Whether a file is there; ``None`` = the file system must be asked.

        A link may lead nowhere, names may differ in case, and macOS spells accents in its own way.
        """
        if name in self.plain:
            return True
        return False if name.isascii() and name.casefold() not in self.folded else None


def resolve_slide(
    entry: ImageEntry, project: ProjectFile, slides: SlideMap = SlideMap()
) -> Path | None:
    """The existing file of an image, also where the project was moved together with its slides.

    Tries the path map, then the URI as it stands, then the same place relative to where the
    project is now, as QuPath does. An image made of several files gives the first that exists.

    Returns:
        ``None`` if there is no such file.
    """
    return SlideFinder(project, slides).find(entry)


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
