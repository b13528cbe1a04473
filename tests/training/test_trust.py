"""Weights are programs: only those that somebody answers for are loaded."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from glombridge.cli.main import main
from glombridge.detection.detector import Detector
from glombridge.errors import DamagedFileError, InputError, MachineError, ProtectedError
from glombridge.ledger.manifest import sha256_of
from glombridge.training.trust import CONFIG_VARIABLE, require_trust, trust, trust_file, trusted


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "config"))


class Program:
    """What a pickle can do: here it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.mark,))


def weights(folder: Path, content: bytes = b"weights") -> Path:
    file = folder / "best.pt"
    file.write_bytes(content)
    return file


def made_by_run(runs: Path, sha256: str) -> None:
    run = runs / "train-001"
    run.mkdir(parents=True)
    (run / "manifest.json").write_text(json.dumps({"weights": {"sha256": sha256}}))


def test_unknown_weights_are_refused_with_the_way_out(tmp_path: Path) -> None:
    file = weights(tmp_path)
    with pytest.raises(ProtectedError, match=f"programs.*--trust-weights {file}"):
        require_trust(file, tmp_path / "runs")
    with pytest.raises(ProtectedError, match="belongs to no project"):
        require_trust(file, None)
    assert not trust_file().exists()


def test_weights_of_a_run_of_the_project_are_loaded(tmp_path: Path) -> None:
    file = weights(tmp_path)
    made_by_run(tmp_path / "runs", sha256_of(file))
    assert require_trust(file, tmp_path / "runs") == sha256_of(file)
    with pytest.raises(ProtectedError):
        require_trust(file, tmp_path / "another-project")


def test_a_damaged_manifest_vouches_for_nothing(tmp_path: Path) -> None:
    file = weights(tmp_path)
    made_by_run(tmp_path / "runs", sha256_of(file))
    (tmp_path / "runs" / "train-001" / "manifest.json").write_text("{")
    with pytest.raises(ProtectedError):
        require_trust(file, tmp_path / "runs")


def test_trust_goes_by_content_not_by_name(tmp_path: Path) -> None:
    file = weights(tmp_path)
    trust(file, "known")
    renamed = file.rename(tmp_path / "other.pt")
    assert require_trust(renamed, None) == sha256_of(renamed)
    changed = weights(tmp_path, b"something else")
    with pytest.raises(ProtectedError):
        require_trust(changed, None)


def test_the_list_keeps_what_it_has(tmp_path: Path) -> None:
    for k in range(3):
        trust(weights(tmp_path, bytes([k])), f"reason {k}")
    assert [entry["why"] for entry in trusted().values()] == ["reason 0", "reason 1", "reason 2"]


@pytest.mark.parametrize("text", ["{", "[]", '{"weights"'])
def test_a_damaged_list_is_no_empty_list(tmp_path: Path, text: str) -> None:
    trust(weights(tmp_path), "known")
    trust_file().write_text(text)
    with pytest.raises(DamagedFileError, match=r"trusted-weights\.json"):
        require_trust(weights(tmp_path), None)


def test_a_configuration_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "file" / "config"))
    with pytest.raises(MachineError, match=CONFIG_VARIABLE):
        trust(weights(tmp_path), "known")


def test_there_must_be_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no weights file"):
        trust(tmp_path / "nothing.pt", "known")


def test_a_program_in_weights_does_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    file = weights(tmp_path, pickle.dumps(Program(mark)))
    with pytest.raises(ProtectedError):
        Detector(file, cache=tmp_path / "cache", device="cpu")
    assert not mark.exists()
    # Trusted by mistake, it still gets no further than ultralytics' list of classes.
    trust(file, "a mistake")
    with pytest.raises(InputError, match="cannot be loaded"):
        Detector(file, cache=tmp_path / "cache", device="cpu")
    assert not mark.exists()
    pickle.loads(file.read_bytes())
    assert mark.exists(), "the pickle is harmless, so this test shows nothing"


def test_runs_that_happen_to_lie_beside_the_cache_vouch_for_nothing(tmp_path: Path) -> None:
    file = weights(tmp_path)
    made_by_run(tmp_path / "runs", sha256_of(file))
    with pytest.raises(ProtectedError, match="belongs to no project"):
        Detector(file, cache=tmp_path / "cache", device="cpu")
    # Named as the project's runs they do; what is in the file is another matter.
    with pytest.raises(InputError, match="cannot be loaded"):
        Detector(file, cache=tmp_path / "cache", runs=tmp_path / "runs", device="cpu")


@pytest.mark.parametrize("command", ["train", "detect", "evaluate"])
def test_the_command_line_records_trust(tmp_path: Path, command: str) -> None:
    file = weights(tmp_path)
    arguments = [command, str(tmp_path / "no-project"), "--trust-weights", str(file)]
    assert main(arguments) == 3  # there is no project
    assert [entry["why"] for entry in trusted().values()] == ["by --trust-weights"]
    assert main([command, str(tmp_path), "--trust-weights", str(tmp_path / "absent.pt")]) == 3
