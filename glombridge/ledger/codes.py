"""Codes that stand for names in what leaves a project, and the key that leads back to the names."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from filelock import FileLock, Timeout

from ..errors import DamagedFileError, MachineError
from ..qupath.saving import atomic_write
from .workspace import Workspace

FORMAT = "glombridge codes 1"

_SECRET_BYTES = 32
_CODE_DIGITS = 13  # hexadecimal, 52 bits: as a number it is exact in every reader of JSON
_LOCK_SECONDS = 60.0


class Codes:
    """Codes made of names with a secret of the project (HMAC-SHA256, RFC 2104).

    One name has one code for as long as the key file is kept. Without the secret nobody can tell
    by trial which name a code is of, however few names there are. Every name that was given a code
    is put into :attr:`names`.

    Attributes:
        names: name by code: of images, patients and entry ids.
    """

    def __init__(self, secret: bytes, names: dict[str, str] | None = None) -> None:
        self._secret = secret
        self.names = {} if names is None else names

    def image(self, name: str) -> str:
        """Code of an image's name."""
        return self._code("image", name)

    def patient(self, name: str) -> str:
        """Code of a patient; a code stays as it is, as in a run trained on coded tiles."""
        return name if name in self.names else self._code("patient", name)

    def entry(self, entry_id: int) -> int:
        """Number that stands for an entry id, which tells in which order slides were imported."""
        return int(self._code("entry", str(entry_id)).removeprefix("entry-"), 16)

    def object_id(self, object_id: UUID) -> UUID:
        """Id that stands for an object's id."""
        return UUID(bytes=self._digest("object", str(object_id))[:16])

    def fingerprint(self, fingerprint: str) -> str:
        """What stands for a slide file's hash, which anyone who has the file could look for."""
        return self._digest("fingerprint", fingerprint).hex()

    def name_of(self, code: str) -> str:
        """The name a code stands for; what is no code of this project stays as it is."""
        return self.names.get(code, code)

    def _code(self, kind: str, name: str) -> str:
        code = f"{kind}-{self._digest(kind, name).hex()[:_CODE_DIGITS]}"
        if self.names.setdefault(code, name) != name:
            msg = f"{kind} {name!r} gets the code of {self.names[code]!r}. Rename one of them."
            raise DamagedFileError(msg)
        return code

    def _digest(self, kind: str, text: str) -> bytes:
        return hmac.digest(self._secret, f"{kind}\0{text}".encode(), hashlib.sha256)


@contextmanager
def open_codes(workspace: Workspace) -> Iterator[Codes]:
    """The codes of a project; the first call makes its secret.

    Names that get a code are written into the key file when the body ends, with or without an
    error. Only its owner may read the file, where the system knows that.

    Raises:
        DamagedFileError: the key file cannot be read. It is never made anew over an old one: other
            codes would stand for the same names.
        MachineError: it cannot be written.
    """
    path = workspace.code_key
    with _locked(path):
        codes = _read(path) if path.exists() else None
        if codes is None:
            codes = Codes(secrets.token_bytes(_SECRET_BYTES))
            _write(path, codes)
    known = len(codes.names)
    try:
        yield codes
    finally:
        if len(codes.names) > known:
            with _locked(path):
                others = _read(path).names
                _write(path, Codes(codes._secret, {**others, **codes.names}))


def _read(path: Path) -> Codes:
    try:
        document: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if document["format"] != FORMAT:
            msg = f"another format, {document['format']!r}"
            raise ValueError(msg)
        secret = bytes.fromhex(document["secret"])
        if len(secret) != _SECRET_BYTES:
            msg = "its secret is cut"
            raise ValueError(msg)
        return Codes(secret, {str(code): str(name) for code, name in document["names"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        msg = (
            f"{path} is damaged: {error!r}. It is the key to the codes in what was handed out: bring "
            "it back from a backup. Only if nothing was handed out, delete it."
        )
        raise DamagedFileError(msg) from error


def _write(path: Path, codes: Codes) -> None:
    document = {
        "format": FORMAT,
        "about": "The key to the codes in de-identified files. Keep it here; never hand it out.",
        "secret": codes._secret.hex(),
        "names": dict(sorted(codes.names.items())),
    }
    text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
    if not path.exists():
        # A file that is replaced hands down its mode, so the secret is never in a readable one.
        _make_private(path)
    atomic_write(path, text.encode())


def _make_private(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror or error}"
        raise MachineError(msg) from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = FileLock(path.with_name(f"{path.name}.lock"), timeout=_LOCK_SECONDS)
    try:
        with lock:
            yield
    except Timeout as error:
        msg = f"{path} is held by another process. Try again."
        raise MachineError(msg) from error
