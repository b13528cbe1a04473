"""Names from files on the screen: seen as they are, never obeyed, never the end of the program."""

import copy
import io
import json
import shutil
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glombridge.cli import console, main
from glombridge.filenames import shown_text

NAMES = {
    "colour": ("\x1b[31mred\x1b[0m", r"\u001b[31mred\u001b[0m"),
    "window title": ("\x1b]0;title\x07", r"\u001b]0;title\u0007"),
    "one byte": ("\x9b31m", r"\u009b31m"),
    "carriage return": ("ok\rno", r"ok\u000dno"),
    "backspace": ("a\x08b", r"a\u0008b"),
    "turned": ("x\u202egnp.exe", r"x\u202egnp.exe"),
    "lone surrogate": ("a\ud800b", r"a\ud800b"),
    "tag": ("[red]x[/red]", "[red]x[/red]"),
    "closing tag": ("[/]", "[/]"),
    "backslash and closing tag": (r"\[/red]", r"\[/red]"),
    "backslash at the end": ("x\\", "x\\"),
    "emoji code": (":warning:", ":warning:"),
    "letters of the world": ("niere ß 腎 🫘", "niere ß 腎 🫘"),
}
CASES = [pytest.param(*case, id=name) for name, case in NAMES.items()]


@pytest.fixture
def screen(monkeypatch):
    """A terminal's bytes; the console's own colours are switched off."""
    shown = io.StringIO()
    for name in ("OUT", "ERR"):
        made = copy.copy(getattr(console, name))  # as it is, but for where it writes
        made.file, made._force_terminal, made._color_system, made._width = shown, True, None, 60
        monkeypatch.setattr(console, name, made)
    return shown


@pytest.mark.parametrize(("name", "expected"), CASES)
def test_a_line_shows_the_name(screen, name, expected):
    console.line(f"image {name}")
    assert screen.getvalue() == f"image {expected}\n"


@pytest.mark.parametrize(("name", "expected"), CASES)
def test_a_table_shows_the_name_in_title_head_and_cells(screen, name, expected):
    console.table(f"pull of {name}", ["image", name], [[name, 1], ["other", None]])
    text = screen.getvalue()
    assert text.count(expected) == 3
    assert shown_text(text) == text


WIDE = ["slide", "part", "truth", "found", "missed", "false", "precision", "recall", "F1"]
ROW = ["P02-1_PAS.tif", "test", 7, 6, 1, 4, "0.600", "0.857", "0.706"]


@pytest.mark.parametrize("columns", [1, 20, 40, 80, 200])
def test_words_and_numbers_of_a_table_are_never_broken(screen, monkeypatch, columns):
    monkeypatch.setattr(console.OUT, "_width", columns)
    console.table("figures", WIDE, [ROW])
    lines = screen.getvalue().splitlines()
    for cells in (WIDE, ROW):
        assert [str(c) for c in cells] in [line.split() for line in lines]
    if columns == 80:
        assert max(map(len, lines)) <= columns


def test_a_long_text_in_a_table_is_folded(screen):
    console.table(
        "queue", ["rank", "reason"], [[1, "as far from the operating point as can be " * 3]]
    )
    lines = screen.getvalue().splitlines()
    assert max(map(len, lines)) <= 60
    assert " ".join(screen.getvalue().split()).count("operating point") >= 2


@pytest.mark.parametrize(("name", "expected"), CASES)
def test_a_bar_shows_the_name(screen, name, expected):
    with console.RichReporter().task(f"cut {name}", 2) as task:
        task.advance(note=name)
        console.ERR.print("")  # lets the bar be drawn with its note
    assert expected in screen.getvalue()


@pytest.mark.parametrize(("name", "expected"), CASES)
def test_the_log_shows_the_name(name, expected):
    # A program of its own: within one the log is set up once, and pytest has done so.
    code = (
        "import logging, click, glombridge.cli.registry as r\n"
        "r.cli.add_command(click.Command('say', callback=lambda: logging.getLogger('x').warning("
        f"'image %s', {name!a})))\n"
        "raise SystemExit(r.cli(['say']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stderr.decode("utf-8").splitlines() == [f"WARNING x: image {expected}"]


@given(st.recursive(st.text(st.characters()), lambda inner: st.dictionaries(st.text(), inner)))
def test_json_keeps_every_name_and_can_be_written_in_any_case(document):
    printed = shown_text(json.dumps(document, ensure_ascii=False))
    printed.encode("utf-8")
    assert json.loads(printed) == document


def test_an_error_message_commands_no_terminal(tmp_path, capsys):
    assert main(["status", str(tmp_path / "\x1b[31mproject")]) == 3
    assert r"\u001b[31mproject" in capsys.readouterr().err


HOSTILE = ["\\[/red]", "\x1b[2Jgone", "[/]", "two\nlines", "=1+1", "../../x"]


@pytest.mark.parametrize("command", [["status"], ["status", "--json"], ["pull"]], ids=" ".join)
@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_commands_show_images_of_any_name(tmp_path, data, capfd, name, command):
    project = shutil.copytree(data / "qupath_golden" / "v0.6.0", tmp_path / "project")
    file = project / "project.qpproj"
    document = json.loads(file.read_text("utf-8"))
    document["images"][0]["imageName"] = name
    file.write_text(json.dumps(document), "utf-8")
    assert main(["init", str(project), "--store", "native"]) == 0
    capfd.readouterr()
    assert main([command[0], str(project), *command[1:]]) == 0
    shown = capfd.readouterr()
    assert shown_text(shown.out) == shown.out
    if "--json" in command:
        assert json.loads(shown.out)["images"][0]["name"] == name
    assert {p.name for p in tmp_path.iterdir()} == {"project"}


LINES = {
    "line feed": ("two\nlines", r"two\u000alines"),
    "tab": ("a\tb", r"a\u0009b"),
    "line separator": ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
    "next line": ("a\x85b", r"a\u0085b"),
    "vertical tab": ("a\x0bb\x0cc", r"a\u000bb\u000cc"),
    "posing as us": ("x\nglombridge: all done", r"x\u000aglombridge: all done"),
}
LINE_CASES = [pytest.param(*case, id=name) for name, case in LINES.items()]


@pytest.mark.parametrize(("name", "expected"), LINE_CASES)
def test_a_name_is_never_two_lines(screen, name, expected):
    console.line(f"image {name}")
    console.table(name, [name], [[name]])
    with console.RichReporter().task(f"cut {name}", 2) as task:
        task.advance(note=name)
        console.ERR.print("")
    text = screen.getvalue()
    whole = text.replace("\n", "").replace(" ", "")
    assert whole.count(expected.replace(" ", "")) >= 5
    assert name not in text
    assert "\nglombridge:" not in text


@pytest.mark.parametrize(("name", "expected"), LINE_CASES)
def test_a_name_in_the_log_is_never_two_lines(name, expected):
    code = (
        "import logging, click, glombridge.cli.registry as r\n"
        "r.cli.add_command(click.Command('say', callback=lambda: logging.getLogger('x').warning("
        f"'image %s', {name!a})))\n"
        "raise SystemExit(r.cli(['say']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stderr.decode("utf-8").split("\n") == [f"WARNING x: image {expected}", ""]


@pytest.mark.parametrize(
    "arguments",
    [["\x1b[2Jno-command"], ["status", "--\x1b[31mno-option"], ["lint", "p", "--size", "\u202ex"]],
    ids=["command", "option", "value"],
)
def test_what_was_typed_is_repeated_without_commands(capsys, arguments):
    """A shell's star types the names of files."""
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said
    assert shown_text(said) == said
