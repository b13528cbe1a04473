"""Options that several commands share, each with what it means for all of them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click


class Place(click.Path):
    """A path of a file or folder that was really given."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse an empty one."""
        # A shell's variable that is not set. Path("") would be the folder one happens to be in.
        if value == "":
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)


class Target(Place):
    """A path to write to. What cannot be one is said before any work is done."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse a place below a file, and names that no folder can hold."""
        path: Path = super().convert(value, param, ctx)
        try:
            if path.name in {"", ".."}:  # what is written beside it needs its name
                path = path.resolve()
            nearest = next((p for p in path.parents if p.exists()), None)
            path.exists()
        except OSError as error:
            self.fail(f"{value!r}: {error.strerror or error}", param, ctx)
        if nearest is not None and not nearest.is_dir():
            self.fail(f"{value!r}: {str(nearest)!r} is no folder", param, ctx)
        return path


class Number(click.FloatRange):
    """A finite number in a range; click takes nan to be in every one: it is beyond none of its ends."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse what is no number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no number", param, ctx)
        return number


PROJECT = Place()
TARGET = Target()

breaking_lock = click.option(
    "--break-lock", is_flag=True, help="Take the project lock whoever holds it."
)
dry_run = click.option("--dry-run", is_flag=True, help="Say what would be done, write nothing.")
while_qupath_runs = click.option(
    "--while-qupath-runs", is_flag=True, help="This project is not open in it."
)
on_cluster = click.option(
    "--cluster",
    metavar="local|ADDRESS",
    help="Work on a Dask cluster: local or local:N processes, a scheduler's address or its file.",
)
mapping_slides = click.option(
    "--slides",
    multiple=True,
    metavar="OLD=NEW",
    help="Slides whose path begins with OLD lie under NEW; may be given again.",
)
patients_from = click.option(
    "--patient-from",
    type=click.Choice(["metadata", "name", "csv", "image"]),
    help="Where patients come from, instead of the settings; image: each image is its own, which may leak.",
)
downloading = click.option(
    "--download", is_flag=True, help="Published weights may be fetched from the network."
)
deidentifying = click.option(
    "--deidentify", is_flag=True, help="Codes instead of image and patient names."
)


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--json`` and ``-q``, wherever on the line they stand."""

    @click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
    @click.option("-q", "--quiet", is_flag=True, help="No progress.")
    @wraps(command)
    def wrapper(as_json: bool, quiet: bool, **values: Any) -> Any:
        from .console import reporter

        return command(as_json=as_json, reporter=reporter(quiet=quiet), **values)

    return wrapper


def guarding(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command what every write into a project knows, as one value: :class:`.Guards`."""

    @dry_run
    @while_qupath_runs
    @breaking_lock
    @wraps(command)
    def wrapper(dry_run: bool, while_qupath_runs: bool, break_lock: bool, **values: Any) -> Any:
        from ..sync.guards import Guards

        return command(guards=Guards(dry_run, while_qupath_runs, break_lock), **values)

    return wrapper


def trusting_weights(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--trust-weights``: the files are on the user's list before it begins."""

    @click.option(
        "--trust-weights",
        "trusted_files",
        type=PROJECT,
        multiple=True,
        metavar="FILE",
        help="You know who made these weights: they may be loaded from now on.",
    )
    @wraps(command)
    def wrapper(trusted_files: tuple[Path, ...], **values: Any) -> Any:
        if trusted_files:
            from ..training.trust import trust

            for file in trusted_files:
                trust(file, "by --trust-weights")
        return command(**values)

    return wrapper


def size_px(
    ctx: click.Context,
    param: click.Parameter,
    value: str | None,
) -> tuple[int, int] | None:
    """Callback of an option: a width and a height in pixels, written ``40000x30000``."""
    if value is None:
        return None
    match = re.fullmatch(r"([1-9]\d*)[xX×]([1-9]\d*)", value)
    if match is None:
        msg = f"{value!r} is no size: write width x height, as 40000x30000"
        raise click.BadParameter(msg, ctx, param)
    return int(match[1]), int(match[2])
