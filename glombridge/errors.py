"""Every error glombridge raises on purpose, and the exit code of each.

A message says what, where, the value, and the way out. The command line prints it without a
traceback and ends with :attr:`GlombridgeError.exit_code`.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the command line returns to the shell."""

    DONE = 0
    BUG = 1
    USAGE = 2
    BAD_INPUT = 3
    PROTECTED = 4
    MISSING_COMPONENT = 5
    PARTLY_DONE = 6
    MACHINE = 7
    INTERRUPTED = 130
    TERMINATED = 143


class GlombridgeError(Exception):
    """Base of all errors that glombridge raises on purpose."""

    exit_code: ExitCode = ExitCode.BUG


class UsageError(GlombridgeError, ValueError):
    """The call itself is wrong: an argument that cannot be, or two that exclude each other."""

    exit_code = ExitCode.USAGE


class InputError(GlombridgeError, ValueError):
    """Something given to us is bad: a slide, a project, a settings file, an annotation."""

    exit_code = ExitCode.BAD_INPUT


class DamagedFileError(InputError):
    """A file is cut, malformed, or has a layout that glombridge does not know for certain."""


class ProtectedError(GlombridgeError):
    """Refused, because going on could lose or change what a human made."""

    exit_code = ExitCode.PROTECTED


class MissingComponentError(GlombridgeError, RuntimeError):
    """A library, program or weights file that this step needs is not installed or not there."""

    exit_code = ExitCode.MISSING_COMPONENT


class PartlyDoneError(GlombridgeError):
    """Some of the work was done; what failed is named in the message."""

    exit_code = ExitCode.PARTLY_DONE


class MachineError(GlombridgeError, OSError):
    """The machine does not let us: disk full, no permission, file vanished."""

    exit_code = ExitCode.MACHINE


class DeviceError(MachineError):
    """A GPU was lost or works no more. All that is asked of it by the same process fails as well."""
