"""What an object is in the loop: proposed, judged, or gone, and by whom."""

from __future__ import annotations

from enum import Enum


class State(str, Enum):
    """State of an object of the project, as ``docs/design.md`` defines them."""

    PROPOSAL = "proposal"
    """A model put it there and no human has judged it."""
    ACCEPTED = "accepted"
    """A human gave it a truth class and left the outline: truth."""
    EDITED = "edited"
    """A human gave it a truth class and a new outline: truth."""
    MOVED = "moved"
    """A human changed the outline and left it proposed: protected from us, not yet truth."""
    RECLASSIFIED = "reclassified"
    """A human gave it a class that is neither truth nor rejection: protected from us, not truth."""
    REJECTED = "rejected"
    """A human said that it is not one, by its class."""
    DELETED = "deleted"
    """A human removed it."""
    ADDED = "added"
    """Drawn by a human: truth where its class is."""
    LOST = "lost"
    """It vanished with all of its push, as when QuPath saves over it: nobody decided anything."""
    WITHDRAWN = "withdrawn"
    """We took it out again, unjudged."""

    @property
    def is_there(self) -> bool:
        """Whether an object of this state is in the project."""
        return self not in (State.DELETED, State.LOST, State.WITHDRAWN)

    @property
    def is_judged(self) -> bool:
        """Whether only a human can have brought this about."""
        return self not in (State.PROPOSAL, State.LOST, State.WITHDRAWN)
