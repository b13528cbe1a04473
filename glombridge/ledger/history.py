"""``history.jsonl``: what was done, appended and never rewritten, one JSON object a line."""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..documents import parse_json
from ..errors import DamagedFileError, MachineError, ProtectedError

FORMAT_VERSION = 2
"""Of the events. 1 knew pushes that only add; 2 has writes that are announced and confirmed, and what
humans decided. Both are read."""

NEWLINE = b"\n"

_START = b'{"v":'
_CUT_WORD = re.compile(r"|t|tr|tru|f|fa|fal|fals|n|nu|nul|-|\.|[eE][+-]?|u?[0-9a-fA-F]{0,4}")
"""What may be left where a parser stops at the end of a text: a word, number or escape cut short."""


@dataclass(frozen=True)
class History:
    """The append-only record of a project. Only the holder of the project lock appends."""

    path: Path

    def append(self, event: str, **values: Any) -> None:
        """Add one event and put it on disk before returning.

        A line that a killed process left unfinished is closed first, so that it can never run
        into the new one; readers pass over it.

        Raises:
            MachineError: the record cannot be written.
        """
        record = {"v": FORMAT_VERSION, "at": utc_now(), "event": event, **values}
        line = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        # Half of a surrogate pair, which a class name of QuPath may hold, has no UTF-8.
        data = line.encode("utf-8", "replace")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    torn = file.read(1) != b"\n"
                    file.seek(0, os.SEEK_END)
                    if torn:
                        file.write(b"\n")
                file.write(data + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            msg = f"cannot write the project's history {self.path}: {error.strerror or error}"
            raise MachineError(msg) from error

    def events(self, *kinds: str) -> Iterator[dict[str, Any]]:
        """Events in the order they happened, all or only of the kinds given.

        Raises:
            DamagedFileError: a line that no interrupted write explains.
            ProtectedError: an event of a newer glombridge.
        """
        for _, record in self.events_from(0):
            if not kinds or record["event"] in kinds:
                yield record

    def events_from(self, offset: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Events from a place in the file on, each with the place where the next one begins.

        Args:
            offset: in bytes, one that was given back here, or 0.

        Raises:
            DamagedFileError: a line that no interrupted write explains.
            ProtectedError: an event of a newer glombridge.
        """
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            file.seek(offset)
            for line in file:
                offset += len(line)
                record = self._parsed(line, offset)
                if record is not None:
                    yield offset, record

    def _parsed(self, line: bytes, offset: int) -> dict[str, Any] | None:
        try:
            record: dict[str, Any] = parse_json(line)
            version, _ = int(record.get("v", 0)), record["event"]
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
            # An interrupted append leaves the beginning of a record: pass over it. Anything else is not
            # ours, or a record that was spoilt: a decision or a side of the split may be lost with it.
            if _is_beginning(line):
                return None
            msg = (
                f"{self.path} {self._line_at(offset)} is not a history record: {error}. "
                "Restore the file from a backup, or remove that line."
            )
            raise DamagedFileError(msg) from error
        if version > FORMAT_VERSION:
            # Read half understood, it could bring back what a human has rejected.
            msg = (
                f"{self.path} {self._line_at(offset)} was written by a newer glombridge (format "
                f"{version}, this one knows {FORMAT_VERSION}). Update glombridge."
            )
            raise ProtectedError(msg)
        return record

    def _line_at(self, end: int) -> str:
        with self.path.open("rb") as file:
            before = file.read(end)
        return f"line {before.count(NEWLINE) + (not before.endswith(NEWLINE))}"


def _is_beginning(line: bytes) -> bool:
    """Whether a line is what an interrupted append leaves of a record: all of it up to some byte."""
    # After a power cut the rest may be zeros.
    line = line.rstrip(b"\n").rstrip(b"\0")
    if len(line) <= len(_START) or not line.startswith(_START):
        return not line.strip() or _START.startswith(line)
    try:
        # A letter of several bytes may be cut.
        text = codecs.getincrementaldecoder("utf-8")().decode(line)
        parse_json(text)
    except json.JSONDecodeError as error:
        if error.msg.startswith("Unterminated string"):
            # Of a whole record that lost a quotation mark the last brace is still there.
            return not text.endswith("}")
        return _CUT_WORD.fullmatch(text[error.pos :]) is not None
    except ValueError:
        return False
    return False


def utc_now() -> str:
    """The present time, UTC, to the second, as ISO 8601."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
