"""``train`` as a user types it: resumed after a kill, from an earlier run, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typed import run, run_json

from glombridge.ledger import Workspace, running_qupath
from glombridge.steps.project import Project
from glombridge.steps.train import options_of
from glombridge.training import RunFolder, TrainOptions, finished_alike, train
from glombridge.training.checkpoint import load_state
from glombridge.training.start import OWN_MODELS
from glombridge.training.trust import trusted


@pytest.mark.skipif(sys.platform == "win32", reason="kills by a POSIX signal")
def test_a_killed_training_is_resumed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = project / "glombridge" / "runs"
    work = runs / "train-002" / "work"
    kill_in_training(work, "train", str(project), "--epochs", "200")
    # Twenty times as long as it needs: nobody waits for that. What was asked for is in the plan.
    plan = json.loads((work / "plan.json").read_text())
    assert plan["options"]["epochs"] == 200
    plan["options"]["epochs"] = 6
    (work / "plan.json").write_text(json.dumps(plan))
    capsys.readouterr()
    assert run("status", project, "--json") == 0
    status = json.loads(capsys.readouterr().out)
    assert status["newest"]["train"] == "train-001"
    state = load_state(work)
    assert state is not None
    done = status["unfinished"]["epochs_done"]
    # The state is written first; a kill between the two leaves the number one behind.
    assert state["epoch"] <= done <= state["epoch"] + 1
    del state
    assert status["unfinished"] == {
        "run": "train-002",
        "epochs_done": done,
        "epochs": 6,
        "is_running": False,
    }
    assert status["next"] == f"glombridge train {project} --resume"
    assert run("status", project) == 0
    assert f"training train-002 was interrupted after epoch {done} of 6" in words(capsys)
    with RunFolder(runs / "train-002").continued():
        assert run("status", project) == 0
        assert f"train-002 is running: {done} of at most 6 epochs" in words(capsys)
    result = run_json(capsys, "train", project, "--resume")
    assert (result["run"], result["epochs"] >= 1) == ("train-002", True)
    manifest = json.loads((runs / "train-002" / "manifest.json").read_text())
    assert manifest["resumed_after_epoch"] >= 1
    assert not work.exists()
    history = (project / "glombridge" / "history.jsonl").read_text().splitlines()
    event = json.loads(history[-1])
    assert (event["event"], event["run"], event["resumed"]) == ("train", "train-002", True)
    assert run("train", project, "--resume") == 3
    assert "no training that was interrupted" in capsys.readouterr().err
    assert run("status", project) == 0
    assert "interrupted" not in words(capsys)


def kill_in_training(work: Path, *arguments: str) -> None:
    """Run a command and kill it when the first epoch of its training has been saved."""
    command = [sys.executable, "-m", "glombridge", *arguments, "-q"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 300
        while not (work / "progress.json").is_file():
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)


def words(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed, without the breaks of lines that a narrow terminal makes."""
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.skipif(sys.platform == "win32", reason="kills by a POSIX signal")
def test_a_killed_round_goes_on_with_its_training(
    project: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    runs = project / "glombridge" / "runs"
    kill_in_training(runs / "train-002" / "work", "round", str(project))
    result = run_json(capsys, "round", project)
    assert result["train"]["run"] == "train-002"
    resumed = json.loads((runs / "train-002" / "manifest.json").read_text())
    assert resumed["resumed_after_epoch"] >= 1
    # What nothing had happened to gives the same.
    whole = run_json(capsys, "train", project)
    assert whole["sha256"] == result["train"]["weights_sha256"]
    # Asked for something else, it does not go on with what was asked for before.
    kill_in_training(runs / "train-004" / "work", "round", str(project))
    settings = project / "glombridge" / "glombridge.toml"
    text = settings.read_text("utf-8")
    assert text.count("epochs = 40") == 1
    settings.write_text(text.replace("epochs = 40", "epochs = 2"), "utf-8")
    capsys.readouterr()
    assert run("round", project) == 0
    assert "training train-004 was interrupted, but options changed since" in caplog.text
    anew = json.loads((runs / "train-005" / "manifest.json").read_text())
    assert (anew["epochs"], anew["resumed_after_epoch"]) == (2, None)
    status = run_json(capsys, "status", project)
    assert status["unfinished"]["run"] == "train-004"
    assert "--resume" not in status["next"], "a later one is finished"


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "at",
    [
        pytest.param("training.run_folder.RunFolder.clear", id="before its leftovers are gone"),
        pytest.param("steps.train._record", id="before it is on record"),
        pytest.param("steps.round.evaluate", id="while evaluating"),
        pytest.param("steps.round.push", id="before anything is pushed"),
    ],
)
def test_a_round_interrupted_after_its_training_does_not_train_again(
    at: str, project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(project)
    before = {p.name for p in workspace.runs.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(f"glombridge.{at}", interrupt)
        assert run("round", project, "-q") == 130
    (made,) = {p.name for p in workspace.runs.iterdir()} - before
    weights = (workspace.runs / made / "weights" / "best.pt").read_bytes()
    told = run_json(capsys, "round", project)["train"]
    assert told["run"] == made
    assert {p.name for p in workspace.runs.iterdir()} == before | {made}
    assert (workspace.runs / made / "weights" / "best.pt").read_bytes() == weights
    assert not (workspace.runs / made / "work").exists()
    events = [e for e in workspace.history.events("train") if e["run"] == made]
    assert [e["weights_sha256"] for e in events] == [told["weights_sha256"]]
    assert told["weights_sha256"] in trusted()


def test_a_round_beside_a_qupath_says_so_before_it_trains(
    project: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The push, which is refused, may be a night away."""
    monkeypatch.setattr(running_qupath, "running_qupath", lambda: [4711])
    monkeypatch.setattr("glombridge.steps.round.tile", interrupt)
    assert run("round", project, "-q") == 130
    (said,) = [r.getMessage() for r in caplog.records if "4711" in r.getMessage()]
    assert "--while-qupath-runs" in said
    caplog.clear()
    assert run("round", project, "-q", "--while-qupath-runs") == 130
    assert "4711" not in caplog.text


def other_epochs(_: Path, options: TrainOptions) -> TrainOptions:
    return replace(options, epochs=options.epochs + 1)


def other_seed(_: Path, options: TrainOptions) -> TrainOptions:
    return replace(options, seed=options.seed + 1)


def other_model(_: Path, options: TrainOptions) -> TrainOptions:
    return replace(options, model="yolo11n", pretrained=False)


def other_start(run: Path, options: TrainOptions) -> TrainOptions:
    # As if published weights had come onto the machine, or gone from it, since.
    return edited(run, options, "start", {"kind": "published", "model": "a.pt", "sha256": "0"})


def other_versions(run: Path, options: TrainOptions) -> TrainOptions:
    return edited(run, options, "environment", {"glombridge": "0.0"})


def other_dataset(run: Path, options: TrainOptions) -> TrainOptions:
    return edited(run, options, "dataset", {"manifest_sha256": "0"})


def edited(run: Path, options: TrainOptions, key: str, value: object) -> TrainOptions:
    manifest = run / "manifest.json"
    told = json.loads(manifest.read_text("utf-8"))
    assert told[key] != value
    manifest.write_text(json.dumps({**told, key: value}), "utf-8")
    return options


def other_weights(run: Path, options: TrainOptions) -> TrainOptions:
    with (run / "weights" / "best.pt").open("ab") as file:
        file.write(b"x")
    return options


def no_weights(run: Path, options: TrainOptions) -> TrainOptions:
    (run / "weights" / "best.pt").unlink()
    return options


CHANGES = [
    *(other_epochs, other_seed, other_model, other_start, other_versions, other_dataset),
    *(other_weights, no_weights),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_finished_training_is_another_one(
    change: Callable[[Path, TrainOptions], TrainOptions], project: Path
) -> None:
    workspace = Workspace(project)
    (newest,) = workspace.runs.glob("train-*")
    dataset = workspace.latest_run(workspace.datasets, "tiles")
    assert dataset is not None
    where = {"cache": workspace.cache, "runs": workspace.runs}
    options = options_of(Project.open(project))
    same = finished_alike(newest, dataset, options, **where)
    assert same is not None
    assert same.run == newest
    # On which device it is to run says nothing about what it is.
    assert finished_alike(newest, dataset, replace(options, device="0"), **where) == same
    options = change(newest, options)
    assert finished_alike(newest, dataset, options, **where) is None


def test_a_model_of_ones_own_is_always_trained(project: Path, tmp_path: Path) -> None:
    workspace = Workspace(project)
    dataset = workspace.latest_run(workspace.datasets, "tiles")
    assert dataset is not None
    own = tmp_path / "own.yaml"
    shutil.copy(OWN_MODELS["glom-pico"], own)
    options = replace(options_of(Project.open(project)), model=str(own))
    where = {"cache": workspace.cache, "runs": workspace.runs}
    result = train(dataset, workspace.runs / "train-002", replace(options, epochs=1), **where)
    assert finished_alike(result.run, dataset, replace(options, epochs=1), **where) is None


def test_the_next_round_goes_on_from_the_last(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run_json(capsys, "train", project, "--from", "train-001", "--epochs", 1)
    runs = project / "glombridge" / "runs"
    first = json.loads((runs / "train-001" / "manifest.json").read_text())
    second = json.loads((runs / "train-002" / "manifest.json").read_text())
    assert second["start"]["sha256"] == first["weights"]["sha256"]
    assert result["sha256"] == second["weights"]["sha256"] in trusted()


def test_training_on_a_dataset_without_a_project(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = next((project / "glombridge" / "datasets").glob("tiles-*"))
    options = ["--model", "glom-pico", "--epochs", 1, "--batch", 4, "--device", "cpu"]
    result = run_json(capsys, "train", "--data", data, "--out", tmp_path / "run", *options)
    assert Path(result["weights"]).is_file()
    assert run("train", "--data", data, "--out", tmp_path / "run", *options) == 4
    assert "holds a training already" in capsys.readouterr().err


def test_weights_that_were_sent_by_somebody_need_trust(
    project: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Another person's configuration, who trained nothing here.
    monkeypatch.setenv("GLOMBRIDGE_CONFIG_DIR", str(tmp_path / "config"))
    sent = tmp_path / "sent"
    shutil.copytree(project / "glombridge" / "runs" / "train-001", sent)
    slide = next((project.parent / "slides").glob("*.tif"))
    weights = sent / "weights" / "best.pt"
    command = ["detect", slide, "--weights", weights, "--out", tmp_path / "found", "-q"]
    assert run(*command) == 4
    error = capsys.readouterr().err
    assert "weights are programs" in error
    assert f"--trust-weights {weights}" in error
    assert run(*command, "--trust-weights", weights) == 0
    shutil.rmtree(tmp_path / "found")
    assert run(*command) == 0, "once is enough"
    # In the project that made them they need no trust.
    assert run("detect", project, "--out", tmp_path / "here", "-q") == 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        pytest.param(["--resume", "--epochs", "3"], 2, "--resume goes on", id="resume-otherwise"),
        pytest.param(["--resume"], 3, "no training that was interrupted", id="nothing-to-resume"),
        pytest.param(["--preset", "paper"], 3, "1600 x 1200 px", id="not-the-papers-tiles"),
        pytest.param(["--from", "train-009"], 3, "train-009", id="no-such-run"),
        pytest.param(["--from", "train-001", "--model", "x"], 2, "leave --model out", id="both"),
        pytest.param(["--device", "99"], 3, "no GPU 99", id="no-such-gpu"),
        pytest.param(["--data", "{tmp}"], 3, "not a finished dataset", id="no-dataset"),
        pytest.param(["--from", "train-001", "--from-scratch"], 2, "leave --pretrained", id="or"),
        pytest.param(["--out", "{tmp}/run"], 2, "--out goes with --data alone", id="out"),
        pytest.param(["--learning-rate", "0"], 2, "learning-rate", id="no-rate"),
        pytest.param(["--learning-rate", "nan"], 2, "'nan' is no number", id="nan"),
    ],
)
def test_refused(
    project: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    says: str,
) -> None:
    filled = [a.format(tmp=tmp_path) for a in arguments]
    capsys.readouterr()
    assert run("train", project, *filled) == code
    captured = capsys.readouterr()
    assert says in captured.err
    assert "Traceback" not in captured.err
    assert not (project / "glombridge" / "runs" / "train-002").exists()
