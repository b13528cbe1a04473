"""``glombridge COMMAND ...``: options, exit codes, and what is printed."""

from __future__ import annotations

import errno
import io
import logging
import re
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from .. import __version__
from ..components import explain_import_error
from ..errors import ExitCode, GlombridgeError
from ..filenames import shown_line, shown_text

PROJECT = click.Path(path_type=Path)


class _ShownFormatter(logging.Formatter):
    """Log lines as a terminal may get them: they hold names from files, too."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return shown_line(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        return shown_text(super().format(record))


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


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--json`` and ``-q``, wherever on the line they stand."""

    @click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
    @click.option("-q", "--quiet", is_flag=True, help="No progress.")
    @wraps(command)
    def wrapper(as_json: bool, quiet: bool, **values: Any) -> Any:
        from .console import reporter

        return command(as_json=as_json, reporter=reporter(quiet=quiet), **values)

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


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="glombridge")
@click.option("-v", "--verbose", count=True, help="More of the log; twice for all of it.")
def cli(verbose: int) -> None:
    """From QuPath annotations to a glomerulus detector, and its detections back into QuPath.

    For research. The program proposes; people decide.
    """
    level = [logging.WARNING, logging.INFO, logging.DEBUG][min(verbose, 2)]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_ShownFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; the value is the exit code.

    Every error made on purpose ends in one message on standard error, without a traceback.
    """
    from .registry import cli as every_command

    try:
        every_command.main(args=arguments, prog_name="glombridge", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        return ExitCode.INTERRUPTED
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        return ExitCode.INTERRUPTED
    except click.ClickException as error:
        # It repeats what was typed, and a shell's star types names of files.
        said = io.StringIO()
        error.show(said)
        click.echo(shown_text(said.getvalue()), err=True, nl=False)
        return ExitCode.USAGE
    except GlombridgeError as error:
        click.echo(f"glombridge: {shown_text(str(error))}", err=True)
        return int(error.exit_code)
    except BrokenPipeError:
        return ExitCode.DONE
    except ImportError as error:
        explained = explain_import_error(error)
        if explained is None:
            raise
        click.echo(f"glombridge: {explained}", err=True)
        return ExitCode.MISSING_COMPONENT
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM):
            where = f" ({error.filename})" if error.filename else ""
            told = shown_line(f"{error.strerror}{where}")
            click.echo(f"glombridge: the machine refused: {told}", err=True)
            return ExitCode.MACHINE
        raise
    return ExitCode.DONE


def run() -> None:
    """Entry point of the console script."""
    sys.exit(main())
