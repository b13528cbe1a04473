"""QuPath projects through a real QuPath, which runs in a process of its own.

Only what is listed below is for the rest of the program. The JVM is
never started in this process: it could not be stopped again and would not survive a fork.
"""

from .installation import Installation, find_installation, version_numbers
from .store import PaquoStore

__all__ = ["Installation", "PaquoStore", "find_installation", "version_numbers"]
