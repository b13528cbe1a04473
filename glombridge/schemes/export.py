"""The scheme as the scripts in QuPath read it; ``docs/review-format.md`` is the contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .scheme import Scheme

FORMAT = 1
"""Version of the format of ``scheme.json``."""


def scheme_json(scheme: Scheme, classes: Sequence[str], rejected: str) -> dict[str, Any]:
    """What ``glombridge/scheme.json`` in a project says, as JSON values.

    Args:
        scheme: the scheme.
        classes: the detector's classes, of which ``LABEL`` is a leaf.
        rejected: the class of what is not one.
    """
    return {
        "format": FORMAT,
        "name": scheme.name,
        "version": scheme.version,
        "title": scheme.title,
        "classes": list(classes),
        "rejected": rejected,
        "lesions": [
            {
                "name": lesion.name,
                "key": lesion.key.upper(),
                "label": lesion.label,
                "max": lesion.max,
                "excludes": [
                    other.name
                    for other in scheme.lesions
                    if other.name in scheme.excluded_by[lesion.name]
                ],
                "color": lesion.color.upper(),
            }
            for lesion in scheme.lesions
        ],
        "dominance": list(scheme.dominance),
        "shares": [
            {
                "name": share.name,
                "any_of": list(share.any_of),
                "min_grade": share.min_grade,
                "without": list(share.without),
            }
            for share in scheme.shares
        ],
    }
