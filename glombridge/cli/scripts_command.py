"""``scripts``: its options, and what it prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..progress import Reporter
from .main import cli
from .options import PROJECT, breaking_lock, common, dry_run

if TYPE_CHECKING:
    from ..steps.scripts import ScriptsResult


@cli.command()
@click.argument("project", type=PROJECT)
@dry_run
@breaking_lock
@common
def scripts(
    project: Path,
    dry_run: bool,
    break_lock: bool,
    as_json: bool,
    reporter: Reporter,  # noqa: ARG001
) -> None:
    """Install or update the review scripts in the project; a script you changed is left alone."""
    from ..steps.scripts import update_scripts
    from . import console

    result = update_scripts(project, dry_run=dry_run, break_lock=break_lock)
    if as_json:
        console.print_json(result.as_dict())
        return
    show_scripts(result)
    for note in result.notes:
        console.line(f"note: {note}")
    console.line("next: in QuPath, Automate > Project scripts > glombridge setup, then Run")


def show_scripts(result: ScriptsResult) -> None:
    """One line per script, and what is graded by."""
    from . import console

    would = " (not written: --dry-run)" if result.dry_run else ""
    for change in result.changes:
        console.line(f"{change.what.value:<10}{change.path}{would}")
    scheme = result.scheme or "none; name one as 'scheme' in [review] of the settings"
    console.line(f"grading scheme: {scheme}")
