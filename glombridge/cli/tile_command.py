"""``tile``: its options, and what it prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..progress import Reporter
from .main import cli
from .options import (
    PROJECT,
    TARGET,
    Number,
    breaking_lock,
    common,
    deidentifying,
    mapping_slides,
    on_cluster,
    patients_from,
    size_px,
)

if TYPE_CHECKING:
    from ..steps.tile import TileResult


@cli.command()
@click.argument("project", type=PROJECT)
@click.option("--out", type=TARGET, help="Folder of the dataset.")
@click.option("--task", type=click.Choice(["detect", "segment"]), help="Boxes, or outlines.")
@click.option(
    "--preset",
    type=click.Choice(["paper"]),
    help="paper: 1600x1200 px of the slide's own, overlap 1/3, split 4:1.",
)
@click.option("--size", callback=size_px, metavar="WxH", help="Tile in px at the resolution.")
@click.option("--size-um", callback=size_px, metavar="WxH", help="Tile in um.")
@click.option(
    "--mpp", metavar="UM", help="Resolution in um per px; 'own' for each slide's own pixels."
)
@click.option("--overlap", help='A share ("1/3", "0.5"), "400 px", "200 um" or "auto".')
@click.option("--keep-visible", type=Number(0, 1), help="Least share of a cut object.")
@click.option("--background", type=Number(0), help="Background tiles per object tile.")
@patients_from
@click.option("--allow-few-patients", is_flag=True, help="Accept fewer than three patients.")
@click.option("--preview", is_flag=True, help="A PNG per slide: grid, tissue and labels.")
@deidentifying
@click.option("--fresh", is_flag=True, help="Cut every slide, whatever was cut before.")
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Threads: one per core; on a cluster 1 per slide.",
)
@on_cluster
@breaking_lock
@mapping_slides
@common
def tile(
    project: Path,
    out: Path | None,
    task: str | None,
    preset: str | None,
    size: tuple[int, int] | None,
    size_um: tuple[int, int] | None,
    mpp: str | None,
    overlap: str | None,
    keep_visible: float | None,
    background: float | None,
    patient_from: Any,
    allow_few_patients: bool,
    preview: bool,
    deidentify: bool,
    fresh: bool,
    workers: int | None,
    cluster: str | None,
    break_lock: bool,
    slides: tuple[str, ...],
    as_json: bool,
    reporter: Reporter,
) -> None:
    """Cut the annotated slides into overlapping YOLO tiles, split by patient."""
    from ..errors import UsageError
    from ..settings import PAPER_TILES, SplitSettings
    from ..steps.project import Project
    from ..steps.tile import tile as run
    from . import console

    if size is not None and size_um is not None:
        msg = "--size and --size-um exclude each other"
        raise UsageError(msg)
    opened = Project.open(project, slides=slides)
    changes: dict[str, object] = dict(PAPER_TILES) if preset == "paper" else {}
    if size is not None:
        changes |= {"width_px": size[0], "height_px": size[1], "width_um": None, "height_um": None}
    if size_um is not None:
        changes |= {"width_um": size_um[0], "height_um": size_um[1]}
    if mpp is not None:
        changes["mpp"] = None if mpp == "own" else mpp
    given = {
        "task": task,
        "overlap": overlap,
        "keep_visible": keep_visible,
        "background_ratio": background,
    }
    changes |= {key: value for key, value in given.items() if value is not None}
    old_split = opened.settings.split
    result = run(
        opened,
        out=out,
        tiles=opened.settings.tiles.changed(changes) if changes else None,
        split=SplitSettings(stain_key=old_split.stain_key) if preset == "paper" else None,
        patient_from=patient_from,
        allow_few_patients=allow_few_patients,
        fresh=fresh,
        previews=preview,
        deidentify=deidentify,
        workers=workers,
        cluster=cluster,
        break_lock=break_lock,
        reporter=reporter,
    )
    if as_json:
        console.print_json(result.as_dict())
        return
    show_tiles(result)
    if deidentify:
        console.key_to_codes(opened.workspace.code_key)


def show_tiles(result: TileResult) -> None:
    """Tiles and objects per part, and what the checks found."""
    from . import console

    dataset = result.dataset
    parts = list(dataset.tiles)
    patients = {p: sum(q == p for q in result.parts.values()) for p in parts}
    names = list(next(iter(dataset.objects.values())))
    rows = [
        [p, patients[p], dataset.tiles[p], *(dataset.objects[p][n] for n in names)] for p in parts
    ]
    columns = ["part", "patients", "tiles", *(f"{n} labels" for n in names)]
    console.table(f"dataset {dataset.folder}", columns, rows)
    width, height = dataset.spec.overlap_px
    console.line(
        f"tiles of {dataset.spec.width_px} x {dataset.spec.height_px} px, overlap {width} x {height} "
        f"px; slides cut: {dataset.cut} (what was cut before is kept)"
    )
    if dataset.leaks is not None:
        console.line(f"leak check: {dataset.leaks.as_dict()['verdict']}")
        for first, second, likeness in dataset.leaks.alike:
            console.line(
                f"note: {first} and {second} are on two sides and look alike ({likeness:.2f}): "
                "are they of one patient?"
            )
        for first, second in dataset.leaks.twice:
            console.line(f"note: {first} and {second} are the same slide, both on one side")
    if result.searched == "annotated-images":
        console.line("assumed: in each image with an annotation, every object has been marked")
    broken = sum(len(ids) for ids in dataset.not_whole.values())
    if broken:
        console.line(
            f"note: {broken} of {dataset.objects_used} objects are larger than the overlap and whole "
            'in no tile; use --overlap auto or larger tiles. Which: "not_whole_in_any_tile" in '
            f"{dataset.manifest}"
        )
    previews = dataset.folder / "previews"
    if previews.is_dir():
        console.line(f"look at: {previews}")
