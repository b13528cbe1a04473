"""Groovy run in a JVM that holds the libraries of an installed QuPath, in a process of its own.

QuPath carries Groovy; where its libraries come without (a build of the core alone), that of the npm
package npm-groovy-lint is taken: ``npm install npm-groovy-lint`` in the root of the repository, or
wherever GLOMBRIDGE_NODE_MODULES says.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from glombridge.qupath.paquo.installation import find_installation

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "qupath_scripts"

# paquo starts QuPath's own JVM with QuPath's own libraries; libraries of Groovy can be added to it.
PROGRAM = """
import sys
from paquo.java import LogManager
import jpype
from jpype import JClass
LogManager.setWarn()
script, argument, *jars = sys.argv[1:]
for jar in jars:
    jpype.addClassPath(jar)
if jars:
    # This Groovy cannot parse the class files of Java 25 that QuPath 0.7 brings; it can load them.
    config = JClass("org.codehaus.groovy.control.CompilerConfiguration")
    options = config.class_.getDeclaredField("optimizationOptions")
    options.setAccessible(True)
    options.get(config.DEFAULT).put("asmResolving", JClass("java.lang.Boolean").FALSE)
binding = JClass("groovy.lang.Binding")()
binding.setVariable("args", jpype.JArray(jpype.JString)([argument]))
binding.setVariable("qupath.script.file", script)
shell = JClass("groovy.lang.GroovyShell")(binding)
try:
    shell.evaluate(JClass("java.io.File")(script))
except jpype.JException as error:
    sys.exit(f"{error.getClass().getName()}: {error.getMessage()}\\n{error.stacktrace()}")
"""


def lint_folder() -> Path | None:
    """Where npm put npm-groovy-lint; ``None`` where it did not."""
    modules = Path(os.environ.get("GLOMBRIDGE_NODE_MODULES", ROOT / "node_modules"))
    folder = modules / "npm-groovy-lint"
    return folder if folder.is_dir() else None


def groovy_jars() -> list[Path] | None:
    """What QuPath's JVM needs beside its own libraries; ``None`` = there is no Groovy."""
    found = find_installation()
    if found is not None and any(found.app_folder.glob("groovy-*.jar")):
        return []
    folder = lint_folder()
    return None if folder is None else sorted((folder / "lib/java/groovy/lib").glob("groovy-*.jar"))


needs_groovy = pytest.mark.skipif(
    groovy_jars() is None,
    reason="this QuPath has no Groovy, and npm-groovy-lint is not in node_modules",
)


def run_groovy(script: Path, argument: Path | str, *, fails: bool = False) -> str:
    """Evaluate a script with ``args`` as QuPath sets it; what it printed, or how it failed."""
    jars: Sequence[Path] | None = groovy_jars()
    assert jars is not None
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(script), str(argument), *map(str, jars)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode != 0) is fails, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return done.stderr if fails else done.stdout


def run_job(script: Path, folder: Path, **job: Any) -> Any:
    """Run a script with one JSON job file as argument, and read its JSON result file."""
    result = folder / "result.json"
    result.unlink(missing_ok=True)
    path = folder / "job.json"
    path.write_text(json.dumps({**job, "result": str(result)}), encoding="utf-8")
    run_groovy(script, path)
    return json.loads(result.read_text("utf-8"))
