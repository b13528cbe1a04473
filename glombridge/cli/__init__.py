"""The command line: thin wrappers over the functions of :mod:`glombridge.steps`."""

from __future__ import annotations

from .main import main, run

__all__ = ["main", "run"]
