"""``glombridge COMMAND ...``: the group of all commands, and how errors become exit codes."""

from __future__ import annotations

import errno
import io
import logging
import signal
import sys
from pathlib import Path

import click

from .. import __version__
from ..components import explain_import_error
from ..errors import ExitCode, GlombridgeError
from ..filenames import shown_line, shown_text
from . import streams

_OF_THE_MACHINE = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EACCES,
    errno.EROFS,
    errno.EPERM,
    errno.ENAMETOOLONG,
    errno.EIO,
    errno.ESTALE,  # of a share
}
"""What no program can help. Anything else that nobody has thought of is a bug."""


class _ShownFormatter(logging.Formatter):
    """Log lines as a terminal may get them: they hold names from files, too."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return shown_line(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        return shown_text(super().format(record))


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
    except click.exceptions.Abort as error:
        if isinstance(error.__cause__, EOFError):
            raise error.__cause__ from None  # click takes it for a user's; nobody is asked anything
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
    except ImportError as error:
        if _comes_of_an_interrupt(error):
            click.echo("interrupted", err=True)
            return ExitCode.INTERRUPTED
        explained = explain_import_error(error)
        if explained is None:
            raise
        click.echo(f"glombridge: {explained}", err=True)
        return ExitCode.MISSING_COMPONENT
    except OSError as error:
        if error.errno == errno.ENOENT and _is_nowhere():
            click.echo("glombridge: the folder that you are in is gone; go to another", err=True)
            return ExitCode.MACHINE
        if error.errno in _OF_THE_MACHINE:
            where = f" ({error.filename})" if error.filename else ""
            told = shown_line(f"{error.strerror}{where}")
            click.echo(f"glombridge: the machine refused: {told}", err=True)
            return ExitCode.MACHINE
        raise
    return ExitCode.DONE


def _comes_of_an_interrupt(error: BaseException) -> bool:
    """Whether it was Ctrl-C, which libraries in C++ turn into an import that failed."""
    cause = error.__cause__
    return cause is not None and (
        isinstance(cause, KeyboardInterrupt) or _comes_of_an_interrupt(cause)
    )


def _is_nowhere() -> bool:
    """Whether the folder that one is in was removed."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def run() -> None:
    """Run the command line that was typed, and end with its exit code.

    SIGTERM, which batch systems send before they kill, ends a command as Ctrl-C does: what is half is
    taken away, and processes that it began are ended.
    """
    is_terminated = False

    def on_terminate(*_: object) -> None:
        nonlocal is_terminated
        is_terminated = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, on_terminate)
    streams.prepare()
    try:
        code = main()
    except KeyboardInterrupt:  # a second one, while the first was answered
        code = ExitCode.INTERRUPTED
    # Nothing is left to be interrupted but the end itself, which would only say so in a traceback.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if is_terminated and code == ExitCode.INTERRUPTED:
        code = ExitCode.TERMINATED
    # CPython remembers that an interrupt came out of code given as a string (dataclasses and named
    # tuples make themselves so), though it was caught since, and `python -m` then ends by SIGINT
    # whatever its exit code. The next such code lets it forget.
    exec("")  # noqa: S102 - it holds nothing
    sys.exit(int(code))
