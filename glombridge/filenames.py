"""File names made of image names."""

from __future__ import annotations

import re
import unicodedata

MAX_LENGTH = 80
_WINDOWS_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)")


def safe_name(name: str) -> str:
    """An image name as part of a file name on every platform.

    Letters and digits of any script, ``.``, ``_`` and ``-`` stay; everything else, path
    separators and control characters among them, becomes ``_``. Not unique: add an id.
    """
    text = re.sub(r"[^\w.\-]+", "_", unicodedata.normalize("NFC", name))
    safe = text.strip("._-")[:MAX_LENGTH] or "image"
    return f"_{safe}" if _WINDOWS_DEVICES.match(safe) else safe
