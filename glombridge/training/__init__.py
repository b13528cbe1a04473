"""From a tile dataset to weights, by ultralytics, on a GPU or a CPU."""

from .trainer import TrainOptions, TrainResult, train

__all__ = ["TrainOptions", "TrainResult", "train"]
