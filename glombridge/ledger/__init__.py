"""The memory of the loop: the folder ``glombridge/`` inside a QuPath project.

Everything in it can be rebuilt or thrown away without harm to the QuPath project, except the
history.
"""

from .codes import Codes, open_codes
from .history import History
from .ledger import Ledger
from .lock import ProjectLock
from .pushed import PushedObject
from .states import State
from .workspace import Workspace

__all__ = [
    "Codes",
    "History",
    "Ledger",
    "ProjectLock",
    "PushedObject",
    "State",
    "Workspace",
    "open_codes",
]
