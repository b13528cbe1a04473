"""From a tile dataset to weights, by ultralytics, on a GPU or a CPU."""

from .options import TrainOptions, TrainResult, paper_options
from .repeat import finished_alike
from .run_folder import RunFolder
from .trainer import resume, train

__all__ = [
    "RunFolder",
    "TrainOptions",
    "TrainResult",
    "finished_alike",
    "paper_options",
    "resume",
    "train",
]
