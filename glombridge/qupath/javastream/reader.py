"""Parse a Java Object Serialization stream into nodes."""

from __future__ import annotations

import contextlib
import gc
import struct
import sys
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

from ...errors import DamagedFileError
from ...filenames import shown_line
from .nodes import (
    PRIMITIVE_SIZE,
    SC_ENUM,
    ClassDesc,
    Content,
    Field,
    JavaArray,
    JavaClass,
    JavaEnum,
    JavaObject,
    JavaString,
    Node,
)
from .text import decode_text

MAGIC = b"\xac\xed\x00\x05"
BASE_HANDLE = 0x7E0000
MAX_DEPTH = 500
"""Objects nested in each other. Real files stay below 100; the bound keeps a crafted file from
overflowing the C stack of Python 3.10, where each Python call takes some of it."""

_MOST_SHOWN = 300  # characters of a reason, which repeats what the file says
_INT = struct.Struct(">i")
_LONG = struct.Struct(">q")
_UID_FLAGS_COUNT = struct.Struct(">Bh")


class Stream(NamedTuple):
    """A parsed stream: its top-level contents, and every node in the order of its handle."""

    contents: list[Content]
    handles: list[Node]


def parse_stream(data: bytes, name: str) -> Stream:
    """Parse a whole stream.

    Args:
        data: the bytes of the file.
        name: what error messages call the file.

    Raises:
        DamagedFileError: not such a stream, cut, malformed, or with a construct that cannot be
            carried over safely (reset, exception, proxy class, unreadable externalizable).
    """
    if data[:4] != MAGIC:
        msg = (
            f"{name} is not a QuPath data file: it begins with {data[:4].hex() or 'nothing'} "
            f"instead of {MAGIC.hex()}. If QuPath opens it, say so in an issue; otherwise restore "
            "the file from a backup."
        )
        raise DamagedFileError(msg)
    parser = _Parser(data, name)
    with paused_gc(), recursion_room():
        try:
            return Stream(parser.everything(), parser.handles)
        except (IndexError, struct.error) as error:
            parser.fail("it ends in the middle of a value", error)
        except (ValueError, KeyError, RecursionError, MemoryError, OverflowError) as error:
            if isinstance(error, DamagedFileError):
                raise
            parser.fail(f"{type(error).__name__}: {error}", error)


@contextlib.contextmanager
def paused_gc() -> Iterator[None]:
    """Pause cyclic garbage collection, which nearly doubles the time to build a large graph."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def recursion_room() -> Iterator[None]:
    """Let a walk go :data:`MAX_DEPTH` levels deep from wherever it is called."""
    frame, used = sys._getframe(), 0
    while frame.f_back is not None:
        frame, used = frame.f_back, used + 1
    # Two calls for each level, and some for what a level calls. Never lowered again: another
    # thread may be counting on it.
    sys.setrecursionlimit(max(sys.getrecursionlimit(), used + 2 * MAX_DEPTH + 100))
    yield


class _Parser:
    """State of one parse. Speed matters here: a file may hold millions of nodes."""

    __slots__ = ("class_names", "data", "depth", "handles", "name", "pos", "size")

    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.size = len(data)
        self.pos = len(MAGIC)
        self.name = name
        self.depth = 0
        self.handles: list[Node] = []
        self.class_names: set[str] = set()

    def fail(self, reason: str, cause: BaseException | None = None) -> NoReturn:
        msg = (
            f"{self.name} is damaged or incomplete near byte {self.pos} of {self.size}: "
            f"{shown_line(reason[:_MOST_SHOWN])}. "
            "If QuPath is saving it right now, try again; otherwise restore it from a backup."
        )
        raise DamagedFileError(msg) from cause

    def everything(self) -> list[Content]:
        contents = []
        while self.pos < self.size:
            contents.append(self.content())
        return contents

    def content(self) -> Content:
        data, pos = self.data, self.pos
        tag = data[pos]
        if tag == 0x71:
            self.pos = pos + 5
            return self.referenced(_INT.unpack_from(data, pos + 1)[0])
        if tag == 0x73:
            self.pos = pos + 1
            return self.object()
        if tag == 0x70:
            self.pos = pos + 1
            return None
        if tag == 0x77:
            return self.take(pos + 2, data[pos + 1])
        if tag == 0x74:
            return self.text(pos + 3, (data[pos + 1] << 8) | data[pos + 2])
        if tag == 0x75:
            self.pos = pos + 1
            return self.array()
        self.pos = pos + 1
        return self.rare_content(tag)

    def rare_content(self, tag: int) -> Content:
        data, pos = self.data, self.pos
        if tag == 0x7E:
            return self.enum()
        if tag == 0x7C:
            return self.text(pos + 8, _LONG.unpack_from(data, pos)[0])
        if tag == 0x7A:
            return self.take(pos + 4, _INT.unpack_from(data, pos)[0])
        if tag == 0x76:
            cls = JavaClass(self.some_desc())
            self.handles.append(cls)
            return cls
        if tag == 0x72:
            return self.new_desc()
        self.pos -= 1
        what = {0x79: "a reset", 0x7B: "an exception", 0x7D: "a proxy class"}.get(tag)
        return self.fail(f"unexpected {what or f'mark 0x{tag:02X}'} in the object stream")

    def text(self, start: int, length: int) -> JavaString:
        raw = self.take(start, length)
        if not raw.isascii():
            decode_text(raw)  # so that no text of a parsed file can fail later
        string = JavaString(raw)
        self.handles.append(string)
        return string

    def take(self, start: int, length: int) -> bytes:
        end = start + length
        if length < 0 or end > self.size:
            self.fail(f"a length of {length} bytes does not fit into the file")
        self.pos = end
        return self.data[start:end]

    def referenced(self, handle: int) -> Node:
        index = handle - BASE_HANDLE
        if not 0 <= index < len(self.handles):
            self.fail(f"reference to object {index} of {len(self.handles)}")
        return self.handles[index]

    def string(self) -> JavaString:
        node = self.content()
        if not isinstance(node, JavaString):
            self.fail("a text was expected")
        return node

    def utf(self) -> str:
        pos = self.pos
        return decode_text(self.take(pos + 2, (self.data[pos] << 8) | self.data[pos + 1]))

    def desc(self) -> ClassDesc | None:
        tag = self.data[self.pos]
        if tag == 0x71:
            self.pos += 5
            node = self.referenced(_INT.unpack_from(self.data, self.pos - 4)[0])
            if not isinstance(node, ClassDesc):
                self.fail("a class descriptor was expected")
            return node
        self.pos += 1
        if tag == 0x72:
            return self.new_desc()
        if tag != 0x70:
            self.fail(f"a class descriptor was expected, found mark 0x{tag:02X}")
        return None

    def some_desc(self) -> ClassDesc:
        desc = self.desc()
        if desc is None:
            self.fail("a class descriptor is missing")
        return desc

    def new_desc(self) -> ClassDesc:
        self.descend()
        name = self.utf()
        if name in self.class_names:
            self.fail(f"class {name} is described twice")
        self.class_names.add(name)
        desc = ClassDesc(name, int.from_bytes(self.data[self.pos : self.pos + 8], "big"), 0)
        self.pos += 8
        self.handles.append(desc)
        desc.flags, count = _UID_FLAGS_COUNT.unpack_from(self.data, self.pos)
        self.pos += 3
        if count < 0:
            self.fail(f"class {name} has {count} fields")
        desc.fields = tuple(self.field() for _ in range(count))
        desc.annotations = self.contents()
        desc.superclass = self.desc()
        above = desc.superclass
        while above is not None:
            if above is desc:
                self.fail(f"class {name} is its own superclass")
            above = above.superclass
        desc.complete()
        self.depth -= 1
        return desc

    def field(self) -> Field:
        code = chr(self.data[self.pos])
        self.pos += 1
        name = self.utf()
        if code in PRIMITIVE_SIZE:
            return Field(code, name)
        if code not in "L[":
            self.fail(f"field {name} has the unknown type {code!r}")
        return Field(code, name, self.string())

    def contents(self) -> list[Content]:
        found = []
        data = self.data
        while data[self.pos] != 0x78:
            found.append(self.content())
        self.pos += 1
        return found[:]  # a copy has no room to grow, which a million objects need not have

    def descend(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(f"objects are nested more than {MAX_DEPTH} deep")

    def object(self) -> JavaObject:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(f"objects are nested more than {MAX_DEPTH} deep")
        desc = self.some_desc()
        plan = desc.plan
        if plan is None:
            self.fail(f"objects of class {desc.name} cannot be read")
        # Lists of the right length from the start: what has grown keeps room for more.
        parts: list[list[Content]] = [[]] * len(plan)
        node = JavaObject(desc, parts)
        self.handles.append(node)
        content = self.content
        for at, (is_contents, primitive_bytes, objects) in enumerate(plan):
            if is_contents:
                parts[at] = self.contents()
                continue
            values: list[Content] = [None] * (1 + objects)
            values[0] = self.take(self.pos, primitive_bytes)
            for i in range(1, 1 + objects):
                values[i] = content()
            parts[at] = values
        self.depth -= 1
        return node

    def array(self) -> JavaArray:
        desc = self.some_desc()
        if desc.name[:1] != "[":
            self.fail(f"an array of class {desc.name}")
        node = JavaArray(desc, None, None)
        self.handles.append(node)
        count = _INT.unpack_from(self.data, self.pos)[0]
        self.pos += 4
        size = PRIMITIVE_SIZE.get(desc.name[1:])
        # An element takes at least one byte.
        if count < 0 or count * (size or 1) > self.size - self.pos:
            self.fail(f"an array of {count} elements does not fit into the file")
        if size is not None:
            node.raw = self.take(self.pos, count * size)
            return node
        self.descend()
        node.items = [self.content() for _ in range(count)][:]
        self.depth -= 1
        return node

    def enum(self) -> JavaEnum:
        desc = self.some_desc()
        if not desc.flags & SC_ENUM:
            self.fail(f"{desc.name} is used as an enum and is none")
        node = JavaEnum(desc, JavaString(b""))
        self.handles.append(node)
        node.constant = self.string()
        return node
