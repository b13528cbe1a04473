"""Java Object Serialization streams as a graph of nodes that is written back byte for byte.

Node identity stands for handle identity: two references to one node are one definition and one
back reference in the stream. Nothing here knows a single Java class.
"""

from .nodes import ClassDesc, Content, Field, JavaArray, JavaClass, JavaEnum, JavaObject, JavaString
from .reader import MAX_DEPTH, Stream, parse_stream
from .writer import TooDeepError, emit_contents, emit_stream

__all__ = [
    "MAX_DEPTH",
    "ClassDesc",
    "Content",
    "Field",
    "JavaArray",
    "JavaClass",
    "JavaEnum",
    "JavaObject",
    "JavaString",
    "Stream",
    "TooDeepError",
    "emit_contents",
    "emit_stream",
    "parse_stream",
]
