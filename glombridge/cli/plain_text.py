"""Text from files, as a terminal may be shown it."""

from __future__ import annotations

import logging
import re

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""What commands a terminal or turns the order of letters, and what no encoding can write."""


def harmless(text: str) -> str:
    r"""Spell out what a name can hold to command a terminal or to look like another name.

    Control characters other than line feed and tab, marks that turn the direction of writing, and
    lone surrogates become ``\u001b`` and the like; in a JSON document that changes no value.
    """
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class HarmlessFormatter(logging.Formatter):
    """Log lines without commands to the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return harmless(super().format(record))
