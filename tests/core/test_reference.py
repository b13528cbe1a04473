"""The reference: made from the code, complete, and every public function tells what it takes and raises."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import click
import griffe
import pytest

import glombridge.api
from glombridge.cli.registry import cli

ROOT = Path(__file__).parents[2]
COMMANDS = cli.commands
# Pure functions of values that their types have checked: nothing can go wrong in them.
RAISES_NOTHING = {
    *("accept", "dump_geojson", "dump_objects", "reject", "render_settings", "ungrade"),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation as built by `make docs`: any broken link or directive ends it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_command_is_in_the_reference_with_its_options(site: Path) -> None:
    page = unescape((site / "reference" / "commands" / "index.html").read_text("utf-8"))
    for name, command in COMMANDS.items():
        assert f"glombridge {name} " in page
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert option.opts[-1] in page


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    page = (site / "reference" / "functions" / "index.html").read_text("utf-8")
    for name in glombridge.api.__all__:
        assert f'id="glombridge.api.{name}"' in page, name


def test_the_site_reads_nothing_from_the_network(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        for begin in ('src="http', '<link rel="stylesheet" href="http', "@import"):
            assert begin not in text, page.name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_says_what_it_does(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    silent = [p.name for p in command.params if isinstance(p, click.Option) and not p.help]
    assert not silent


@pytest.fixture(scope="module")
def public() -> griffe.Module:
    package = griffe.load(
        "glombridge",
        search_paths=[ROOT],
        docstring_parser="google",
        resolve_aliases=True,
        resolve_implicit=True,
    )
    api = package["api"]
    assert isinstance(api, griffe.Module)
    return api


@pytest.mark.parametrize("name", glombridge.api.__all__)
def test_public_names_are_documented(public: griffe.Module, name: str) -> None:
    told = public[name]
    told = told.final_target if told.is_alias else told
    assert told.docstring
    if not isinstance(told, griffe.Function):
        return
    sections = told.docstring.parsed
    described = {a.name for s in sections if s.kind.value == "parameters" for a in s.value}
    assert described == {p.name.lstrip("*") for p in told.parameters}
    assert all(p.annotation is not None for p in told.parameters)
    assert told.returns is not None
    raises = [r for s in sections if s.kind.value == "raises" for r in s.value]
    assert bool(raises) is (name not in RAISES_NOTHING)
    for error in raises:
        kind = getattr(__import__("glombridge.errors").errors, str(error.annotation), None)
        assert isinstance(kind, type), (
            f"{name} says it raises {error.annotation}, which is none of ours"
        )


def named_tests(text: str) -> list[tuple[str, str]]:
    return re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)


@pytest.mark.parametrize("document", ["docs/reliability.md", "docs/design.md", "README.md"])
def test_every_test_that_a_document_names_exists(document: str) -> None:
    for file, name in named_tests((ROOT / document).read_text("utf-8")):
        path = ROOT / file
        assert path.is_file(), f"{document} names {file}"
        defined = {
            node.name
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.FunctionDef)
        }
        assert not name or name in defined, f"{document} names {file}::{name}"


def test_every_promise_names_a_test_that_holds_it() -> None:
    rows = [
        line
        for line in (ROOT / "docs/reliability.md").read_text("utf-8").splitlines()
        if line.startswith("| ") and not line.startswith(("| promise", "| what happens"))
    ]
    assert len(rows) > 30
    assert [row for row in rows if not named_tests(row)] == []
