"""Write nodes as a Java Object Serialization stream."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from .nodes import (
    PRIMITIVE_SIZE,
    ClassDesc,
    Content,
    JavaArray,
    JavaEnum,
    JavaObject,
    JavaString,
    Node,
)
from .reader import BASE_HANDLE, MAGIC, MAX_DEPTH, recursion_room
from .text import encode_text

_REFERENCE = struct.Struct(">Bi")
_DESC = struct.Struct(">QBh")


class TooDeepError(ValueError):
    """Objects nested deeper than a reader would accept."""


def emit_stream(contents: Iterable[Content]) -> bytes:
    """The bytes of a whole stream.

    Raises:
        TooDeepError: nested more than :data:`MAX_DEPTH` deep.
    """
    return _emitted(contents, {}, MAGIC)


def emit_contents(contents: Iterable[Content], tokens: Mapping[int, bytes] | None = None) -> bytes:
    """The bytes of some contents on their own, with handles counted from the start.

    Args:
        contents: what to write.
        tokens: by ``id()`` of a node, bytes to write in its place, which lets a part of a graph
            be compared without what hangs on it. The result is then not a valid stream.

    Raises:
        TooDeepError: nested more than :data:`MAX_DEPTH` deep.
    """
    return _emitted(contents, tokens or {}, b"")


def _emitted(contents: Iterable[Content], tokens: Mapping[int, bytes], start: bytes) -> bytes:
    emitter = _Emitter(tokens, start)
    with recursion_room():
        for item in contents:
            emitter.content(item)
    emitter.handles.clear()  # before there are two copies of what was written
    return bytes(emitter.out)


class _Emitter:
    __slots__ = ("depth", "handles", "next_handle", "out", "tokens")

    def __init__(self, tokens: Mapping[int, bytes], start: bytes) -> None:
        # Not a list of pieces: a million objects are some forty million of them.
        self.out = bytearray(start)
        self.handles: dict[int, int] = {}
        self.next_handle = BASE_HANDLE
        self.tokens = tokens
        self.depth = 0

    def define(self, node: Node) -> None:
        self.handles[id(node)] = self.next_handle
        self.next_handle += 1

    def content(self, node: Content) -> None:
        if node is None:
            self.out += b"\x70"
            return
        if isinstance(node, bytes):
            self.out += _block_head(len(node)) + node
            return
        key = id(node)
        handle = self.handles.get(key)
        if handle is not None:
            self.out += _REFERENCE.pack(0x71, handle)
        elif key in self.tokens:
            self.out += self.tokens[key]
        elif isinstance(node, JavaObject):
            self.object(node)
        elif isinstance(node, JavaString):
            self.string(node)
        elif isinstance(node, JavaArray):
            self.array(node)
        elif isinstance(node, ClassDesc):
            self.desc(node)
        else:
            self.out += b"\x7e" if isinstance(node, JavaEnum) else b"\x76"
            self.content(node.desc)
            self.define(node)
            if isinstance(node, JavaEnum):
                self.content(node.constant)

    def string(self, node: JavaString) -> None:
        self.define(node)
        length = len(node.raw)
        if length <= 0xFFFF:
            self.out += b"\x74" + length.to_bytes(2, "big") + node.raw
        else:
            self.out += b"\x7c" + length.to_bytes(8, "big") + node.raw

    def descend(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            msg = f"objects are nested more than {MAX_DEPTH} deep"
            raise TooDeepError(msg)

    def object(self, node: JavaObject) -> None:
        self.descend()
        self.out += b"\x73"
        self.content(node.desc)
        self.define(node)
        content = self.content
        for step, part in zip(node.desc.plan or (), node.parts, strict=True):
            if step.is_contents:
                for value in part:
                    content(value)
                self.out += b"\x78"
            else:
                raw = part[0]
                assert isinstance(raw, bytes)  # noqa: S101 (for the type checker)
                self.out += raw
                for value in part[1:]:
                    content(value)
        self.depth -= 1

    def array(self, node: JavaArray) -> None:
        self.out += b"\x75"
        self.content(node.desc)
        self.define(node)
        if node.raw is not None:
            count = len(node.raw) // PRIMITIVE_SIZE[node.desc.name[1]]
            self.out += count.to_bytes(4, "big")
            self.out += node.raw
            return
        self.descend()
        items = node.items or []
        self.out += len(items).to_bytes(4, "big")
        for item in items:
            self.content(item)
        self.depth -= 1

    def desc(self, node: ClassDesc) -> None:
        self.descend()
        out = self.out
        out += b"\x72" + _utf(node.name)
        self.define(node)
        out += _DESC.pack(node.uid, node.flags, len(node.fields))
        for field in node.fields:
            out += field.code.encode("ascii") + _utf(field.name)
            if field.type_name is not None:
                self.content(field.type_name)
        for annotation in node.annotations:
            self.content(annotation)
        out += b"\x78"
        self.content(node.superclass)
        self.depth -= 1


def _block_head(length: int) -> bytes:
    if length <= 0xFF:
        return bytes((0x77, length))
    return b"\x7a" + length.to_bytes(4, "big")


def _utf(text: str) -> bytes:
    raw = encode_text(text)
    return len(raw).to_bytes(2, "big") + raw
