"""Between the QuPath project and the rest: what is taken out of it, and what is put in."""

from .merge import MergePlan, Ours, merge
from .pull import ImageAnnotations, LabelledObject, Pull, pull
from .push import Proposals, PushResult, push
from .withdraw import WithdrawResult, withdraw

__all__ = [
    "ImageAnnotations",
    "LabelledObject",
    "MergePlan",
    "Ours",
    "Proposals",
    "Pull",
    "PushResult",
    "WithdrawResult",
    "merge",
    "pull",
    "push",
    "withdraw",
]
