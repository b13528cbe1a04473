"""The memory of the loop: the folder ``glombridge/`` inside a QuPath project.

Everything in it can be rebuilt or thrown away without harm to the QuPath project, except the
history.
"""

from .history import History
from .lock import ProjectLock
from .workspace import Workspace

__all__ = ["History", "ProjectLock", "Workspace"]
