"""A dataset of a few tiles with dark discs on tissue, written as 'glombridge tile' writes one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from glombridge.tiles.labels import ClassMap
from glombridge.tiles.manifest import FORMAT, data_yaml_text

TILES = {"train": 13, "val": 4, "test": 2}


def write_tiny_dataset(
    folder: Path,
    *,
    width: int = 96,
    height: int = 96,
    tiles: dict[str, int] | None = None,
    task: str = "detect",
) -> Path:
    rng = np.random.default_rng(7)
    counts = tiles or TILES
    for part, n in counts.items():
        for kind in ("images", "labels"):
            (folder / kind / part).mkdir(parents=True)
        for k in range(n):
            tile = np.full((height, width, 3), (225, 190, 220), np.uint8)
            tile = (tile + rng.integers(-12, 12, tile.shape)).clip(0, 255).astype(np.uint8)
            x, y = int(rng.integers(26, width - 26)), int(rng.integers(26, height - 26))
            radius = int(rng.integers(12, 22))
            cv2.circle(tile, (x, y), radius, (120, 60, 110), -1)
            cv2.imwrite(str(folder / "images" / part / f"s_{k}.jpg"), tile)
            side = 2 * radius + 1
            numbers = [x / width, y / height, side / width, side / height]
            if task == "segment":
                angle = np.arange(32) * np.pi / 16
                ring = np.column_stack([x + radius * np.cos(angle), y + radius * np.sin(angle)])
                numbers = (ring / (width, height)).clip(0, 1).ravel().tolist()
            label = "0 " + " ".join(f"{v:.6f}" for v in numbers) + "\n"
            (folder / "labels" / part / f"s_{k}.txt").write_text(label)
    (folder / "data.yaml").write_text(
        data_yaml_text(ClassMap(("Glomerulus",), {"Glomerulus": 0})), encoding="utf-8"
    )
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "class_names": ["Glomerulus"],
        "settings": {
            "classes": {"Glomerulus": 0},
            "task": task,
            "tile": {"width_px": width, "height_px": height, "overlap": 1 / 3, "mpp": 4.0},
        },
        "patients": {part: [f"p-{part}"] for part in counts},
        "tiles": counts,
        "objects": {part: {"Glomerulus": n} for part, n in counts.items()},
        "labels": {part: {"Glomerulus": n} for part, n in counts.items()},
        "slides": [{"entry_id": 1, "annotations_sha256": "0" * 64}],
        "failed": [],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder
