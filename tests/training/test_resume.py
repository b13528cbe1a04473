"""A training that was killed goes on as if nothing had happened; one seed gives one set of weights."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from killed import OPTIONS
from tiny_dataset import write_tiny_dataset

from glombridge.errors import DamagedFileError, InputError, ProtectedError
from glombridge.training import RunFolder, resume, train
from glombridge.training.checkpoint import STATE, load_state
from glombridge.training.run_folder import WORK

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills by a POSIX signal")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("trained")
    write_tiny_dataset(base / "data")
    return base


@pytest.fixture(scope="module")
def whole(base: Path) -> str:
    """Hash of the weights that an uninterrupted training gives."""
    return train(base / "data", base / "whole", OPTIONS, cache=base / "cache").sha256


def kill(folder: Path, at: float, **changes: Any) -> None:
    program = [sys.executable, str(Path(__file__).parent / "killed.py"), str(folder), str(at)]
    done = subprocess.run([*program, json.dumps(changes)], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def copy_data(base: Path, tmp_path: Path) -> Path:
    return write_tiny_dataset(tmp_path / "data")


def test_killed_again_and_again_it_gives_the_same_bytes(
    base: Path, whole: str, tmp_path: Path
) -> None:
    copy_data(base, tmp_path)
    # In the middle of the first, second and third epoch, and when the last has just been saved.
    for at, finished in ((0.6, None), (1.5, 0), (2.4, 1), (4.0, 3)):
        kill(tmp_path, at)
        state = load_state(tmp_path / "killed" / WORK)
        assert (state and state["epoch"]) == finished
    assert not (tmp_path / "killed" / "manifest.json").exists()
    result = resume(tmp_path / "killed", cache=tmp_path / "cache")
    assert result.sha256 == whole
    assert not (tmp_path / "killed" / WORK).exists()
    curves = [line.split(",") for line in result.run.joinpath("results.csv").read_text().split()]
    expected = [line.split(",") for line in (base / "whole" / "results.csv").read_text().split()]
    # All but the second column, which tells the time.
    assert [[*c[:1], *c[2:]] for c in curves] == [[*c[:1], *c[2:]] for c in expected]
    manifest = json.loads((result.run / "manifest.json").read_text())
    assert manifest["resumed_after_epoch"] == 4


def test_what_is_kept_is_what_a_training_needs(base: Path, tmp_path: Path) -> None:
    copy_data(base, tmp_path)
    kill(tmp_path, 2.5)
    work = tmp_path / "killed" / WORK
    state = load_state(work)
    assert state is not None
    assert state["epoch"] == 1
    # 13 tiles in batches of 4 are 4 steps an epoch, each of which updates the average.
    assert state["updates"] == 8
    steps = {int(values["step"]) for values in state["optimizer"]["state"].values()}
    assert steps == {8}
    weights = [v for v in state["model"].values() if v.is_floating_point()]
    assert {v.dtype for v in weights} == {torch.float32}, "half precision would be another training"
    assert any(
        not torch.equal(state["model"][k], v)
        for k, v in state["ema"].items()
        if v.is_floating_point()
    )


def test_a_training_on_outlines_resumes_alike(tmp_path: Path) -> None:
    data = write_tiny_dataset(tmp_path / "data", task="segment")
    expected = train(data, tmp_path / "whole", OPTIONS, cache=tmp_path / "cache")
    kill(tmp_path, 1.5)
    result = resume(tmp_path / "killed", cache=tmp_path / "cache")
    assert result.sha256 == expected.sha256
    manifest = json.loads((result.run / "manifest.json").read_text("utf-8"))
    assert (manifest["task"], manifest["resumed_after_epoch"]) == ("segment", 1)
    curves = (result.run / "results.csv").read_text("utf-8").splitlines()[0]
    assert "train/seg_loss" in curves
    assert "metrics/mAP50(M)" in curves


@pytest.mark.slow
@pytest.mark.parametrize("model", ["yolo26n", "yolo11n"])
def test_larger_models_for_outlines_resume_alike(tmp_path: Path, model: str) -> None:
    data = write_tiny_dataset(tmp_path / "data", task="segment")
    changes = {"model": model, "pretrained": False}
    options = replace(OPTIONS, **changes)
    expected = train(data, tmp_path / "whole", options, cache=tmp_path / "cache")
    kill(tmp_path, 1.5, **changes)
    assert resume(tmp_path / "killed", cache=tmp_path / "cache").sha256 == expected.sha256


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"validate": False}, id="without-validation"),
        pytest.param({"model": "yolo26n", "pretrained": False}, id="end-to-end-loss"),
        pytest.param({"model": "rtdetr-l", "pretrained": False, "epochs": 3}, id="transformer"),
        pytest.param({"threads": 2}, id="two-threads"),
    ],
)
def test_other_trainings_resume_alike(base: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    data = copy_data(base, tmp_path)
    options = replace(OPTIONS, **changes)
    expected = train(data, tmp_path / "whole", options, cache=tmp_path / "cache")
    kill(tmp_path, 1.5, **changes)
    kill(tmp_path, 2.5, **changes)
    assert resume(tmp_path / "killed", cache=tmp_path / "cache").sha256 == expected.sha256


@pytest.mark.slow
def test_gradients_gathered_over_batches_do_not_outlive_an_epoch(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 64 tiles a step, as on a large dataset: more than an epoch has here.
    from glombridge.training import arguments

    data = copy_data(base, tmp_path)
    monkeypatch.setattr(arguments, "SMALL_DATASET_TILES", 1)
    expected = train(data, tmp_path / "whole", OPTIONS, cache=tmp_path / "cache")
    (tmp_path / "sitecustomize.py").write_text(
        "from glombridge.training import arguments\narguments.SMALL_DATASET_TILES = 1\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    kill(tmp_path, 2.5)
    state = load_state(tmp_path / "killed" / WORK)
    assert state is not None
    assert state["updates"] < 8
    assert resume(tmp_path / "killed", cache=tmp_path / "cache").sha256 == expected.sha256


def test_one_seed_gives_one_set_of_weights_and_another_another(base: Path, whole: str) -> None:
    again = train(base / "data", base / "again", OPTIONS, cache=base / "cache")
    assert again.sha256 == whole
    other = train(base / "data", base / "other", replace(OPTIONS, seed=4), cache=base / "cache")
    assert other.sha256 != whole


def test_nobody_resumes_what_cannot_go_on(base: Path, whole: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is finished; there is nothing to resume"):
        resume(base / "whole", cache=base / "cache")
    with pytest.raises(InputError, match="no training that was begun"):
        resume(tmp_path, cache=base / "cache")
    with pytest.raises(ProtectedError, match=r"already\. Choose another folder"):
        train(base / "data", base / "whole", OPTIONS, cache=base / "cache")


def test_an_unfinished_training_is_guarded(base: Path, tmp_path: Path) -> None:
    data = copy_data(base, tmp_path)
    kill(tmp_path, 1.2)
    run = tmp_path / "killed"
    with pytest.raises(ProtectedError, match="Give --resume"):
        train(data, run, OPTIONS, cache=tmp_path / "cache")
    with (
        RunFolder(run).continued(),
        pytest.raises(ProtectedError, match="being trained by another process"),
    ):
        resume(run, cache=tmp_path / "cache")
    label = data / "labels" / "train" / "s_3.txt"
    text = label.read_text()
    label.write_text("0 0.500000 0.500000 0.300000 0.300000\n")
    with pytest.raises(InputError, match="its files have changed"):
        resume(run, cache=tmp_path / "cache")
    label.write_text(text)
    state = run / WORK / STATE
    state.write_bytes(state.read_bytes()[:-1000])
    with pytest.raises(DamagedFileError, match="cannot be read"):
        resume(run, cache=tmp_path / "cache")


def test_a_full_disk_leaves_the_last_epoch_whole(base: Path, whole: str, tmp_path: Path) -> None:
    pytest.importorskip("resource")
    copy_data(base, tmp_path)
    kill(tmp_path, 1.5)
    size = (tmp_path / "killed" / WORK / STATE).stat().st_size
    # No file may grow larger than that: writing fails as it does on a full disk.
    code = (
        "import resource, sys; from pathlib import Path; from glombridge.training import resume; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2); "
        "resume(Path(sys.argv[1]) / 'killed', cache=Path(sys.argv[1]) / 'cache')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(size // 2)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert "MachineError: training " in done.stderr
    assert "--resume" in done.stderr
    state = load_state(tmp_path / "killed" / WORK)
    assert state is not None
    assert state["epoch"] == 0
    del state
    assert resume(tmp_path / "killed", cache=tmp_path / "cache").sha256 == whole
