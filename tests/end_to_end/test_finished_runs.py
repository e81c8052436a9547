"""Runs finished by earlier versions: every later version opens, evaluates, queries and resumes them.

`tests/fixtures/runs` holds one tiny run of each kind, trained on the gallery of `tiny_scene`. `lift-before-memory` was
written by a version without scene memory, which fitted an autoencoder to the scene.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from nerfstudio.scripts.eval import ComputePSNR
from nerfstudio.utils import eval_utils
from safetensors.torch import load_file

from genlangsplat_ns.cli import main
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.run import open_run
from tests.end_to_end.conftest import make_trainer

RUNS = Path(__file__).parents[1] / "fixtures" / "runs"
KINDS = ("lift", "lift-before-memory", "adam", "compressed", "init-from")
TEXT = "a fox"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def config_path(kind: str, tiny_scene: Path, tmp_path: Path) -> Path:
    """config.yml of a copy of a finished run with the correct data path."""
    folder = tmp_path / "outputs" / "tiny" / "gen-langsplat-lite" / "run"
    shutil.copytree(RUNS / kind, folder)
    path = folder / "config.yml"
    path.write_text(path.read_text().replace("- SCENE\n", f"- {tiny_scene}\n"))
    return path


def test_changed_settings_that_no_longer_exist_are_named(caplog: pytest.LogCaptureFixture) -> None:
    text = (RUNS / "lift" / "config.yml").read_text()
    changed = text.replace("language_gradient_steps: 0", "language_gradient_steps: 2")
    assert changed != text
    model = yaml.load(changed, Loader=yaml.Loader).pipeline.model
    assert "ignored: language_gradient_steps." in caplog.text
    assert model.lifting.robust_rounds == 2 and not hasattr(model, "language_gradient_steps")


def test_relevancy_equals_the_stored_values(config_path: Path, kind: str) -> None:
    scene = open_run(config_path)
    (answer,) = scene.field.find(scene.embed(TextQuery((TEXT,))))
    expected = load_file(RUNS / "relevancy.safetensors")[kind]
    assert expected.std() > 0.01, "a constant would tell nothing"
    torch.testing.assert_close(answer.relevancy, expected, rtol=0, atol=1e-5)


def test_ns_eval_works(config_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The config names its outputs relative to the folder that ns-train ran in.
    monkeypatch.chdir(tmp_path)
    ComputePSNR(load_config=config_path, output_path=tmp_path / "metrics.json").main()
    results = json.loads((tmp_path / "metrics.json").read_text())["results"]
    assert results["psnr"] > 5 and -1 <= results["lang_cosine"] <= 1 and 0 <= results["miou"] <= 1


def test_the_query_command_works(config_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["gen-langsplat", "query", "--load-config", str(config_path), "--text", TEXT, "--split", "eval"]
    monkeypatch.setattr("sys.argv", [*words, "--output-dir", str(tmp_path / "answers")])
    main()
    answers = json.loads((tmp_path / "answers" / "query.json").read_text())["results"]
    assert [answer["text"] for answer in answers] == [TEXT, TEXT]


@pytest.mark.parametrize("kind", ["lift"])
def test_an_error_of_the_disk_names_the_run(config_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch does not name the checkpoint that it reads."""

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(eval_utils, "eval_setup", fail)
    with pytest.raises(GenLangSplatError, match=rf"{config_path.parent} cannot be read \(Input/output error\)\. Check"):
        open_run(config_path)


def test_training_resumes(config_path: Path, tmp_path: Path) -> None:
    config: Any = yaml.load(config_path.read_text(), Loader=yaml.Loader)
    config.load_dir, config.output_dir = config_path.parent / "nerfstudio_models", tmp_path / "resumed"
    config.max_num_iterations += 5
    config.pipeline.model.language_steps = config.pipeline.model.num_language_steps + 5
    trainer = make_trainer(config)
    begun = trainer._start_step
    trainer.train()
    assert trainer.step >= begun + 4
    assert trainer.pipeline.model.in_language_phase and bool(trainer.pipeline.model.latents.any())
