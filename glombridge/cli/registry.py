"""Every command in one group: each registers itself when its module is imported."""

from __future__ import annotations

from . import (
    commands,
    detect_command,
    evaluate_command,
    grades_command,
    queue_command,
    reader_commands,
    scripts_command,
    sync_commands,
    tile_command,
    train_command,
)
from .main import cli

__all__ = [
    "cli",
    "commands",
    "detect_command",
    "evaluate_command",
    "grades_command",
    "queue_command",
    "reader_commands",
    "scripts_command",
    "sync_commands",
    "tile_command",
    "train_command",
]
