"""The public Python functions of glombridge, all in one place: ``from glombridge.api import Project, pull``.

Each command of the command line is one function here, with the same name where Python allows it. What
is not listed here may change between versions without notice. Importing this module is cheap: torch,
ultralytics and the JVM are loaded by the functions that need them.
"""

from __future__ import annotations

from .demo.run import DemoResult, run_demo
from .errors import GlombridgeError
from .geojson_codec import dump_geojson, dump_objects, load_objects, write_geojson
from .objects import Color, ObjectKind, Outline, OutlineKind, PathClass, Plane, SlideObject
from .progress import Reporter
from .qupath import HierarchyEdit, ImageEntry, NativeStore, PaquoStore, ProjectStore, open_store
from .review.decisions import Reader, Rules, accept, grading_done, reject, set_lesion, ungrade
from .review.queue_writing import QueueResult
from .review.session import write_decisions
from .schemes import Scheme, load_scheme
from .settings import Settings, load_settings, render_settings
from .steps.agree import AdjudicateResult, AgreeResult, adjudicate, agree
from .steps.copy import CopyResult, copy
from .steps.deidentify import hand_out_detections
from .steps.detect import DetectOptions, DetectResult, detect, detect_files
from .steps.doctor import DoctorResult, doctor
from .steps.evaluate import EvaluateResult, evaluate
from .steps.evaluate_rounds import RoundsResult, evaluate_rounds
from .steps.grades import grades, write_case_items_template
from .steps.grades_result import GradesResult, write_tables
from .steps.history import HistoryResult, history, times
from .steps.init import InitResult, init
from .steps.layers import Comparison, LayerRow, compare, layers
from .steps.lint import LintResult, lint
from .steps.mark import MarkResult, mark
from .steps.project import Project
from .steps.pull import pull
from .steps.push import push, withdraw
from .steps.push_errors import push_errors
from .steps.queue import queue
from .steps.report import ReportResult, report
from .steps.round import RoundResult, walk_round
from .steps.scripts import ScriptsResult, update_scripts
from .steps.status import StatusResult, status
from .steps.tile import TileResult, tile
from .steps.train import options_of, resume, train
from .steps.undo import UndoResult, list_writes, undo
from .sync.guards import Guards

# In the order of the reference (docs/reference/functions.md), which is made from this list.
__all__ = [  # noqa: RUF022
    # The project and its settings
    "Project",
    "Guards",
    "init",
    "InitResult",
    "update_scripts",
    "ScriptsResult",
    "status",
    "StatusResult",
    "doctor",
    "DoctorResult",
    "Settings",
    "load_settings",
    "render_settings",
    # The loop
    "walk_round",
    "RoundResult",
    "pull",
    "tile",
    "TileResult",
    "train",
    "resume",
    "options_of",
    "evaluate",
    "EvaluateResult",
    "evaluate_rounds",
    "RoundsResult",
    "report",
    "ReportResult",
    "detect",
    "detect_files",
    "hand_out_detections",
    "DetectOptions",
    "DetectResult",
    "push",
    "withdraw",
    "push_errors",
    # Reviewing and grading
    "queue",
    "QueueResult",
    "Scheme",
    "load_scheme",
    "grades",
    "GradesResult",
    "write_tables",
    "write_case_items_template",
    "Reader",
    "Rules",
    "accept",
    "reject",
    "set_lesion",
    "grading_done",
    "ungrade",
    "write_decisions",
    "copy",
    "CopyResult",
    "agree",
    "AgreeResult",
    "adjudicate",
    "AdjudicateResult",
    "times",
    # What was done, and taking it back
    "history",
    "HistoryResult",
    "layers",
    "LayerRow",
    "compare",
    "Comparison",
    "mark",
    "MarkResult",
    "undo",
    "list_writes",
    "UndoResult",
    # Objects and files
    "SlideObject",
    "Outline",
    "OutlineKind",
    "ObjectKind",
    "PathClass",
    "Color",
    "Plane",
    "load_objects",
    "dump_objects",
    "dump_geojson",
    "write_geojson",
    "lint",
    "LintResult",
    "ProjectStore",
    "open_store",
    "NativeStore",
    "PaquoStore",
    "ImageEntry",
    "HierarchyEdit",
    # Beside them
    "run_demo",
    "DemoResult",
    "Reporter",
    "GlombridgeError",
]
