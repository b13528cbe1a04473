"""Output that nobody reads, that cannot be written, or that knows no umlauts."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from glombridge.cli import main

NAME = "Lübeck μ腎.svs"

full_device = pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk is Linux's")
descriptors = pytest.mark.skipif(os.name == "nt", reason="Windows closes no stream like that")


@pytest.fixture
def project(tmp_path, data):
    """A project that needs more than ASCII."""
    made = shutil.copytree(data / "qupath_golden" / "v0.6.0", tmp_path / "Nierenpräparate")
    file = made / "project.qpproj"
    document = json.loads(file.read_text("utf-8"))
    document["images"][0]["imageName"] = NAME
    file.write_text(json.dumps(document), "utf-8")
    assert main(["init", str(made), "--store", "native"]) == 0
    return made


def typed(*arguments, **streams):
    """What a program of its own does; standard output and error are kept unless given."""
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    command = [sys.executable, "-m", "glombridge", *map(str, arguments)]
    return subprocess.run(command, check=False, timeout=120, **settings)


def unread():
    """The end of a pipe whose reader has left."""
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "wb")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("command", ["status", "pull", "doctor", "scripts"])
def test_a_terminal_without_umlauts_spells_them_out(project, command, encoding):
    done = typed(command, project, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert done.returncode == (3 if command == "doctor" else 0)  # which finds no slides
    assert b"Traceback" not in done.stderr
    assert {"ascii": rb"Nierenpr\xe4parate", "cp1252": b"Nierenpr\xe4parate"}[encoding] in (
        done.stdout.replace(b"\n", b"")
    )


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_json_is_utf8_whatever_the_terminal(project, encoding):
    done = typed("status", project, "--json", env={**os.environ, "PYTHONIOENCODING": encoding})
    assert done.returncode == 0
    assert json.loads(done.stdout.decode("utf-8"))["images"][0]["name"] == NAME


@pytest.mark.parametrize(
    "command", [["status"], ["status", "--json"], ["pull"], ["--help"]], ids=" ".join
)
def test_a_reader_who_leaves_does_not_end_the_work(project, command):
    with unread() as pipe:
        done = typed(command[0], project, *command[1:], stdout=pipe)
    assert done.returncode == 0
    assert b"rror" not in done.stderr


def test_progress_that_nobody_reads_does_not_end_the_work(project):
    with unread() as pipe:
        done = typed("pull", project, stderr=pipe)
    assert done.returncode == 0
    assert b"pulled to" in done.stdout
    assert (project / "glombridge" / "pulls" / "pull-001" / "manifest.json").exists()


def test_an_error_that_nobody_reads_has_its_exit_code(tmp_path):
    with unread() as pipe:
        assert typed("status", tmp_path / "nowhere", stderr=pipe).returncode == 3


@full_device
@pytest.mark.parametrize("command", [["status"], ["status", "--json"], ["--help"]], ids=" ".join)
def test_a_result_that_cannot_be_written_is_an_error(project, command):
    with Path("/dev/full").open("wb") as full:
        done = typed(command[0], project, *command[1:], stdout=full)
    assert done.returncode == 7
    assert done.stderr.splitlines() == [b"glombridge: the machine refused: No space left on device"]


@full_device
def test_a_log_that_is_full_does_not_end_the_work(project):
    with Path("/dev/full").open("wb") as full:
        assert typed("pull", project, stderr=full).returncode == 0
        assert typed("status", project / "nowhere", stderr=full).returncode == 3


@descriptors
@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1, 2]], ids=str)
@pytest.mark.parametrize("command", [["status"], ["status", "--json"], ["pull"]], ids=" ".join)
def test_closed_streams(project, command, closed):
    line = f'exec "$@" {" ".join(f"{n}>&-" for n in closed)}'
    arguments = [sys.executable, "-m", "glombridge", command[0], str(project), *command[1:]]
    done = subprocess.run(
        ["sh", "-c", line, "sh", *arguments], check=False, capture_output=True, timeout=120
    )
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


@descriptors
def test_no_file_gets_the_number_of_a_closed_stream(tmp_path):
    """What a library says to standard error would be written into it."""
    code = (
        "import os, sys; os.closerange(0, 3); from glombridge.cli import streams\n"
        "sys.stdin = sys.stdout = sys.stderr = None; streams.prepare()\n"
        "file = open(sys.argv[1], 'w'); file.write(str(file.fileno()))"
    )
    written = tmp_path / "number"
    subprocess.run([sys.executable, "-c", code, str(written)], check=True, timeout=120)
    assert int(written.read_text()) > 2
