"""The nodes of a serialized Java object graph.

Primitive values and primitive arrays are kept as raw big-endian bytes, because a float that passed
through Python may lose the payload of a NaN, and a file must come out as it went in.
"""

from __future__ import annotations

from typing import NamedTuple

from .text import decode_text, encode_text

SC_WRITE_METHOD = 1
SC_SERIALIZABLE = 2
SC_EXTERNALIZABLE = 4
SC_BLOCK_DATA = 8
SC_ENUM = 16

PRIMITIVE_SIZE = {"B": 1, "C": 2, "D": 8, "F": 4, "I": 4, "J": 8, "S": 2, "Z": 1}
"""Bytes of one value, by Java's type code."""


class JavaString:
    """A string with an identity; ``raw`` is modified UTF-8."""

    __slots__ = ("raw",)

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    @classmethod
    def of(cls, text: str) -> JavaString:
        """A new string node."""
        return cls(encode_text(text))

    @property
    def text(self) -> str:
        """The text, decoded anew at each call."""
        return decode_text(self.raw)

    def __repr__(self) -> str:
        return f"JavaString({self.raw[:40]!r})"


class Field(NamedTuple):
    """One field of a class: type code, name, and for objects and arrays the Java type."""

    code: str
    name: str
    type_name: JavaString | None = None


class Step(NamedTuple):
    """One stretch of an object's data: fields of one class, or free contents up to an end mark."""

    is_contents: bool
    primitive_bytes: int
    objects: int


class ClassDesc:
    """A class descriptor.

    Attributes:
        uid: serialVersionUID as an unsigned 64-bit number.
        flags: the ``SC_`` bits.
        annotations: contents after the fields; empty in all files seen.
        plan: the stretches of an instance's data in stream order; ``None`` while being read, or
            when instances cannot be read without knowing the class.
    """

    __slots__ = ("annotations", "fields", "flags", "name", "plan", "superclass", "uid")

    def __init__(
        self,
        name: str,
        uid: int,
        flags: int,
        fields: tuple[Field, ...] = (),
        superclass: ClassDesc | None = None,
    ) -> None:
        self.name = name
        self.uid = uid
        self.flags = flags
        self.fields = fields
        self.superclass = superclass
        self.annotations: list[Content] = []
        self.plan: tuple[Step, ...] | None = None

    def complete(self) -> None:
        """Work out :attr:`plan`, once fields and superclass are known."""
        if self.flags & SC_EXTERNALIZABLE:
            # Only the class itself writes, whatever its superclasses are.
            if self.flags & SC_BLOCK_DATA and not self.flags & SC_SERIALIZABLE:
                self.plan = (Step(True, 0, 0),)
            return
        if not self.flags & SC_SERIALIZABLE:
            return
        above = self.superclass.plan if self.superclass is not None else ()
        if above is None:
            return
        sizes = [PRIMITIVE_SIZE[f.code] for f in self.fields if f.code in PRIMITIVE_SIZE]
        own = [Step(False, sum(sizes), len(self.fields) - len(sizes))]
        if self.flags & SC_WRITE_METHOD:
            own.append(Step(True, 0, 0))
        self.plan = (*above, *own)

    def __repr__(self) -> str:
        return f"ClassDesc({self.name})"


class JavaObject:
    """An object: one list per step of its class's plan.

    The list of a fields step is the raw primitive bytes followed by the object values; the list of
    a contents step holds nodes, ``None`` for null and ``bytes`` for each block data segment.
    """

    __slots__ = ("desc", "parts")

    def __init__(self, desc: ClassDesc, parts: list[list[Content]]) -> None:
        self.desc = desc
        self.parts = parts

    def __repr__(self) -> str:
        return f"JavaObject({self.desc.name})"


class JavaArray:
    """An array; ``raw`` for primitive elements, ``items`` for objects, never both."""

    __slots__ = ("desc", "items", "raw")

    def __init__(self, desc: ClassDesc, raw: bytes | None, items: list[Content] | None) -> None:
        self.desc = desc
        self.raw = raw
        self.items = items

    @property
    def count(self) -> int:
        """Number of elements."""
        if self.raw is not None:
            return len(self.raw) // PRIMITIVE_SIZE[self.desc.name[1]]
        return len(self.items or ())

    def __repr__(self) -> str:
        return f"JavaArray({self.desc.name}, {self.count})"


class JavaEnum:
    """A constant of an enum class."""

    __slots__ = ("constant", "desc")

    def __init__(self, desc: ClassDesc, constant: JavaString) -> None:
        self.desc = desc
        self.constant = constant


class JavaClass:
    """A class object (as opposed to an instance)."""

    __slots__ = ("desc",)

    def __init__(self, desc: ClassDesc) -> None:
        self.desc = desc


Node = JavaString | ClassDesc | JavaObject | JavaArray | JavaEnum | JavaClass
Content = Node | bytes | None
"""What a stream holds: a node, ``bytes`` for one block data segment, ``None`` for null."""
