"""JSON and TOML that somebody else may have made: whatever is wrong, it is one kind of error."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import DamagedFileError, GlombridgeError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_TEXT = re.compile(r"""\"(?:[^"\\\n]|\\.)*\"|'[^'\n]*'""")
_ENDLESS_KEY = re.compile(r"(?:\.[ \t]*[\w-]+[ \t]*){100}")
_TOO_DEEP = "it is nested too deeply"


def parse_json(text: str | bytes) -> Any:
    """A JSON document.

    Raises:
        ValueError: no JSON, or nested deeper than this Python can follow.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def parse_toml(text: str) -> dict[str, Any]:
    """A TOML document.

    Raises:
        ValueError: no TOML, or nested deeper than this Python can follow.
    """
    # tomllib (3.11 to 3.13) needs memory by the square of a dotted key's length.
    if _ENDLESS_KEY.search(_TEXT.sub("s", text)):
        raise ValueError(_TOO_DEEP)
    try:
        document: dict[str, Any] = tomllib.loads(text)
        return document
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


@contextmanager
def expecting(path: Path, what: str, way_out: str) -> Iterator[None]:
    """Around code that takes a file apart: what it finds to be otherwise is an error of the file.

    Args:
        path: the file.
        what: it should be, as ``"the manifest of a pull"``.
        way_out: a sentence.

    Raises:
        DamagedFileError: a member is missing, or is of another kind than it should be.
    """
    try:
        yield
    except GlombridgeError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        # A missing key alone does not say that it is one.
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        msg = f"{path} is not {what}: {reason}. {way_out}"
        raise DamagedFileError(msg) from error
