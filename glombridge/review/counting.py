"""Which slides of a case count. Serial sections and stains show the same glomerulus again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from ..errors import InputError
from ..provenance import COUNTING
from ..qupath.store import ImageEntry


class Counting(str, Enum):
    """What is declared of an image."""

    NOTHING = "nothing"
    COUNTING = "true"
    """It is the one that counts for its case."""
    DISTINCT = "distinct"
    """It shows other tissue than every other distinct one."""


@dataclass(frozen=True)
class Slide:
    """An image of a case.

    Attributes:
        image: entry id.
        name: as in QuPath.
        glomeruli: marked on it.
        counting: what is declared of it.
    """

    image: int
    name: str
    glomeruli: int
    counting: Counting = Counting.NOTHING


@dataclass(frozen=True)
class Choice:
    """The slides that a case's figures are made from.

    Attributes:
        images: entry ids, empty = there are no figures.
        why: they are chosen, or why there are none.
    """

    images: tuple[int, ...]
    why: str


def declared(entry: ImageEntry) -> Counting:
    """What the metadata of an image declares.

    Raises:
        InputError: a value that means nothing.
    """
    value = entry.metadata.get(COUNTING, "").strip().lower()
    if value in ("true", "yes", "1"):
        return Counting.COUNTING
    if value == Counting.DISTINCT.value:
        return Counting.DISTINCT
    if value in ("", "false", "no", "0"):
        return Counting.NOTHING
    msg = (
        f"image {entry.name!r} (entry {entry.id}): metadata {COUNTING!r} is {value!r}. It is 'true' on the "
        "one slide that counts for its case, 'distinct' on slides of different tissue, else absent."
    )
    raise InputError(msg)


def choose(slides: Sequence[Slide]) -> Choice:
    """The slides of one case that are counted, never a silent sum; a pure function."""
    counting = [s for s in slides if s.counting is Counting.COUNTING]
    distinct = [s for s in slides if s.counting is Counting.DISTINCT]
    if len(counting) > 1:
        return Choice(
            (), f"{_names(counting)} are each declared as the one counting slide; leave one"
        )
    if counting and distinct:
        said = f"{_names(counting)} is declared as the counting slide and {_names(distinct)} as distinct"
        return Choice((), f"{said}; leave one of the two")
    if counting:
        return Choice((counting[0].image,), f"counting slide: {counting[0].name}")
    if distinct:
        images = tuple(sorted(s.image for s in distinct))
        others = [s for s in slides if s.counting is Counting.NOTHING and s.glomeruli]
        left = f"; not counted: {_names(others)}" if others else ""
        return Choice(images, f"distinct tissue: {_names(distinct)}{left}")
    marked = [s for s in slides if s.glomeruli]
    if not marked:
        return Choice((), "no glomerulus is marked on its slides")
    if len(marked) == 1:
        return Choice((marked[0].image,), f"the only slide with glomeruli: {marked[0].name}")
    why = (
        f"{len(marked)} slides have glomeruli ({_names(marked)}) and may show the same ones again; "
        f"declare one as counting, or those of different tissue as distinct (image metadata {COUNTING!r} "
        "= true or distinct, --counting or --distinct)"
    )
    return Choice((), why)


def _names(slides: Sequence[Slide]) -> str:
    return ", ".join(sorted(s.name for s in slides))
