"""Every command in one group: each registers itself when its module is imported."""

from __future__ import annotations

from . import (  # noqa: F401 - imported for what they register
    commands,
    detect_command,
    evaluate_command,
    grades_command,
    history_commands,
    pull_commands,
    push_commands,
    queue_command,
    reader_commands,
    scripts_command,
    tile_command,
    train_command,
)
from .main import cli

__all__ = ["cli"]
