"""The scripts themselves: parsed and linted by a real Groovy, their headers, and what setup adds."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from groovy_in_qupath import SCRIPTS, lint_folder, needs_groovy, run_job

from glombridge import __version__
from glombridge.objects import Color
from glombridge.qupath import NativeStore
from glombridge.review.readers import READER_FILE
from glombridge.settings import ReviewSettings, Settings
from glombridge.steps.init import init

HERE = Path(__file__).parent / "groovy"
FILES = sorted(SCRIPTS.glob("*.groovy"))
IDS = [f.stem for f in FILES]
SHARED = SCRIPTS / "glombridge_shared.groovy"


def java(main_class: str, *arguments: object) -> str:
    """Run a class of the libraries that npm-groovy-lint brings; what it printed."""
    folder = lint_folder()
    assert folder is not None
    jars = [*(folder / "lib/java").glob("*.jar"), *(folder / "lib/java/groovy/lib").glob("*.jar")]
    done = subprocess.run(
        # The first compiler is enough for seconds of work, and twice as fast here.
        ["java", "-XX:TieredStopAtLevel=1", "-cp", os.pathsep.join(map(str, jars)), main_class]
        + [str(a) for a in arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def parse(*files: Path) -> list[str]:
    out = java("groovy.ui.GroovyMain", HERE / "parse_scripts.groovy", *files)
    return out.splitlines()


def lint(folder: Path, report: Path) -> list[str]:
    java(
        "org.codenarc.CodeNarc",
        f"-basedir={folder}",
        "-includes=*.groovy",
        f"-rulesetfiles={(HERE / 'codenarc.groovy').as_uri()}",
        f"-report=json:{report}",
    )
    document = json.loads(report.read_text("utf-8"))
    assert document["summary"]["totalFiles"] == len(list(folder.glob("*.groovy")))
    return [
        f"{file['name']}:{violation['lineNumber']} {violation['ruleName']}: {violation.get('message')}"
        for package in document["packages"]
        for file in package["files"]
        for violation in file["violations"]
    ]


@pytest.mark.groovy
def test_every_script_parses_and_a_broken_one_does_not(tmp_path: Path) -> None:
    broken = tmp_path / "broken.groovy"
    broken.write_text("def a = [1, 2\nprintln a)\n", "utf-8")
    *said, of_broken = parse(*FILES, broken)
    assert dict(zip(IDS, said, strict=True)) == dict.fromkeys(IDS, "-")
    assert "broken.groovy" in of_broken


@pytest.mark.groovy
def test_codenarc_has_nothing_to_say_and_speaks_where_it_should(tmp_path: Path) -> None:
    assert lint(SCRIPTS, tmp_path / "ours.json") == []
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "bad.groovy").write_text(
        "import java.nio.file.Path\n\ntry {\n    println 1\n} catch (IOException e) {\n}\n", "utf-8"
    )
    rules = {v.split()[1] for v in lint(bad, tmp_path / "bad.json")}
    assert {"UnusedImport:", "EmptyCatchBlock:"} <= rules


@pytest.mark.groovy
def test_an_older_qupath_is_told_which_version_is_needed() -> None:
    said = java("groovy.ui.GroovyMain", HERE / "old_qupath.groovy", SHARED)
    assert "need QuPath 0.4 or later" in said


# The text of the scripts.


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_a_script_says_what_it_is(file: Path) -> None:
    text = file.read_text("utf-8")
    header = text.split("*/")[0]
    assert header.startswith(f"/*\n * {file.name} - ")
    for word in ("Does:", "Needs:", "Tried:"):
        assert f" * {word} " in header
    assert re.search(r"Needs: +QuPath 0\.4 or later", header)
    # Of a script that touches nothing of QuPath, no version can be said to be tried.
    assert "import qupath" not in text or {"0.4", "0.7"} <= set(
        re.findall(r"0\.\d", header.split("Tried:")[1])
    )


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_a_script_has_its_parameters_at_the_top_and_no_fixed_path(file: Path) -> None:
    text = file.read_text("utf-8")
    if "PARAMETERS" in text:
        between = text[text.index("*/") + 2 : text.index("@Field final Map PARAMETERS")]
        lines = [x for x in between.splitlines() if x and not x.startswith(("import ", "//"))]
        assert lines == []
    assert not re.search(r"""['"](?:/(?:home|Users|work|tmp)\b|[A-Za-z]:\\)""", text)
    assert all(ord(c) < 128 for c in text), "QuPath reads scripts in the machine's own encoding"


def test_every_script_that_stands_alone_finds_the_shared_one() -> None:
    start = "// These lines stand in every script: they find glombridge_shared.groovy"
    end = "shared.begin(file.parentFile, 2)"
    found = {}
    for file in FILES:
        text = file.read_text("utf-8")
        if start in text:
            found[file.name] = text[text.index(start) : text.index(end)]
    assert {"glombridge_review.groovy", "glombridge_setup.groovy"} <= found.keys()
    assert len(set(found.values())) == 1, "the lines that all scripts share differ"


def test_all_scripts_are_of_one_level() -> None:
    levels = {}
    for file in FILES:
        text = file.read_text("utf-8")
        said = re.findall(
            r"int getLevel\(\) \{\n    return (\d+)|begin\(file\.parentFile, (\d+)\)", text
        )
        levels[file.name] = [int(a or b) for a, b in said]
    assert all(len(said) == 1 for said in levels.values()), levels
    assert len({said[0] for said in levels.values()}) == 1, levels


def test_the_menu_of_setup_names_scripts_and_keys_once() -> None:
    text = (SCRIPTS / "glombridge_setup.groovy").read_text("utf-8")
    keys = [k for k in re.findall(r"key: '([^']*)'", text) if k]
    assert keys
    assert len(keys) == len(set(keys))
    named = set(re.findall(r"file: '([^']+)'", text))
    assert all(re.fullmatch(r"glombridge_\w+\.groovy", n) for n in named)


# On QuPath's own classes.


@pytest.mark.qupath
@needs_groovy
def test_classes_of_the_scheme_are_added_once_with_its_colours(tmp_path: Path) -> None:
    project = NativeStore.create(tmp_path / "p").folder
    settings = Settings(review=ReviewSettings(scheme="three-grade"))
    init(project, settings=settings)
    (project / "glombridge" / READER_FILE).write_text("Änne\n", "utf-8-sig")
    scheme = settings.scheme
    assert scheme is not None
    first = next(x for x in scheme.lesions if x.label)
    mine = {"name": f"Glomerulus: {first.label}", "color": [1, 2, 3]}
    said = run_job(
        HERE / "scheme_classes.groovy",
        tmp_path,
        shared=str(SHARED),
        project=str(project),
        mine=mine,
        installed=str(project / "scripts" / SHARED.name),
    )
    labels = [f"Glomerulus: {x.label}" for x in scheme.lesions if x.label]
    assert said["groups"]["graded"] == labels
    assert said["groups"]["proposals"] == ["Glomerulus: Proposed"]
    colors = {c["name"]: Color(*c["rgb"].to_bytes(3, "big")) for c in said["first"]}
    assert colors.keys() == {"Glomerulus", "Glomerulus: Proposed", "Rejected*", *labels}
    assert {x.label: colors[f"Glomerulus: {x.label}"] for x in scheme.lesions if x.label} == {
        x.label: Color(1, 2, 3) if x is first else Color(*bytes.fromhex(x.color[1:]))
        for x in scheme.lesions
        if x.label
    }
    assert said["second"] == said["first"]
    assert said["reader"] == "Änne"
    assert (said["version"], said["none"]) == (__version__, None)
