"""``--cluster``: the commands on a real Dask cluster give what one machine gives, whatever happens."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import pickletools
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import distributed
import pytest
from caught import Started, caught
from dask_processes import Processes, running, wait_until

from glombridge.cli import main
from glombridge.scale import Cluster, Piece
from glombridge.steps.detect_cluster import DetectOrder
from glombridge.steps.evaluate_look import LookOrder
from glombridge.steps.tile_cluster import CutOrder

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with running(tmp_path_factory.mktemp("dask")) as found:
        yield found


@pytest.fixture
def address(processes: Processes) -> str:
    """Of a scheduler whose two workers are there, also after a test that killed one."""
    wait_until(lambda: len(processes.worker_pids()) == 2)
    return processes.address


def run(*arguments: object, code: int = 0) -> None:
    assert main([str(a) for a in arguments]) == code


def contents(folder: Path) -> dict[str, Any]:
    """The bytes of every file; of a run's manifest all but when it was made and its name."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        found[name] = path.read_bytes()
        if name in ("manifest.json", "evaluation.json"):
            document = json.loads(found[name])
            found[name] = {k: v for k, v in document.items() if k not in ("finished", "run")}
    return found


TILE = (
    *("tile", "-q", "--size", "256x256", "--mpp", "1", "--overlap", "0.75", "--background", "99"),
)
"""Some hundred tiles per slide, so that there is time to interfere."""
DETECT = ("detect", "--include-test", "--flips", "--batch", "1", "-q")


# Equal to one machine.


def test_tiles_are_the_same_to_the_byte(project: Path, tmp_path: Path) -> None:
    """With processes of this machine; with those of a scheduler where a worker is killed."""
    cluster = "local:2"
    run("tile", project, "--fresh", "--preview", "-q", "--out", tmp_path / "one")
    run(
        "tile",
        project,
        "--fresh",
        "--preview",
        "-q",
        "--out",
        tmp_path / "many",
        "--cluster",
        cluster,
    )
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    # What one machine has cut is taken over by the cluster, and the other way round.
    run("tile", project, "-q", "--out", tmp_path / "one", "--cluster", cluster)
    assert contents(tmp_path / "one") == contents(tmp_path / "many")


def test_detections_are_the_same_to_the_byte(project: Path, tmp_path: Path) -> None:
    """With processes of this machine; with those of a scheduler where a worker is killed."""
    cluster = "local:2"
    run(*DETECT, project, "--out", tmp_path / "one")
    run(*DETECT, project, "--out", tmp_path / "many", "--cluster", cluster)
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    assert len(list((tmp_path / "many").glob("*.parquet"))) == 5


def test_slide_files_without_a_project(project: Path, tmp_path: Path, address: str) -> None:
    slides = sorted((project.parent / "slides").glob("*.tif"))[:2]
    weights = project / "glombridge" / "runs" / "train-001" / "weights" / "best.pt"
    arguments = (
        "detect",
        *slides,
        "--weights",
        weights,
        "--trust-weights",
        weights,
        "-q",
        "--device",
    )
    # Another number of threads gives other last digits, and without a project nobody sets it.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "cpu_count", lambda: 1)
        run(*arguments, "cpu", "--out", tmp_path / "one", "--batch", 4)
    run(*arguments, "cpu", "--out", tmp_path / "many", "--batch", 4, "--cluster", address)
    one, many = contents(tmp_path / "one"), contents(tmp_path / "many")
    for found in (one, many):
        found["manifest.json"]["plan"]["threads"] = None
    assert many == one


def test_an_evaluation_is_the_same(
    project: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = []
    for cluster in ((), ("--cluster", address)):
        kept = project / "glombridge" / "runs" / "train-001" / "evaluation"
        shutil.rmtree(kept)
        capsys.readouterr()
        run("evaluate", project, "--no-tiles", "--json", "-q", *cluster)
        document = json.loads(capsys.readouterr().out)
        document.pop("finished")
        told.append((document, contents(kept)))
    assert told[0] == told[1]
    assert len(told[0][1]) == 6  # a record and boxes of each of the three held-out slides


def test_progress_is_told_by_the_driver(
    project: Path, tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    run(
        "detect",
        project,
        "--include-test",
        "--json",
        "--out",
        tmp_path / "run",
        "--cluster",
        address,
    )
    told = capsys.readouterr()
    assert json.loads(told.out)["found"] > 0
    events = [json.loads(line) for line in told.err.splitlines()]
    slides = [e for e in events if e["event"] == "slide"]
    assert {e["id"] for e in slides} == {1, 2, 3, 4, 5}
    assert all(e["worker"] for e in slides)
    assert [e["slides_done"] for e in slides] == [1, 2, 3, 4, 5]
    assert slides[-1]["tiles"] == sum(e["image"]["tiles_shown"] for e in slides)


# Workers that are killed.


def test_tiles_after_a_worker_was_killed_while_it_cut(
    project: Path, tmp_path: Path, processes: Processes, address: str
) -> None:
    run(*TILE, project, "--out", tmp_path / "one")
    attempts = tmp_path / ".many.partial" / "attempts"
    killer = threading.Thread(
        target=lambda: processes.kill_one_at_work(".tif", lambda: any(attempts.glob("*/*")))
    )
    killer.start()
    begun = attempts_seen(attempts)
    run(*TILE, project, "--out", tmp_path / "many", "--cluster", address)
    killer.join()
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    assert len(begun()) > 4  # four slides, and what the killed worker was at once more


def attempts_seen(folder: Path) -> Any:
    """Watches the folders in which workers cut; call what it gives to end it."""
    seen: set[str] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            seen.update(p.name for p in folder.glob("*/*"))
            time.sleep(0.01)

    thread = threading.Thread(target=watch)
    thread.start()

    def end() -> set[str]:
        stop.set()
        thread.join()
        return seen

    return end


def test_detections_after_a_worker_was_killed_while_it_looked(
    project: Path, tmp_path: Path, processes: Processes, address: str
) -> None:
    run(*DETECT, project, "--out", tmp_path / "one")
    killed: list[int] = []
    killer = threading.Thread(target=lambda: killed.append(processes.kill_one_at_work(".tif")))
    killer.start()
    run(*DETECT, project, "--out", tmp_path / "many", "--cluster", address)
    killer.join()
    assert killed[0] not in processes.worker_pids()
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


# What goes wrong.


def damage(project: Path) -> str:
    """Cut one slide's file off, behind the header that the driver reads."""
    slide = sorted((project.parent / "slides").glob("*.tif"))[0]
    data = slide.read_bytes()
    slide.unlink()  # it is a link to that of all tests
    slide.write_bytes(b"this is no slide" + data[:1000])
    return slide.name


def test_a_slide_that_fails_is_named_and_the_others_are_there(
    project: Path, tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = damage(project)
    run(
        "detect",
        project,
        "--include-test",
        "-q",
        "--out",
        tmp_path / "d",
        "--cluster",
        address,
        code=6,
    )
    assert name in capsys.readouterr().err
    document = json.loads((tmp_path / "d" / "manifest.json").read_text("utf-8"))
    assert (document["state"], len(document["images"])) == ("partial", 4)


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("command", ["tile", "detect"])
def test_slides_that_only_the_driver_sees(
    project: Path,
    tmp_path: Path,
    address: str,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The driver stands in the folder of slides; /proc/self/cwd is another one for each process."""
    slides = project.parent / "slides"
    monkeypatch.chdir(slides)
    out = tmp_path / "out"
    options = ("--slides", f"{slides}=/proc/self/cwd", "-q", "--cluster", address, "--out", out)
    run(command, project, *options, *(["--fresh"] if command == "tile" else []), code=3)
    told = capsys.readouterr().err
    assert "/proc/self/cwd" in told
    assert os.uname().nodename in told
    assert "mount at the same path" in told
    assert not out.exists()


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="needs Linux's /proc")
def test_an_evaluation_without_a_slide_is_none_and_keeps_what_was_seen(
    project: Path,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two of the three held-out slides have been seen before; the workers do not see the third."""
    kept = project / "glombridge" / "runs" / "train-001" / "evaluation"
    first, *others = sorted(kept.glob("*.json"))
    first.unlink()
    before = contents(kept)
    point = (kept.parent / "operating_point.json").stat().st_mtime_ns
    slides = project.parent / "slides"
    monkeypatch.chdir(slides)
    options = ("--no-tiles", "-q", "--slides", f"{slides}=/proc/self/cwd", "--cluster", address)
    run("evaluate", project, *options, code=6)
    told = capsys.readouterr().err
    assert "1 of 3 slides could not be looked at, so nothing is evaluated" in told
    assert len(others) == 2
    assert contents(kept) == before
    assert (kept.parent / "operating_point.json").stat().st_mtime_ns == point


def test_weights_that_are_not_the_drivers_are_not_loaded(
    project: Path, tmp_path: Path, address: str
) -> None:
    """A worker goes by the hash that it is given, not by a list of its own."""
    from glombridge.errors import ProtectedError
    from glombridge.scale import open_cluster
    from glombridge.steps.held_model import ask, model_on
    from glombridge.tiles.grid import TileSpec

    weights = tmp_path / "other.pt"
    shutil.copy(project / "glombridge" / "runs" / "train-001" / "weights" / "best.pt", weights)
    with open_cluster(address) as cluster:
        model = model_on(cluster, weights, "0" * 64, "cpu", 1)
        with pytest.raises(ProtectedError, match="SHA-256"):
            ask(cluster, model, TileSpec(128, 128, 0.5, 6.0))


def test_weights_that_nobody_answers_for_stop_at_the_driver(
    project: Path, tmp_path: Path, address: str
) -> None:
    run_folder = tmp_path / "stranger"
    shutil.copytree(project / "glombridge" / "runs" / "train-001", run_folder)
    weights = run_folder / "weights" / "best.pt"
    with weights.open("ab") as file:
        file.write(b"!")
    manifest = json.loads((run_folder / "manifest.json").read_text("utf-8"))
    manifest["weights"]["sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    (run_folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    slide = next((project.parent / "slides").glob("*.tif"))
    out = tmp_path / "out"
    run("detect", slide, "--weights", weights, "--out", out, "-q", "--cluster", address, code=4)


def test_a_gpu_that_no_worker_declares(
    project: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run("detect", project, "--device", "0", "-q", "--cluster", address, code=5)
    assert '--resources "GPU=1"' in capsys.readouterr().err


# Interrupted.


@pytest.mark.parametrize(
    ("command", "where"),
    [("tile", "scheduler"), ("detect", "scheduler"), ("tile", "local:2")],
    ids=["tile", "detect", "tile, with all processes of the terminal"],
)
def test_an_interrupted_run_goes_on(
    project: Path, tmp_path: Path, command: str, where: str, request: pytest.FixtureRequest
) -> None:
    cluster = where if where != "scheduler" else request.getfixturevalue("address")
    arguments = [str(a) for a in (*(TILE if command == "tile" else DETECT), project)]
    run(*arguments, "--out", tmp_path / "one")
    draft, records = {
        "tile": (".{}.partial", "slides/*.json"),
        "detect": ("{}.partial", ".work/0*.json"),
    }[command]

    def start(attempt: int) -> Started:
        name = f"many-{attempt}"
        place = ("--out", tmp_path / name, "--cluster", cluster)
        driver = subprocess.Popen(
            [sys.executable, "-m", "glombridge", *arguments, *place],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        return Started(driver, lambda: any((tmp_path / draft.format(name)).glob(records)))

    def strike(driver: subprocess.Popen[bytes]) -> None:
        if where != "scheduler":
            os.killpg(driver.pid, signal.SIGINT)
        else:
            driver.send_signal(signal.SIGINT)

    attempt, driver, told = caught(start, strike)
    out = tmp_path / f"many-{attempt}"
    partial = tmp_path / draft.format(out.name)
    assert driver.returncode == 130, told
    assert told.strip().endswith("interrupted")
    assert "Traceback" not in told
    assert not out.exists()
    if where == "scheduler":
        with distributed.Client(cluster, set_as_default=False) as client:
            wait_until(
                lambda: (
                    client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)) == 0
                )
            )
    kept = "slides/{}.json" if command == "tile" else "{}.parquet"
    names = [kept.format(record.stem) for record in partial.glob(records)]
    finished = {name: (partial / name).stat().st_mtime_ns for name in names}
    assert finished
    run(*arguments, "--out", out, "--cluster", cluster)
    assert contents(out) == contents(tmp_path / "one")
    assert {name: (out / name).stat().st_mtime_ns for name in names} == finished


@pytest.mark.parametrize("command", ["tile", "detect", "evaluate"])
def test_a_scheduler_that_goes_away_in_the_middle(
    project: Path,
    tmp_path: Path,
    command: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed by the driver when the first slide is on record: at the same place on any machine."""
    kept = project / "glombridge" / "runs" / "train-001" / "evaluation"
    out, straight = tmp_path / "many", tmp_path / "one"
    arguments, records = {
        "tile": ((*TILE, project, "--out", out), tmp_path / ".many.partial" / "slides"),
        "detect": ((*DETECT, project, "--out", out), tmp_path / "many.partial" / ".work"),
        "evaluate": (("evaluate", project, "--no-tiles", "-q"), kept),
    }[command]
    if command == "evaluate":
        shutil.copytree(kept, straight)
        shutil.rmtree(kept)
        out = kept
    else:
        run(*arguments[:-1], straight)
    capsys.readouterr()
    folder = tmp_path / "dask"
    folder.mkdir()
    with running(folder) as processes:
        wait_until(lambda: len(processes.worker_pids()) == 2)

        each = Cluster.each

        def killing(self: Cluster, call: Any, pieces: Any, on_outcome: Any, **options: Any) -> None:
            def killed(outcome: Any) -> None:
                on_outcome(outcome)
                if any(p.name != "plan.json" for p in records.glob("*.json")):
                    processes.scheduler.kill()

            each(self, call, pieces, killed, **options)

        with monkeypatch.context() as patch:
            patch.setattr(Cluster, "each", killing)
            run(*arguments, "--cluster", processes.address, code=7)
    told = capsys.readouterr().err.strip()
    assert "Traceback" not in told
    assert told.splitlines()[-1].endswith(
        "is gone. What is finished stays; start it again, and give the same command."
    )
    finished = {p.name for p in records.glob("*.json") if p.name != "plan.json"}
    assert finished
    if command != "evaluate":
        assert not out.exists()
    # Another scheduler will do.
    run(*arguments, "--cluster", "local:2")
    assert contents(out) == contents(straight)


# What is sent.


def test_workers_are_sent_plain_values_and_no_ledger(
    project: Path, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rooms whose classes are named in what travels: none that opens a project, history or ledger."""
    kinds: set[type] = set()
    rooms: set[str] = set()
    each = Cluster.each

    def watched(self: Cluster, call: Any, pieces: Any, on_outcome: Any, **options: Any) -> None:
        def passing() -> Iterator[Piece[Any]]:
            for piece in pieces:
                kinds.add(type(piece.value))
                strings = [
                    a for _, a, _ in pickletools.genops(pickle.dumps(piece)) if isinstance(a, str)
                ]
                rooms.update(s for s in strings if s.startswith("glombridge."))
                yield piece

        each(self, call, passing(), on_outcome, **options)

    monkeypatch.setattr(Cluster, "each", watched)
    shutil.rmtree(project / "glombridge" / "runs" / "train-001" / "evaluation")
    options = ("-q", "--cluster", address)
    run("tile", project, "--fresh", "--out", tmp_path / "t", *options)
    run("detect", project, "--out", tmp_path / "d", *options)
    run("evaluate", project, "--no-tiles", *options)
    assert {CutOrder, DetectOrder, LookOrder} <= kinds
    allowed = {
        "glombridge.detection", "glombridge.evaluation.calibration", "glombridge.frames",
        "glombridge.objects", "glombridge.placement", "glombridge.qupath.measurements",
        "glombridge.qupath.store", "glombridge.scale", "glombridge.settings", "glombridge.steps",
        "glombridge.tiles",
    }  # fmt: skip
    named = {r for r in rooms if not any(r == a or r.startswith(f"{a}.") for a in allowed)}
    assert named == set()
    assert not any("project" in r.rpartition(".")[2] for r in rooms)


# What docs/scaling.md says.


@contextmanager
def two_hosts() -> Iterator[list[list[str]]]:
    """What to type before a command so that it runs on one of two hosts with a cable between them.

    Each is a network namespace with a name of its own: nothing but the cable and the disk is shared.
    Where this machine lets nobody make them, both are this host.
    """
    spaces = [f"glombridge-{os.getpid()}-{side}" for side in "ab"]
    lines = [["netns", "add", name] for name in spaces]
    cable = ["link", "add", "cable", "netns", spaces[0], "type", "veth"]
    lines.append([*cable, "peer", "name", "cable", "netns", spaces[1]])
    for name, own, other in zip(spaces, (1, 2), (2, 1), strict=True):
        lines += [
            ["-n", name, "addr", "add", f"10.213.0.{own}/24", "dev", "cable"],
            ["-n", name, "link", "set", "cable", "up"],
            ["-n", name, "link", "set", "lo", "up"],
        ]
        lines.append(["-n", name, "route", "add", "default", "via", f"10.213.0.{other}"])
    has_tools = shutil.which("ip") and shutil.which("unshare")
    try:
        made = has_tools and all(
            subprocess.run(["ip", *line], capture_output=True).returncode == 0 for line in lines
        )
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"']
        hosts = [["ip", "netns", "exec", n, *named, f"{n[-1]}-host"] for n in spaces]
        if made and all(
            subprocess.run([*h, "true"], capture_output=True).returncode == 0 for h in hosts
        ):
            yield hosts
        else:
            yield [[], []]
    finally:
        for name in spaces if has_tools else ():
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


@pytest.mark.skipif(sys.platform == "win32", reason="the lines are for a POSIX shell")
def test_the_lines_for_two_machines_work_as_they_stand(project: Path, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "scaling.md").read_text("utf-8")
    section = text.partition("## By hand")[2].partition("A machine with a GPU")[0]
    lines = [
        line.replace("/shared", str(tmp_path)).replace("PROJECT", str(project)).split()
        for block in section.split("```sh\n")[1:]
        for line in block.partition("```")[0].splitlines()
    ]
    assert [line[:2] for line in lines] == [
        *(["dask", "scheduler"], ["dask", "worker"], ["dask", "worker"]),
        *(["glombridge", command] for command in ("tile", "detect", "evaluate")),
    ]
    tools = Path(sys.executable).parent
    env = {
        **os.environ,
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    running: list[subprocess.Popen[bytes]] = []
    with two_hosts() as (first, second):
        try:
            for host, line in zip((first, first, second), lines, strict=False):
                log = (tmp_path / f"{len(running)}.log").open("wb")
                running.append(
                    subprocess.Popen([*host, *line], env=env, cwd=tmp_path, stdout=log, stderr=log)
                )
                wait_until((tmp_path / "scheduler.json").is_file)
            told = ["--json", "--include-test", "--out", str(tmp_path / "told")]
            for line in [*lines[3:], [*lines[4], *told]]:
                done = subprocess.run([*second, *line], env=env, cwd=tmp_path, capture_output=True)
                assert done.returncode == 0, done.stderr.decode()
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait()
    assert (project / "glombridge" / "detections" / "detect-002" / "manifest.json").is_file()
    events = [json.loads(line) for line in done.stderr.decode().splitlines()]
    seen = {e["worker"] for e in events if e["event"] == "slide"}
    assert seen == ({"a-host", "b-host"} if first else {socket.gethostname()})
