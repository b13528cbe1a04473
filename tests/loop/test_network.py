"""No library that glombridge uses reaches for the network, in no process of the whole loop.

The demo is typed as a user types it. Every Python process that comes of it, painters and loaders
among them, begins with a hook that puts each attempt on record and forbids it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOOK = """
import os, socket, sys

REACHES = {
    "socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo",
    "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo", "urllib.Request",
    "http.client.connect",
}

def note(name, text):
    with open(os.path.join(FOLDER, name), "a", encoding="utf-8") as file:
        file.write(text + "\\n")

def hook(event, arguments):
    if event not in REACHES:
        return
    family = getattr(arguments[0], "family", None)
    if family is not None and family == getattr(socket, "AF_UNIX", None):
        return  # processes of one machine talking to each other
    note("attempts", f"{event} {arguments[1:]!r} by {sys.argv!r}")
    raise OSError(f"no network here: {event} {arguments[1:]!r}")

sys.addaudithook(hook)
note("processes", str(os.getpid()))
"""

SPAWNED = """
import multiprocessing as m, socket
if __name__ == '__main__':
    p = m.get_context('spawn').Process(target=socket.getaddrinfo, args=('localhost', 1))
    p.start(); p.join(); raise SystemExit(p.exitcode)
"""


@dataclass(frozen=True)
class Watch:
    """What the processes of a command did."""

    folder: Path

    def attempts(self) -> str:
        path = self.folder / "attempts"
        return path.read_text("utf-8") if path.exists() else ""

    def processes(self) -> set[str]:
        return set((self.folder / "processes").read_text("utf-8").split())


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    folder = tmp_path / "watch"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HOOK.replace("FOLDER", repr(str(folder))), "utf-8")
    return Watch(folder)


@pytest.fixture
def run(watch: Watch) -> Run:
    def run(*command: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(watch.folder), str(ROOT)])
        return subprocess.run(
            [*before, sys.executable, *command],
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )

    return run


def no_interface() -> tuple[str, ...] | None:
    """What to type before a command that shall have no network; ``None`` where it may not be."""
    before = ("unshare", "--map-root-user", "--net")
    is_there = shutil.which("unshare") is not None
    return before if is_there and not subprocess.run([*before, "true"]).returncode else None


@pytest.mark.parametrize(
    "reach",
    [
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import socket; socket.getaddrinfo('localhost', 80)",
        "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'1', ('127.0.0.1', 9))",
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')",
        SPAWNED,
    ],
    ids=["connect", "look-up", "datagram", "urllib", "spawned process"],
)
def test_an_attempt_would_be_seen(run: Run, watch: Watch, tmp_path: Path, reach: str) -> None:
    script = tmp_path / "reach.py"
    script.write_text(reach, "utf-8")
    assert run(str(script)).returncode != 0
    assert "reach.py" in watch.attempts()


def test_no_process_of_the_demo_reaches_for_the_network(
    run: Run, watch: Watch, tmp_path: Path
) -> None:
    done = run("-m", "glombridge", "demo", str(tmp_path / "demo"), "--quick")
    assert done.returncode == 0, done.stderr
    assert watch.attempts() == ""
    assert len(watch.processes()) > 1, "the painters are processes of their own"


def test_the_demo_needs_no_network_interface(run: Run, watch: Watch, tmp_path: Path) -> None:
    before = no_interface()
    if before is None:
        pytest.skip("this machine does not let us take the network away (unshare)")
    seen = subprocess.run([*before, "cat", "/proc/net/dev"], capture_output=True, text=True)
    assert [line.split(":")[0].strip() for line in seen.stdout.splitlines()[2:]] == ["lo"]
    done = run("-m", "glombridge", "demo", str(tmp_path / "demo"), "--quick", before=before)
    assert done.returncode == 0, done.stderr
    assert watch.attempts() == ""
