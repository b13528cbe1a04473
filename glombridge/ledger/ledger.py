"""``ledger.sqlite``: the history as tables, so that questions need no walk through all of it.

One process writes it, under the project lock; others read it, or a copy in memory where it is behind,
busy or damaged. It is an index: deleting it costs the time to build it anew.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import UUID

from ..documents import expecting
from ..errors import DamagedFileError
from .history import History
from .pushed import Drawing, Judgement, PushedObject, Version, version_of
from .schema import IN_FORCE, SCHEMA_VERSION, UNDONE, apply_event, create
from .states import State

_LOG = logging.getLogger(__name__)
_TAIL_BYTES = 4096
_BUSY_SECONDS = 5.0


@dataclass(frozen=True)
class Step:
    """One change in the life of one object.

    Attributes:
        image: entry id.
        at: when it was recorded, UTC.
        state: after it.
        event: what recorded it: ``push``, ``withdraw``, ``review``, ...
        write, run, layer: of a change that we made.
        path_class: the object's class after it, where it is known.
        score: the detector's confidence, of a proposal.
        after, before: between these times a human did it; ``after`` is ``None`` where nobody had
            looked before.
        who: the human, ``unknown`` where QuPath does not say.
        undone: whether ``undo`` took it back.
        seconds: it had stood before readers until then, in all; ``None`` = unknown.
        graded: the scheme of which every lesion was looked for.
        grades: lesion to value.
    """

    image: int
    object: UUID
    at: str
    state: State
    event: str
    write: str | None
    run: str | None
    layer: str | None
    path_class: str | None
    score: float | None
    after: str | None
    before: str | None
    who: str | None
    undone: bool
    seconds: float | None = None
    graded: str | None = None
    grades: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "image": self.image,
            "id": str(self.object),
            "at": self.at,
            "state": self.state.value,
            "event": self.event,
            "write": self.write,
            "run": self.run,
            "layer": self.layer,
            "class": self.path_class,
            "score": self.score,
            "after": self.after,
            "before": self.before,
            "who": self.who,
            "undone": self.undone,
            "seconds": self.seconds,
            "graded": self.graded,
            "grades": dict(self.grades),
        }


@dataclass(frozen=True)
class OpenWrite:
    """A write that was announced and never confirmed: its process was killed.

    Attributes:
        sha256: of the data file it was about to put in place.
        replaced: of the one before, empty = none.
        put: ids of the objects it adds or changes.
        withdrawn: ids of those it takes out.
    """

    write: str
    image: int
    sha256: str
    replaced: str
    put: tuple[UUID, ...]
    withdrawn: tuple[UUID, ...]


class Ledger:
    """Questions to the history of a project; use with ``with`` or :meth:`close`.

    Args:
        connection: to a database that may be empty.
        history: what it is an index of.
    """

    def __init__(self, connection: sqlite3.Connection, history: History) -> None:
        self._db = connection
        self._history = history

    @classmethod
    def open(cls, folder: Path) -> Ledger:
        """For the holder of the project lock, who may :meth:`record`.

        Where the file cannot be used (a share without locks, say), an index in memory serves as
        well, only slower.

        Raises:
            DamagedFileError: the history cannot be read.
        """
        history, file = _files(folder)
        for attempt in (1, 2):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                ledger = cls(_connect(str(file), _BUSY_SECONDS), history)
                try:
                    ledger.catch_up()
                except BaseException:
                    ledger.close()
                    raise
            except (sqlite3.Error, OSError) as error:
                # Not the right one for this program, or damaged: nothing in it is only there.
                _LOG.info("attempt %d: the index %s cannot be used: %s", attempt, file, error)
                _remove(file)
            else:
                return ledger
        _LOG.warning("%s cannot be used; the history is read as a whole instead", file)
        return cls.in_memory(history)

    @classmethod
    def view(cls, folder: Path) -> Ledger:
        """For reading at any time; changes no file.

        Raises:
            DamagedFileError: the history cannot be read.
        """
        history, file = _files(folder)
        if not file.is_file():
            return cls.in_memory(history)
        try:
            ledger = cls(_connect(f"{file.resolve().as_uri()}?mode=ro", 0.5), history)
            if ledger._is_current():
                return ledger
            # Behind: go on from there, in a copy.
            memory = sqlite3.connect(":memory:", isolation_level=None)
            with ledger:
                ledger._db.backup(memory)
            behind = cls(memory, history)
            behind.catch_up()
        except sqlite3.Error as error:
            _LOG.info("the index %s cannot be used: %s", file, error)
            return cls.in_memory(history)
        return behind

    @classmethod
    def in_memory(cls, history: History) -> Ledger:
        """Built from the whole history."""
        ledger = cls(sqlite3.connect(":memory:", isolation_level=None), history)
        ledger.catch_up()
        return ledger

    def close(self) -> None:
        """Give the file free."""
        self._db.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def record(self, event: str, **values: Any) -> None:
        """Append to the history, then take it into the index.

        Raises:
            MachineError: the history cannot be written.
        """
        self._history.append(event, **values)
        try:
            self.catch_up()
        except sqlite3.Error as error:
            # Deleted under our hands, say, or its disk is full: nothing in it is only there.
            _LOG.warning("the index can no longer be written (%s); going on without it", error)
            self._db.close()
            self._db = sqlite3.connect(":memory:", isolation_level=None)
            self.catch_up()

    def catch_up(self) -> None:
        """Take in what was appended to the history since; a foreign history is read anew."""
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        offset = self._offset() if version == SCHEMA_VERSION else None
        if offset is not None and offset == self._size():
            return
        with self._transaction():
            if offset is None:
                self._empty()
                offset = 0
            for read_to, event in self._history.events_from(offset):
                self._take_in(event, read_to)
                offset = read_to
            self._db.executemany(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)",
                [("offset", str(offset)), ("tail", self._tail(offset))],
            )

    def _take_in(self, event: Mapping[str, Any], end: int) -> None:
        try:
            apply_event(self._db, event)
        except (
            *(LookupError, TypeError, AttributeError, ValueError, OverflowError),
            *(sqlite3.InterfaceError, sqlite3.DataError, sqlite3.ProgrammingError),
            sqlite3.IntegrityError,
        ) as error:
            msg = (
                f"{self._history.path}, the event {str(event['event'])[:40]!r} that ends at byte {end}, "
                f"is not as glombridge writes it: {error!r}. Restore the file from a backup."
            )
            raise DamagedFileError(msg) from error

    def _is_current(self) -> bool:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        return version == SCHEMA_VERSION and self._offset() == self._size()

    def _offset(self) -> int | None:
        """How far the history was read, ``None`` if this is no index of it."""
        found = dict(self._db.execute("SELECT key, value FROM meta").fetchall())
        if "offset" not in found:
            return None
        offset = int(found["offset"])
        return offset if offset <= self._size() and self._tail(offset) == found["tail"] else None

    def _size(self) -> int:
        try:
            return self._history.path.stat().st_size
        except FileNotFoundError:
            return 0

    def _tail(self, offset: int) -> str:
        if not offset:
            return ""
        with self._history.path.open("rb") as file:
            file.seek(max(0, offset - _TAIL_BYTES))
            return hashlib.sha256(file.read(min(offset, _TAIL_BYTES))).hexdigest()

    def _empty(self) -> None:
        self._db.execute("PRAGMA defer_foreign_keys = ON")
        names = self._db.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
        for (name,) in names:
            quoted = name.replace('"', '""')
            self._db.execute(f'DROP TABLE "{quoted}"')
        create(self._db)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def base(self, image: int) -> list[PushedObject]:
        """Every object that was ever pushed into an image and not undone, in order of id."""
        rows = self._db.execute(
            "SELECT object, state, write_id, layer, run, model, record, "  # noqa: S608
            f"{_JUDGEMENT} FROM step "
            "WHERE image = ? AND EXISTS (SELECT 1 FROM object AS o WHERE o.image = step.image AND "
            f"o.id = step.object AND o.ours) AND {IN_FORCE} ORDER BY object, seq",
            (image,),
        )
        by_object = itertools.groupby(rows, key=itemgetter(0))
        with expecting(
            self._history.path,
            "a history as glombridge writes it",
            "Restore the file from a backup.",
        ):
            return [_pushed(list(steps)) for _, steps in by_object]

    def drawn(self, image: int) -> dict[UUID, Drawing]:
        """Each object that a human drew into an image and that was there at the last look."""
        rows = self._db.execute(
            f"SELECT o.id, s.what, {_JUDGEMENT} FROM object AS o JOIN step AS s "  # noqa: S608
            "ON s.image = o.image AND s.object = o.id AND s.seq = o.seq "
            "WHERE o.image = ? AND NOT o.ours AND o.state = ?",
            (image, State.ADDED.value),
        )
        return {
            UUID(object_id): replace(
                Drawing.from_list(json.loads(what)), judgement=_judgement(judgement)
            )
            for object_id, what, *judgement in rows
        }

    def last_look(self, image: int) -> str | None:
        """When somebody of us last read an image, UTC; ``None`` = never on record."""
        row = self._db.execute("SELECT at FROM look WHERE image = ?", (image,)).fetchone()
        return str(row[0]) if row else None

    def n_there(self, image: int) -> int:
        """How many proposals, and marks that humans made, were in an image at the last look."""
        gone = [state.value for state in State if not state.is_there]
        marks = ", ".join("?" * len(gone))
        row = self._db.execute(
            f"SELECT count(*) FROM object WHERE image = ? AND state NOT IN ({marks})",  # noqa: S608
            (image, *gone),
        ).fetchone()
        return int(row[0])

    def content(self, image: int, layer: str) -> dict[str, Any] | None:
        """The event that says what the last run of a layer saw in an image."""
        row = self._db.execute(
            "SELECT body FROM content WHERE image = ? AND layer = ?", (image, layer)
        ).fetchone()
        return dict(json.loads(row[0])) if row else None

    def open_writes(self) -> list[OpenWrite]:
        """Writes that were announced and never confirmed, oldest first."""
        rows = self._db.execute(
            "SELECT i.write_id, i.image, i.sha256, i.replaced FROM write_image AS i "
            "JOIN write AS w ON w.id = i.write_id WHERE i.state = 'begun' ORDER BY w.seq, i.image"
        ).fetchall()
        return [OpenWrite(*row, *self._objects_of_write(row[0], row[1])) for row in rows]

    def _objects_of_write(self, write: str, image: int) -> tuple[tuple[UUID, ...], ...]:
        rows = self._db.execute(
            "SELECT object, record IS NOT NULL FROM step WHERE write_id = ? AND image = ?",
            (write, image),
        ).fetchall()
        return tuple(
            tuple(UUID(object_id) for object_id, is_put in rows if bool(is_put) is wanted)
            for wanted in (True, False)
        )

    def next_write_id(self) -> str:
        """The id of the next write; only the holder of the project lock may use it."""
        last = self._db.execute("SELECT coalesce(max(number), 0) FROM write").fetchone()[0]
        return f"write-{last + 1:03d}"

    def write_rows(self) -> list[tuple[Any, ...]]:
        """Id, command, run, layer, time, image, state, hashes and snapshot of every confirmed write."""
        return self._db.execute(
            "SELECT w.id, w.command, w.run, w.layer, w.at, i.image, i.state, i.sha256, "
            "i.replaced, i.snapshot FROM write AS w JOIN write_image AS i ON i.write_id = w.id "
            "WHERE i.state IN ('done', 'undone') AND i.sha256 || i.replaced != '' "
            "ORDER BY w.seq, i.image"
        ).fetchall()

    def states(self) -> dict[int, Counter[State]]:
        """By image, how many pushed objects are in each state."""
        counts: dict[int, Counter[State]] = {}
        for image, state, n in self._db.execute(
            "SELECT image, state, count(*) FROM object WHERE ours GROUP BY image, state"
        ):
            counts.setdefault(int(image), Counter())[State(state)] = n
        return counts

    def layers(self) -> list[tuple[str, str, int, State, int]]:
        """Layer, run, image, state and number of the pushed objects, in that order."""
        rows = self._db.execute(
            "SELECT layer, run, image, state, count(*) FROM object WHERE ours "
            "GROUP BY layer, run, image, state ORDER BY layer, run, image, state"
        )
        return [(layer, run, int(image), State(state), n) for layer, run, image, state, n in rows]

    def steps(self, object_id: str) -> list[Step]:
        """The life of the objects whose id begins with a text, oldest first."""
        escaped = object_id.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        rows = self._db.execute(
            "SELECT s.image, s.object, e.at, s.state, coalesce(w.command, e.event), s.write_id, "
            "coalesce(s.run, w.run), coalesce(s.layer, w.layer), s.class, s.score, s.after, "
            "s.before, s.who, s.seconds, s.graded, s.grades, i.state FROM step AS s "
            "JOIN event AS e ON e.seq = s.seq LEFT JOIN write AS w ON w.id = s.write_id "
            "LEFT JOIN write_image AS i ON i.write_id = s.write_id AND i.image = s.image "
            "WHERE s.object LIKE ? ESCAPE '\\' AND coalesce(i.state, 'done') IN ('done', 'undone') "
            "ORDER BY s.image, s.object, s.seq",
            (escaped + "%",),
        ).fetchall()
        found = []
        for image, key, at, state, event, write, run, layer, *told, write_state in rows:
            path_class, score, after, before, who, seconds, graded, grades = told
            made = Step(
                image=image,
                object=UUID(key),
                at=at,
                state=State(state),
                event=event,
                write=write,
                run=run,
                layer=layer,
                path_class=path_class,
                score=score,
                after=after,
                before=before,
                who=who,
                undone=write_state == UNDONE,
                seconds=seconds,
                graded=graded,
                grades=json.loads(grades or "{}"),
            )
            found.append(made)
        return found

    def events(self, *kinds: str, newest: int | None = None) -> list[dict[str, Any]]:
        """What events say, of their lists of objects only the lengths, oldest first."""
        marks = ", ".join("?" * len(kinds))
        where = f"WHERE event IN ({marks})" if kinds else ""
        rows = self._db.execute(
            f"SELECT body FROM event {where} ORDER BY seq DESC LIMIT ?",  # noqa: S608
            (*kinds, -1 if newest is None else newest),
        ).fetchall()
        return [json.loads(row[0]) for row in reversed(rows)]

    def parts(self) -> dict[str, str]:
        """Which side of the split each patient is on."""
        return dict(self._db.execute("SELECT name, part FROM patient").fetchall())

    def patients_of_images(self) -> dict[int, str]:
        """Whose each image was when patients were last split, by entry id; older splits do not say."""
        return dict(self._db.execute("SELECT image, name FROM image_patient").fetchall())


_JUDGEMENT = "class, who, reviewed, seconds, graded, grades"


def _judgement(told: Sequence[Any]) -> Judgement | None:
    """Of the columns :data:`_JUDGEMENT`; ``None`` = of a step that was no human's."""
    path_class, who, reviewed, seconds, graded, grades = told
    if who is None:
        return None
    return Judgement(path_class, who, reviewed, seconds, graded, json.loads(grades or "{}"))


def _pushed(steps: list[tuple[Any, ...]]) -> PushedObject:
    versions: list[Version] = []
    is_there = False
    write, is_new = "", True
    last = steps[0]
    for step in steps:
        state, record = State(step[1]), step[6]
        if record is not None:
            told = json.loads(record)
            if not is_there:
                write, is_new = step[2], not versions
            versions.append(version_of(told["object"], told["shared"], step[2]))
            # A write that is of no run, like a queue's, leaves an object with the run it came from.
            last = step if step[3] is not None else last
        is_there = state.is_there
    return PushedObject(
        UUID(steps[0][0]),
        tuple(versions),
        layer=last[3],
        run=last[4] or "",
        model=last[5] or "",
        write=write,
        is_new_in_write=is_new,
        state=State(steps[-1][1]),
        losses=sum(step[1] == State.LOST.value for step in steps),
        judgement=_judgement(steps[-1][7:]),
    )


def _files(folder: Path) -> tuple[History, Path]:
    return History(folder / "history.jsonl"), folder / "ledger.sqlite"


def _connect(target: str, busy_seconds: float) -> sqlite3.Connection:
    connection = sqlite3.connect(
        target, timeout=busy_seconds, isolation_level=None, uri=target.startswith("file:")
    )
    # The rollback journal: write-ahead logging needs shared memory, which network shares lack.
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _remove(file: Path) -> None:
    for path in (file, file.with_name(file.name + "-journal")):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            _LOG.info("%s cannot be removed: %s", path, error)
