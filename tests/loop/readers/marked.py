"""A study with marks and proposals of others, and what readers make of their copies."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest

from glombridge.cli import main
from glombridge.objects import ObjectKind, Outline, PathClass, SlideObject
from glombridge.qupath import HierarchyEdit, NativeStore
from glombridge.qupath.project_file import ProjectFile

DATA = Path(__file__).parents[2] / "data"
GOLDEN = DATA / "qupath_golden"
SPACE = UUID("55555555-2222-5333-8444-555555555555")
SCORE = 0.7310585786300049
SECRETS = (
    "Secretreader",
    "secretnote",
    "secretname",
    "secretlesion",
    "secretdescription",
    "secrettag",
)


def glomerulus(k: int, class_name: str, **fields: Any) -> SlideObject:
    x = 100.0 + 300 * k
    return SlideObject(
        id=uuid5(SPACE, str(k)),
        kind=ObjectKind.ANNOTATION,
        outline=Outline.ellipse(x, 400, x + 200, 600),
        path_class=PathClass.parse(class_name),
        **fields,
    )


def proposal(k: int) -> SlideObject:
    return glomerulus(
        k,
        "Glomerulus: Proposed",
        locked=True,
        measurements={"Confidence": SCORE, "Queue rank": 1.0, "Confidence sd over flips": 0.25},
        metadata={"glombridge.state": "proposal", "glombridge.run": "detect-001"},
    )


def judged(k: int, name: str) -> SlideObject:
    return glomerulus(
        k,
        name,
        name="secretname",
        measurements={"Confidence": SCORE, "Lesion: secretlesion": 1.0},
        metadata={"glombridge.reviewer": "Secretreader", "note": "secretnote"},
    )


MARKS = (
    *(proposal(k) for k in range(3)),
    judged(3, "Glomerulus"),
    judged(4, "Glomerulus"),
    judged(5, "Rejected*"),
    replace(judged(6, "Region*"), outline=Outline.rectangle(0, 0, 3000, 2000)),
)


TO_JUDGE = {m.id for m in MARKS[:5]}


def put(store: NativeStore, entry: int, **edit: Any) -> None:
    store.write(
        entry,
        HierarchyEdit(**edit),
        expected=store.stamp(entry),
        snapshot_folder=store.folder.parent / "elsewhere",
    )


def marked(project: Path, *, kind: str = "native", scheme: str | None = None) -> Path:
    """A set-up project with marks of others in its first image."""
    store = NativeStore.open(project)
    first = store.images()[0].id
    put(store, first, add=MARKS)
    file = ProjectFile.open(project)
    for item in file.document["images"]:
        item["description"], item["tags"] = "secretdescription", ["secrettag"]
    file.save()
    patients = {
        e.id: {"patient": f"P{e.id}", "glombridge.searched_by": "Secretreader"}
        for e in store.images()
    }
    store.set_metadata_of_images(patients)
    more = ["--scheme", scheme] if scheme else []
    assert main(["init", str(project), "--store", kind, *more]) == 0
    return project


def every_file(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def as_json(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def objects(folder: Path, entry: int) -> dict[UUID, SlideObject]:
    return {o.id: o for o in NativeStore.open(folder).read(entry).objects}


def assert_blind(folder: Path) -> None:
    """Nothing of others, in what is read and in the bytes of every file."""
    store = NativeStore.open(folder)
    for entry in store.images():
        for obj in store.read(entry.id).objects:
            assert set(obj.measurements) <= {"Queue rank"}
            assert set(obj.metadata) <= {
                *("glombridge.state", "glombridge.run", "glombridge.layer", "glombridge.box"),
                *("glombridge.queue", "glombridge.reason"),
            }
            assert obj.name is None
    score = (struct.pack(">d", SCORE), struct.pack(">f", SCORE), repr(SCORE)[:8].encode())
    for name, data in every_file(folder).items():
        for secret in (*(s.encode() for s in SECRETS), *score, b"Confidence", b"detect-001"):
            assert secret not in data, (name, secret)


def decide(folder: Path, entry: int, change: Callable[[SlideObject], SlideObject | None]) -> None:
    """What the review window writes, over every object of an image; ``None`` deletes."""
    store = NativeStore.open(folder)
    changed, gone = [], set()
    for obj in store.read(entry).objects:
        made = change(obj)
        if made is None:
            gone.add(obj.id)
        elif made is not obj:
            changed.append(made)
    put(store, entry, replace=tuple(changed), remove=frozenset(gone))


def graded(obj: SlideObject, reader: str, **lesions: int) -> SlideObject:
    label = next((name for name, value in lesions.items() if value), None)
    told = {f"Lesion: {name}": float(value) for name, value in lesions.items()}
    return replace(
        obj,
        path_class=PathClass(("Glomerulus", label) if label else ("Glomerulus",)),
        measurements={**obj.measurements, **told},
        metadata={
            **obj.metadata,
            "glombridge.reviewer": reader,
            "glombridge.reviewed": "2026-11-25T08:30:00Z",
            "glombridge.graded": "three-grade 1",
        },
    )
