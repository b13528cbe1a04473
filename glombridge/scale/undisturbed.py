"""Loaded by Dask into each worker process of this machine before it begins.

Ctrl-C in a terminal goes to every process there. The driver ends its workers itself, and their
tracebacks would say nothing.
"""

from __future__ import annotations

import signal
from typing import Any


def dask_setup(_: Any) -> None:
    """Called by Dask in the worker's main thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
