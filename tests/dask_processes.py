"""A real Dask scheduler and workers, each a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

TESTS = Path(__file__).parent
ALLOWED_FAILURES = 1


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


class Processes:
    """A scheduler, and workers that nannies start again when they die."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "scheduler.json"
        self._started: list[subprocess.Popen[bytes]] = []
        self.scheduler = self._start(
            "dask_scheduler",
            "--port=0",
            "--no-dashboard",
            "--dashboard-address=127.0.0.1:0",
            f"--scheduler-file={self.file}",
        )
        # Dask makes the file first and fills it then.
        wait_until(lambda: self.file.is_file() and self.file.read_text("utf-8").endswith("}"))
        self.address = str(json.loads(self.file.read_text("utf-8"))["address"])

    def add_worker(
        self, *options: str, env: Mapping[str, str] | None = None, threads: int = 1
    ) -> subprocess.Popen[bytes]:
        return self._start(
            "dask_worker",
            self.address,
            f"--nthreads={threads}",
            "--no-dashboard",
            "--memory-limit=0",
            f"--local-directory={self.folder}",
            *options,
            env=env,
        )

    def worker_pids(self) -> list[int]:
        """Processes that do the work; a nanny's other child only looks after what it leaves."""
        found = []
        for process in self._started[1:]:
            try:
                children = psutil.Process(process.pid).children()
                found += [
                    c.pid for c in children if "resource_tracker" not in " ".join(c.cmdline())
                ]
            except psutil.NoSuchProcess:
                continue
        return found

    def pid_with_open(self, ending: str) -> int | None:
        """A worker that has such a file open."""
        for pid in self.worker_pids():
            try:
                if any(f.path.endswith(ending) for f in psutil.Process(pid).open_files()):
                    return pid
            except psutil.Error:
                continue
        return None

    def kill_one_at_work(self, ending: str, when: Callable[[], bool] = lambda: True) -> int:
        """Kill -9 a worker while it has such a file open; gives the process that is no more."""
        found: list[int] = []

        def look() -> bool:
            pid = self.pid_with_open(ending) if when() else None
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
                found.append(pid)
            return bool(found)

        wait_until(look)
        return found[0]

    def stop(self) -> None:
        for process in reversed(self._started):
            children = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            for child in children:
                if child.is_running():
                    child.kill()
            process.wait()

    def _start(
        self, module: str, *arguments: str, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        settings = {
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(ALLOWED_FAILURES),
            # What tests send is pickled by the name of its module.
            "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS / "scale")]),
        }
        log = (self.folder / f"{module}-{len(self._started)}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{module}", "--host=127.0.0.1", *arguments],
            env={**os.environ, **settings, **(env or {})},
            stdout=log,
            stderr=log,
        )
        self._started.append(process)
        return process


@contextmanager
def running(folder: Path, workers: int = 2) -> Iterator[Processes]:
    processes = Processes(folder)
    try:
        for _ in range(workers):
            processes.add_worker()
        yield processes
    finally:
        processes.stop()
