"""What readers see differently, as a queue in QuPath: signs of the class ``Disagreement``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from ..objects import Color, PathClass, SlideObject
from ..provenance import DISAGREEMENT_CLASS, DISAGREEMENT_STATE, QUEUE_RANK, REASON
from ..sync.signs import SignKind, sign
from .agreement import Disagreement

DISAGREEMENT = PathClass((DISAGREEMENT_CLASS,), Color(160, 60, 200))
DISAGREEMENTS = SignKind(DISAGREEMENT_STATE, (DISAGREEMENT,), "adjudicate")


def as_signs(
    disagreements: Sequence[Disagreement], entry_of: Mapping[int, int]
) -> dict[int, dict[UUID, SlideObject]]:
    """The objects that show disagreements, by entry id and id.

    Args:
        disagreements: in the order in which they are to be looked at; the first is rank 1.
        entry_of: by position of the image, the entry id in the project; others are passed over.
    """
    signs: dict[int, dict[UUID, SlideObject]] = {}
    for rank, d in enumerate(disagreements, 1):
        if d.image not in entry_of:
            continue
        made = sign(
            d.box,
            DISAGREEMENT,
            state=DISAGREEMENT_STATE,
            measurements={QUEUE_RANK: float(rank)},
            metadata={REASON: d.reason},
        )
        signs.setdefault(entry_of[d.image], {})[made.id] = made
    return signs
