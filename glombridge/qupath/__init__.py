"""QuPath projects and their ``data.qpdata`` files, read and written without Java or QuPath.

The way in is :class:`NativeStore`; the rest of the program knows only the protocol
:class:`ProjectStore` and its value types. The image must not be open in QuPath while it is
written: QuPath neither locks nor looks at a file again, and would overwrite it at its next save.
"""

from .classes_file import add_classes, read_classes
from .locations import path_to_uri, resolve_slide, uri_to_path
from .native import NativeStore
from .new_file import IMAGE_TYPES
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
    "ProjectFile",
    "ProjectStore",
    "WriteReceipt",
    "add_classes",
    "atomic_write",
    "create_project",
    "path_to_uri",
    "read_classes",
    "resolve_slide",
    "stamp_of",
    "uri_to_path",
]
