"""Work on many slides: on this machine, or on a Dask cluster."""

from __future__ import annotations

from .cluster import Cluster, on_cluster, open_cluster
from .work import OneMachine, Outcome, Piece, Tell, Workplace
from .worker import OtherVersionError, scratch_folder

__all__ = [
    "Cluster",
    "OneMachine",
    "OtherVersionError",
    "Outcome",
    "Piece",
    "Tell",
    "Workplace",
    "on_cluster",
    "open_cluster",
    "scratch_folder",
]
