"""QuPath projects and their ``data.qpdata`` files, read and written with or without QuPath.

The way in is :func:`open_store`, which gives a :class:`NativeStore` (plain Python) or a
:class:`PaquoStore` (a real QuPath in a process of its own); the rest of the program knows only the
protocol :class:`ProjectStore` and its value types. The image must not be open in QuPath while it is
written: QuPath neither locks nor looks at a file again, and would overwrite it at its next save.
"""

from .classes_file import add_classes, read_classes
from .locations import SlideFile, SlideFinder, SlideMap, path_to_uri, resolve_slide, uri_to_path
from .native import NativeStore
from .new_file import IMAGE_TYPES
from .opening import StoreKind, open_store
from .paquo import PaquoStore, find_installation, version_numbers
from .project_file import ImageServerInfo, ProjectFile, create_project
from .saving import atomic_write, stamp_of
from .store import (
    FileStamp,
    HierarchyEdit,
    ImageContents,
    ImageEntry,
    ProjectStore,
    WriteReceipt,
)

__all__ = [
    "IMAGE_TYPES",
    "FileStamp",
    "HierarchyEdit",
    "ImageContents",
    "ImageEntry",
    "ImageServerInfo",
    "NativeStore",
    "PaquoStore",
    "ProjectFile",
    "ProjectStore",
    "SlideFile",
    "SlideFinder",
    "SlideMap",
    "StoreKind",
    "WriteReceipt",
    "add_classes",
    "atomic_write",
    "create_project",
    "find_installation",
    "open_store",
    "path_to_uri",
    "read_classes",
    "resolve_slide",
    "stamp_of",
    "uri_to_path",
    "version_numbers",
]
