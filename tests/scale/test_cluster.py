"""Work on slides here and on a real Dask cluster: the same outcomes, whatever happens to workers."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed
import psutil
import pytest
from dask_processes import Processes, running, wait_until
from pieces_of_work import VERSION, die_at, double, refuse_odd, rest, version_here

from glombridge.errors import (
    DamagedFileError,
    InputError,
    MachineError,
    MissingComponentError,
    UsageError,
)
from glombridge.scale import (
    Cluster,
    OneMachine,
    OtherVersionError,
    Outcome,
    Piece,
    Workplace,
    open_cluster,
)
from glombridge.scale import cluster as driver


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with running(tmp_path_factory.mktemp("dask")) as found:
        yield found


@pytest.fixture(scope="module")
def shared(processes: Processes) -> Iterator[Cluster]:
    with open_cluster(str(processes.file)) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: Cluster) -> Cluster:
    """With both workers there, also after a test that killed one."""
    wait_until(lambda: len(shared.workers()) == 2)
    return shared


@pytest.fixture(params=["one machine", "cluster"])
def place(request: pytest.FixtureRequest) -> Workplace:
    return OneMachine() if request.param == "one machine" else request.getfixturevalue("cluster")


def numbers(*values: Any) -> list[Piece[Any]]:
    return [Piece(f"slide {k}", value) for k, value in enumerate(values)]


def tasks_there(client: Any) -> int:
    return int(client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)))


# The same on one machine and on many.


def test_each_piece_has_one_outcome(place: Workplace) -> None:
    found: list[Outcome[int, int]] = []
    told: list[tuple[str, int, int]] = []
    place.each(
        double,
        numbers(*range(20)),
        found.append,
        on_progress=lambda piece, done, of: told.append((piece.name, done, of)),
    )
    assert {(o.piece.value, o.result) for o in found} == {(k, 2 * k) for k in range(20)}
    assert len(found) == 20
    assert all(o.error is None for o in found)
    assert ("slide 0", 0, 3) in told


def test_one_that_fails_does_not_stop_the_others(place: Workplace) -> None:
    found: list[Outcome[int, int]] = []
    place.each(refuse_odd, numbers(0, 1, 2, 3), found.append)
    assert sorted(o.piece.value for o in found if o.error is None) == [0, 2]
    assert sorted((type(o.error), str(o.error)) for o in found if o.error)[0] == (
        InputError,
        "1 is odd",
    )


def test_nothing_to_do(place: Workplace) -> None:
    found: list[Outcome[int, int]] = []
    place.each(double, [], found.append)
    assert found == []


# How much is on its way.


def test_never_more_than_two_pieces_per_worker_are_handed_out(
    cluster: Cluster, processes: Processes, tmp_path: Path
) -> None:
    """Counted at the scheduler, by somebody else."""
    seen: list[int] = []
    taken: list[int] = []
    ahead: list[int] = []
    stop = threading.Event()
    watcher = distributed.Client(processes.address, set_as_default=False)

    def watch() -> None:
        while not stop.is_set():
            seen.append(tasks_there(watcher))
            time.sleep(0.005)

    def pieces() -> Iterator[Piece[tuple[Path, float]]]:
        for k in range(24):
            taken.append(k)
            yield Piece(f"slide {k}", (tmp_path / f"{k}.txt", 0.03))

    def done(outcome: Outcome[Any, int]) -> None:
        found.append(outcome)
        ahead.append(len(taken) - len(found))

    found: list[Outcome[Any, int]] = []
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        cluster.each(rest, pieces(), done)
    finally:
        stop.set()
        thread.join()
        watcher.close()
    assert len(found) == 24
    assert max(seen) == 4
    assert max(ahead) <= 5  # nor is the source asked for more than the next one


# Workers that die.


def test_a_worker_killed_in_the_middle_costs_nothing(
    cluster: Cluster, processes: Processes, tmp_path: Path
) -> None:
    found: list[Outcome[Any, int]] = []
    notes = [tmp_path / f"{k}.txt" for k in range(6)]

    def kill() -> None:
        wait_until(notes[0].is_file)
        os.kill(int(notes[0].read_text().split()[0]), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    cluster.each(rest, numbers(*((n, 0.5) for n in notes)), found.append)
    thread.join()
    assert [o.error for o in found] == [None] * 6
    first, second, done = notes[0].read_text().split()
    assert (first != second, done) == (True, "done")
    assert {o.result for o in found if o.piece.value[0] == notes[0]} == {int(second)}


def test_a_slide_that_kills_its_workers_is_named_and_the_others_go_on(cluster: Cluster) -> None:
    found: list[Outcome[Any, int]] = []
    cluster.each(die_at, numbers(*((k, 3) for k in range(8))), found.append)
    bad = [o for o in found if o.error is not None]
    assert [o.piece.name for o in bad] == ["slide 3"]
    assert "2 workers ended while they worked on it and on nothing else" in str(bad[0].error)
    assert sorted(o.result for o in found if o.error is None) == [0, 1, 2, 4, 5, 6, 7]


# Workers that are not as they should be.


def test_a_file_that_a_worker_does_not_see(cluster: Cluster, tmp_path: Path) -> None:
    there, absent = tmp_path / "there.svs", tmp_path / "absent.svs"
    there.touch()
    found: list[Outcome[int, int]] = []
    cluster.each(double, [Piece("a", 1, (there,)), Piece("b", 2, (absent,))], found.append)
    good, bad = sorted(found, key=lambda o: o.piece.name)
    assert good.result == 2
    assert isinstance(bad.error, InputError)
    for word in (socket.gethostname(), str(absent), "mount"):
        assert word in str(bad.error)


def test_workers_of_another_version_are_refused(tmp_path: Path) -> None:
    with running(tmp_path, workers=1) as processes, open_cluster(processes.address) as cluster:
        bad = processes.add_worker(env={VERSION: "0.9"})
        wait_until(lambda: len(cluster.workers()) == 2)
        found: list[Outcome[int, int]] = []
        with pytest.raises(OtherVersionError, match=r"some library 0\.9 instead of 1\.0") as caught:
            cluster.each(double, numbers(1), found.append, facts=version_here)
        assert "1 of 2 workers" in str(caught.value)
        assert found == []

        # One that comes later is asked with its first piece, which then goes to another.
        bad.terminate()
        wait_until(lambda: len(cluster.workers()) == 1)

        def late(outcome: Outcome[int, int]) -> None:
            found.append(outcome)
            if len(found) == 1:
                processes.add_worker(env={VERSION: "0.9"})
                wait_until(lambda: len(cluster.workers()) == 2)

        cluster.each(double, numbers(*range(12)), late, facts=version_here)
        assert sorted(o.result for o in found) == [2 * k for k in range(12)]


def test_the_model_goes_where_a_gpu_is_declared_and_the_rest_anywhere(tmp_path: Path) -> None:
    with running(tmp_path, workers=1) as processes, open_cluster(processes.address) as cluster:
        assert not cluster.has_gpus
        processes.add_worker("--resources", "GPU=1", "--name", "with-gpu")
        wait_until(lambda: len(cluster.workers()) == 2)
        assert cluster.has_gpus
        where: dict[bool, set[int]] = {}
        for with_model in (True, False):
            found: list[Outcome[Any, int]] = []
            notes = [tmp_path / f"{with_model}{k}.txt" for k in range(6)]
            pieces = numbers(*((n, 0.1) for n in notes))
            cluster.each(rest, pieces, found.append, with_model=with_model)
            where[with_model] = {o.result for o in found if o.result is not None}
        assert len(where[True]) == 1
        assert len(where[False]) == 2


# The end.


def test_an_interruption_leaves_nothing_behind(cluster: Cluster, tmp_path: Path) -> None:
    notes = [tmp_path / f"{k}.txt" for k in range(12)]

    def interrupt(_: Outcome[Any, int]) -> None:
        raise KeyboardInterrupt

    pieces = numbers((notes[0], 0.1), *((n, 30.0) for n in notes[1:]))
    with pytest.raises(KeyboardInterrupt):
        cluster.each(rest, pieces, interrupt)
    # Also what was being worked on has ended long before its 30 seconds were over.
    wait_until(lambda: tasks_there(cluster._client) == 0)
    wait_until(lambda: all(len(n.read_text().split()) == 2 for n in notes if n.exists()), 10)
    ends = [n.read_text().split()[1] for n in notes if n.exists()]
    assert ends[0] == "done"
    assert set(ends[1:]) == {"stopped"}
    found: list[Outcome[int, int]] = []
    cluster.each(double, numbers(4), found.append)
    assert found[0].result == 8


def test_a_scheduler_that_goes_away(tmp_path: Path) -> None:
    with running(tmp_path, workers=1) as processes, open_cluster(processes.address) as cluster:
        note = tmp_path / "note.txt"

        def kill() -> None:
            wait_until(note.is_file)
            processes.scheduler.kill()

        thread = threading.Thread(target=kill)
        thread.start()
        with pytest.raises(MachineError, match=r"is gone\. What is finished stays"):
            cluster.each(rest, numbers((note, 30.0)), lambda _: None)
        thread.join()


def test_a_scheduler_that_was_gone_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the connection is known to be lost by then or not."""
    monkeypatch.setattr(driver, "CONNECT_SECONDS", 1)
    with running(tmp_path, workers=1) as processes, open_cluster(processes.address) as cluster:
        processes.scheduler.kill()
        for _ in range(2):
            with pytest.raises(MachineError, match=r"is gone\. What is finished stays"):
                cluster.each(double, numbers(1), lambda _: None)
            wait_until(lambda: cluster._client.status == "closed")


def test_an_end_that_comes_after_the_scheduler_s_is_still_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing can be taken back from a scheduler that is gone, and Dask's tracebacks are not ours."""
    monkeypatch.setattr(driver, "CONNECT_SECONDS", 1)

    def refuse(_: Outcome[Any, int]) -> None:
        processes.scheduler.kill()
        wait_until(lambda: cluster._client.status == "closed")
        msg = "the disk is full"
        raise MachineError(msg)

    with (
        running(tmp_path, workers=1) as processes,
        open_cluster(processes.address) as cluster,
        pytest.raises(MachineError, match="the disk is full"),
    ):
        cluster.each(double, numbers(*range(4)), refuse)
    assert [r.name for r in caplog.records if r.name.startswith("distributed")] == []


def test_no_worker_comes_back(tmp_path: Path) -> None:
    with running(tmp_path, workers=0) as processes:
        worker = processes.add_worker("--no-nanny")
        with open_cluster(processes.address) as cluster:
            cluster.patience_seconds = 1.0
            note = tmp_path / "note.txt"

            def kill() -> None:
                wait_until(note.is_file)
                worker.kill()

            thread = threading.Thread(target=kill)
            thread.start()
            with pytest.raises(MachineError, match="no worker of"):
                cluster.each(rest, numbers((note, 30.0)), lambda _: None)
            thread.join()


# Where there is none.

FILES = {
    "empty.json": "",
    "other.json": "{}",
    "cut.json": '{"address": "tcp',
    "list.json": "[1]",
    "number.json": '{"address": 5}',
    "old.json": '{"address": "tcp://127.0.0.1:9"}',
}


@pytest.mark.parametrize(
    ("where", "error", "says"),
    [
        pytest.param("tcp://127.0.0.1:9", MachineError, "dask scheduler", id="nobody answers"),
        pytest.param("nonsense://x", UsageError, "unknown address scheme", id="no scheme"),
        pytest.param("nowhere", UsageError, "missing port number", id="no port"),
        pytest.param("", UsageError, "--cluster HOST:PORT", id="an unset variable"),
        pytest.param("no.json", MachineError, "no Dask scheduler has written", id="no file"),
        pytest.param("empty.json", MachineError, "no Dask scheduler has written", id="not filled"),
        pytest.param("other.json", DamagedFileError, "has no 'address'", id="another file"),
        pytest.param("cut.json", DamagedFileError, "scheduler file of Dask", id="a cut file"),
        pytest.param("list.json", DamagedFileError, "scheduler file of Dask", id="a list"),
        pytest.param("number.json", UsageError, "missing port number", id="a file without one"),
        pytest.param("old.json", MachineError, "dask scheduler", id="of one that is gone"),
        pytest.param("local:many", UsageError, "local:4", id="no number"),
        pytest.param("local:0", UsageError, "1 or more", id="none"),
    ],
)
def test_no_such_cluster(
    where: str,
    error: type[Exception],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(driver, "CONNECT_SECONDS", 1)
    begun = {thread.name for thread in threading.enumerate()}
    with pytest.raises(error, match=says), open_cluster(where):
        pass
    if error is not MachineError:
        # Dask has not even begun: what it begins without an address it takes a minute to end.
        assert {thread.name for thread in threading.enumerate()} <= begun


def test_a_scheduler_file_that_is_being_written(tmp_path: Path, processes: Processes) -> None:
    text = processes.file.read_text("utf-8")
    file = tmp_path / "scheduler.json"
    with file.open("w") as stream:
        stream.write(text[:20])
        stream.flush()
        rest_of_it = threading.Timer(0.3, lambda: (stream.write(text[20:]), stream.flush()))
        rest_of_it.start()
        with open_cluster(str(file)) as cluster:
            assert len(cluster.workers()) == 2
        rest_of_it.join()


@pytest.mark.parametrize(
    "address", ["ws://127.0.0.1:9/path", "inproc://127.0.0.1/1/1", "tls://[::1]:9", "127.0.0.1:9"]
)
def test_addresses_of_any_kind(address: str) -> None:
    assert driver._address(address) == address


def test_others_hear_dask_as_before(processes: Processes) -> None:
    dask = logging.getLogger("distributed.client")
    before = dask.level
    with open_cluster(processes.address):
        assert dask.level == logging.CRITICAL
    assert dask.level == before


def test_without_dask_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(MissingComponentError, match=r'pip install "glombridge\[cluster\]"'),
        open_cluster("local"),
    ):
        pass


def test_processes_of_this_machine_listen_on_this_machine_only() -> None:
    me = psutil.Process()
    others = {child.pid for child in me.children(recursive=True)}
    with open_cluster("local:2") as cluster:
        found: list[Outcome[int, int]] = []
        cluster.each(refuse_odd, numbers(2, 4), found.append)
        assert sorted(o.result for o in found) == [2, 4]
        assert [w["nthreads"] for w in cluster.workers().values()] == [1, 1]
        assert all(w["memory_limit"] for w in cluster.workers().values())
        listening = [
            c.laddr
            for process in (me, *me.children(recursive=True))
            if process.pid not in others
            for c in process.net_connections()
            if c.status == psutil.CONN_LISTEN
        ]
        assert len(listening) >= 3
        assert {address.ip for address in listening} == {"127.0.0.1"}
        assert 8787 not in {address.port for address in listening}
