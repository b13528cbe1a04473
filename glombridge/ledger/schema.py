"""The tables of the ledger, and how each event of the history changes them.

The ledger is an index of ``history.jsonl`` and holds nothing that is not there. So a schema of
another version is not migrated row by row but built anew from the record.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from ..provenance import CONFIDENCE
from .states import State

SCHEMA_VERSION = 3
"""Raise it with every change of the tables or of what an event does to them."""

DEFAULT_LAYER = "main"
"""The layer of a push that names none, and of all pushes from before there were layers."""

WRITE_BEGUN = "write-begun"
WRITE_DONE = "write-done"
WRITE_DROPPED = "write-dropped"
REVIEW = "review"
CONTENT = "content"
PUSHED = "pushed"
UNDO = "undo"

DONE, DROPPED, UNDONE = "done", "dropped", "undone"

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE event (
    seq INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    event TEXT NOT NULL,
    image INTEGER,
    body TEXT NOT NULL  -- what the event says, of its lists of objects only their lengths
);
CREATE TABLE write (
    id TEXT PRIMARY KEY,
    number INTEGER NOT NULL,
    command TEXT NOT NULL,
    run TEXT,
    layer TEXT,
    at TEXT NOT NULL,
    seq INTEGER NOT NULL REFERENCES event
) WITHOUT ROWID;
CREATE TABLE write_image (
    write_id TEXT NOT NULL REFERENCES write,
    image INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('begun', 'done', 'dropped', 'undone')),
    sha256 TEXT NOT NULL,     -- of the data file the write made
    replaced TEXT NOT NULL,   -- of the one before, '' = there was none
    snapshot TEXT,
    PRIMARY KEY (write_id, image)
) WITHOUT ROWID;
CREATE TABLE step (  -- one change in the life of one object
    seq INTEGER NOT NULL REFERENCES event,
    image INTEGER NOT NULL,
    object TEXT NOT NULL,
    state TEXT NOT NULL,
    write_id TEXT REFERENCES write,  -- NULL: a human's doing that was found
    layer TEXT,
    run TEXT,
    model TEXT,
    class TEXT,
    score REAL,
    after TEXT,   -- a human did it after this time,
    before TEXT,  -- and before this one
    who TEXT,
    reviewed TEXT,   -- when, where the object says so
    seconds REAL,    -- the object stood before readers until then
    graded TEXT,     -- name and version of the scheme
    grades TEXT,     -- lesion to value
    what TEXT,    -- class, bounds and area of an object a human drew
    record TEXT,  -- the object as pushed
    PRIMARY KEY (image, object, seq)
) WITHOUT ROWID;
CREATE INDEX step_of_object ON step (object);
CREATE INDEX step_of_write ON step (write_id, image);
CREATE TABLE object (  -- the last step of each object that was not undone
    image INTEGER NOT NULL,
    id TEXT NOT NULL,
    seq INTEGER NOT NULL REFERENCES event,
    state TEXT NOT NULL,
    ours INTEGER NOT NULL,  -- whether it was ever pushed
    layer TEXT,
    run TEXT,
    PRIMARY KEY (image, id)
) WITHOUT ROWID;
CREATE TABLE look (image INTEGER PRIMARY KEY, at TEXT NOT NULL);
CREATE TABLE content (  -- what the last run of a layer saw in an image
    image INTEGER NOT NULL,
    layer TEXT NOT NULL,
    seq INTEGER NOT NULL REFERENCES event,
    body TEXT NOT NULL,
    PRIMARY KEY (image, layer)
) WITHOUT ROWID;
CREATE TABLE patient (name TEXT PRIMARY KEY, part TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE image_patient (image INTEGER PRIMARY KEY, name TEXT NOT NULL);
"""

_LISTS = ("add", "update", "withdraw", "objects", "decisions", "known", "suppressed")


def create(connection: sqlite3.Connection) -> None:
    """Make empty tables in an empty database, inside the caller's transaction."""
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def apply_event(connection: sqlite3.Connection, event: Mapping[str, Any]) -> None:
    """Change the tables by one event, inside the caller's transaction."""
    kind = event["event"]
    image = event.get("image")
    body = {k: len(v) if isinstance(v, list) and k in _LISTS else v for k, v in event.items()}
    for long in ("scanned", "errors", "unfollowed"):
        body.pop(long, None)
    seq = connection.execute(
        "INSERT INTO event (at, event, image, body) VALUES (?, ?, ?, ?)",
        (event["at"], kind, image, json.dumps(body, ensure_ascii=False)),
    ).lastrowid
    assert seq is not None  # noqa: S101 (for the type checker)
    if kind == "push":
        _old_push(connection, seq, event)
    elif kind == WRITE_BEGUN:
        _begin(connection, seq, event)
    elif kind == WRITE_DONE:
        _settle(connection, event["write"], image, DONE, event.get("sha256"))
        _looked(connection, image, event["at"])
    elif kind == WRITE_DROPPED:
        _settle(connection, event["write"], image, DROPPED)
    elif kind == UNDO:
        _settle(connection, event["undoes"], image, UNDONE)
    elif kind == REVIEW:
        _review(connection, seq, event)
    elif kind == CONTENT:
        connection.execute(
            "INSERT OR REPLACE INTO content VALUES (?, ?, ?, ?)",
            (image, event["layer"], seq, json.dumps(event, ensure_ascii=False)),
        )
    elif kind == "pull":
        for looked_at in event["images"]:
            _looked(connection, int(looked_at), event["at"])
    elif kind == "split":
        connection.executemany(
            "INSERT OR REPLACE INTO patient VALUES (?, ?)", list(event["patients"].items())
        )
        connection.executemany(
            "INSERT OR REPLACE INTO image_patient VALUES (?, ?)",
            [(int(i), name) for i, name in event.get("images", {}).items()],
        )


def _old_push(connection: sqlite3.Connection, seq: int, event: Mapping[str, Any]) -> None:
    """A push of the first format: it only added, and was recorded when it was done."""
    write = event.get("write") or f"before-writes-{seq}"
    begun = {
        **event,
        "command": "push",
        "layer": DEFAULT_LAYER,
        "write": write,
        "add": event["objects"],
        # Pushes older than undo name no data file: they can be remembered, not undone.
        "sha256": event.get("sha256") or "",
        "replaced": event.get("replaced") or "",
    }
    _begin(connection, seq, begun)
    _settle(connection, write, event["image"], DONE)


def _begin(connection: sqlite3.Connection, seq: int, event: Mapping[str, Any]) -> None:
    write, image, layer = event["write"], event["image"], event.get("layer")
    number = str(write).removeprefix("write-")
    connection.execute(
        "INSERT OR IGNORE INTO write VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            write,
            int(number) if number.isdecimal() else 0,
            event["command"],
            event.get("run"),
            layer,
            event["at"],
            seq,
        ),
    )
    # Twice in one write: what was there before the first time is what counts.
    connection.execute(
        "INSERT INTO write_image VALUES (?, ?, 'begun', ?, ?, ?) ON CONFLICT DO UPDATE SET "
        "sha256 = excluded.sha256, state = 'begun'",
        (write, image, event["sha256"], event["replaced"], event.get("snapshot")),
    )
    common = (write, layer, event.get("run"), event.get("model"))
    shared = event.get("shared", {})
    rows: list[tuple[Any, ...]] = [
        (
            seq,
            image,
            record["id"],
            State.PROPOSAL.value,
            *common,
            record["class"],
            record.get("measurements", {}).get(CONFIDENCE, record.get("score")),
            json.dumps({"object": record, "shared": shared}, ensure_ascii=False),
        )
        for record in (*event.get("add", ()), *event.get("update", ()))
    ]
    rows += [
        # A withdrawal has no layer of its own: the object stays in the one that proposed it.
        (seq, image, object_id, State.WITHDRAWN.value, write, None, None, None, None, None, None)
        for object_id in event.get("withdraw", ())
    ]
    connection.executemany(
        "INSERT OR REPLACE INTO step (seq, image, object, state, write_id, layer, run, model, class, score, "
        "record) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )


def _settle(
    connection: sqlite3.Connection, write: str, image: Any, state: str, sha256: str | None = None
) -> None:
    connection.execute(
        "UPDATE write_image SET state = ?, sha256 = coalesce(?, sha256) "
        "WHERE write_id = ? AND image = ?",
        (state, sha256, write, image),
    )
    _refresh(connection, image, "write_id = ?", write)


def _review(connection: sqlite3.Connection, seq: int, event: Mapping[str, Any]) -> None:
    image = event["image"]
    connection.executemany(
        "INSERT OR REPLACE INTO step (seq, image, object, state, class, after, before, who, reviewed, "
        "seconds, graded, grades, what) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                seq,
                image,
                d["id"],
                State(d["to"]).value,  # a word it does not know is no decision
                d.get("class"),
                d.get("at") or event.get("after"),
                d.get("at") or event["at"],
                d["by"],
                d.get("at"),
                d.get("seconds"),
                d.get("graded"),
                json.dumps(d["grades"], ensure_ascii=False) if "grades" in d else None,
                json.dumps(d["drawing"]) if "drawing" in d else None,
            )
            for d in event["decisions"]
        ],
    )
    _refresh(connection, image, "seq = ?", seq)
    _looked(connection, image, event["at"])


def _looked(connection: sqlite3.Connection, image: Any, at: str) -> None:
    connection.execute("INSERT OR REPLACE INTO look VALUES (?, ?)", (image, at))


IN_FORCE = (
    "(step.write_id IS NULL OR EXISTS (SELECT 1 FROM write_image AS w WHERE "
    "w.write_id = step.write_id AND w.image = step.image AND w.state = 'done'))"
)
"""Condition of a step that was not undone, dropped, or only announced."""


def _refresh(connection: sqlite3.Connection, image: Any, which: str, value: Any) -> None:
    """Set the present state of the objects of some steps to that of their last step in force."""
    touched = f"SELECT object FROM step WHERE image = ? AND {which}"  # noqa: S608
    connection.execute(
        f"DELETE FROM object WHERE image = ? AND id IN ({touched})",  # noqa: S608
        (image, image, value),
    )
    now: dict[str, tuple[Any, ...]] = {}
    for object_id, seq, state, layer, run, is_pushed in connection.execute(
        "SELECT object, seq, state, layer, run, record IS NOT NULL FROM step "  # noqa: S608
        f"WHERE image = ? AND object IN ({touched}) AND {IN_FORCE} ORDER BY object, seq",
        (image, image, value),
    ):
        # A human's step has no layer: the object stays in the one that proposed it.
        before = now.get(object_id, (None, None, None, False, None, None))
        place = (layer, run) if layer else before[4:]
        now[object_id] = (object_id, seq, state, before[3] or bool(is_pushed), *place)
    connection.executemany(
        "INSERT INTO object (image, id, seq, state, ours, layer, run) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(image, *row) for row in now.values()],
    )
