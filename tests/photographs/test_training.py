"""The command that trains a scene, and the run that it leaves."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.photographs.training import SceneTraining


def test_a_run_is_continued_from_its_checkpoints(tmp_path: Path) -> None:
    training = SceneTraining(tmp_path / "scene", "gen-langsplat-lite", "abc", tmp_path / "out")
    assert "--load-dir" not in training.words()
    (training.run / "nerfstudio_models").mkdir(parents=True)
    (training.run / "nerfstudio_models/step-000001999.ckpt").touch()
    assert training.words()[-2:] == ["--load-dir", str(training.run / "nerfstudio_models")]


def test_a_run_with_a_report_is_finished(tmp_path: Path) -> None:
    training = SceneTraining(tmp_path, "gen-langsplat-lite", "abc", tmp_path)
    training.run.mkdir(parents=True)
    assert not training.finished
    (training.run / "report.json").touch()
    assert training.finished


def test_a_failed_training_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda words: subprocess.CompletedProcess(words, 3))
    with pytest.raises(GenLangSplatError, match=r"ended with the status 3.*the same command continues"):
        SceneTraining(tmp_path, "gen-langsplat-lite", "abc", tmp_path).train()
