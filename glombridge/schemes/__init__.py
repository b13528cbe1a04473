"""Grading schemes: which lesions a reader looks for, and how glomeruli become figures of a case."""

from .export import scheme_json
from .reading import SHIPPED, load_scheme, parse_scheme, shipped_scheme
from .scheme import (
    Adequacy,
    CaseItem,
    Index,
    IndexPart,
    Lesion,
    Level,
    Scheme,
    Score,
    Share,
)

__all__ = [
    "SHIPPED",
    "Adequacy",
    "CaseItem",
    "Index",
    "IndexPart",
    "Lesion",
    "Level",
    "Scheme",
    "Score",
    "Share",
    "load_scheme",
    "parse_scheme",
    "scheme_json",
    "shipped_scheme",
]
