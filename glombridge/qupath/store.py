"""What every way into a QuPath project must offer; the rest of glombridge knows only this."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from uuid import UUID

from ..objects import PathClass, SlideObject
from ..placement import ImageTransform


@dataclass(frozen=True)
class ImageEntry:
    """One image of a project, as the small JSON files describe it; opening it reads no pixels.

    Attributes:
        id: QuPath's entry id; names the folder under ``data/``.
        uris: every file the image is made of, as written in the project.
        transforms: builder types around the reader, outermost first, empty for the plain file
            (``rotated``, ``cropped``, ...); they change the pixel frame.
        geometry: the same with their parameters, as far as they wrap one reader each.
        source_size: width and height of the image before ``transforms``, ``None`` where the project
            does not say.
        width, height: size in QuPath's pixel frame, ``None`` where the project does not say.
        mpp_x, mpp_y: a human's or QuPath's calibration in micrometres per pixel, ``None`` where
            the project does not say.
        has_data: whether there is a ``data.qpdata``.
    """

    id: int
    name: str
    uris: tuple[str, ...]
    transforms: tuple[str, ...] = ()
    width: int | None = None
    height: int | None = None
    mpp_x: float | None = None
    mpp_y: float | None = None
    description: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    has_data: bool = False
    geometry: tuple[ImageTransform, ...] = ()
    source_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class FileStamp:
    """State of a file when it was read: what a write compares with before it replaces anything.

    ``sha256`` is empty and the numbers 0 for a file that did not exist.
    """

    size: int
    mtime_ns: int
    sha256: str

    @property
    def exists(self) -> bool:
        """Whether there was a file."""
        return bool(self.sha256)


@dataclass(frozen=True)
class ImageContents:
    """All objects of one image and the state of the file they were read from.

    ``objects`` is in depth-first order, parents before children. ``problems`` names each object
    that could not be understood and is therefore not listed, and each that repeats the id of
    another and is listed with a derived one. ``not_understood`` are those of them that are not listed
    and are annotations, or nobody knows what.
    """

    entry_id: int
    objects: tuple[SlideObject, ...]
    image_type: str | None
    stamp: FileStamp
    problems: tuple[str, ...] = ()
    not_understood: tuple[str, ...] = ()


@dataclass(frozen=True)
class HierarchyEdit:
    """What to change in one image. Everything not named here stays as it is, byte for byte.

    Attributes:
        add: new objects, under their ``parent`` or the image.
        remove: ids of objects to take out; their children move to the parent, as in QuPath.
        replace: objects (by id) whose name, class, colour, lock, measurements, metadata,
            probability or outline take the values given; kind and parent cannot change.
    """

    add: tuple[SlideObject, ...] = ()
    remove: frozenset[UUID] = frozenset()
    replace: tuple[SlideObject, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether it asks for nothing."""
        return not (self.add or self.remove or self.replace)


@dataclass(frozen=True)
class WriteReceipt:
    """What a write did: the stamp of the new file and where the replaced one is kept."""

    entry_id: int
    stamp: FileStamp
    snapshot: Path | None
    changed: bool


class ProjectStore(Protocol):
    """A QuPath project that can be read and written without losing anything."""

    @property
    def project_file(self) -> Path:
        """The ``.qpproj`` file."""
        ...

    @property
    def folder(self) -> Path:
        """The project folder."""
        ...

    @property
    def qupath_version(self) -> str:
        """Version of QuPath that saved the project, for example ``0.5.1``."""
        ...

    def images(self) -> Sequence[ImageEntry]:
        """Every image, in the project's order. Reads only small JSON files."""
        ...

    def classes(self) -> Sequence[PathClass]:
        """The classes the project offers, with their colours."""
        ...

    def add_classes(self, classes: Sequence[PathClass]) -> None:
        """Offer further classes; known ones keep their colour and place."""
        ...

    def set_metadata_of_images(
        self,
        values: Mapping[int, Mapping[str, str | None]],
        *,
        snapshot_folder: Path | None = None,
    ) -> bool:
        """Set some metadata of several images in one write; ``None`` removes a key.

        Args:
            values: by entry id.
            snapshot_folder: where the project file as it was is kept, ``None`` = nowhere.

        Returns:
            Whether anything changed; otherwise nothing was written.

        Raises:
            InputError: no such image.
            ProtectedError: the project file changed meanwhile.
            MachineError: it cannot be written.
        """
        ...

    def stamp(self, entry_id: int) -> FileStamp:
        """The state of an image's data file now.

        Raises:
            InputError: no such image.
        """
        ...

    def read(self, entry_id: int) -> ImageContents:
        """All objects of one image.

        Raises:
            DamagedFileError: the data file is cut, or holds a layout that is not known.
            ProtectedError: only a ``.bkp`` is there, or one lies beside the data file.
        """
        ...

    def write(
        self,
        entry_id: int,
        edit: HierarchyEdit,
        *,
        expected: FileStamp,
        snapshot_folder: Path,
        ready: Callable[[WriteReceipt], None] | None = None,
    ) -> WriteReceipt:
        """Apply an edit; read the result back and compare before it takes the file's place.

        Args:
            entry_id: the image.
            edit: what to change.
            expected: the stamp :meth:`read` gave; another state on disk is refused.
            snapshot_folder: where the replaced file is kept.
            ready: is given the receipt when nothing is left to do but to put the new file in place,
                so that it can be put on record before. If it raises, nothing is replaced. Not
                called where nothing changes.

        Raises:
            ProtectedError: the file changed since it was read, cannot be re-emitted byte for
                byte, QuPath seems to be saving, or the edit would touch what it must not.
            InputError: an object QuPath could not read back.
            MachineError: disk full, no permission.
        """
        ...
