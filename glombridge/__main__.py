"""``python -m glombridge``, and the console script."""

from __future__ import annotations

import sys


def run() -> None:
    """Run the command line that was typed, and end with its exit code."""
    try:
        # Imported here: somebody may press Ctrl-C while it loads.
        from .cli import run as run_command
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    run_command()


if __name__ == "__main__":
    run()
