"""Between the QuPath project and the rest: what is taken out of it, and what is put in."""

from .pull import ImageAnnotations, LabelledObject, Pull, pull
from .push import PushResult, push

__all__ = ["ImageAnnotations", "LabelledObject", "Pull", "PushResult", "pull", "push"]
