"""`gen-langsplat compress`: a copy of a run with compressed latents, which opens like any other run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from genlangsplat_ns.commands.compress import Compress
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.run import open_run
from genlangsplat_ns.scene import compression, labels, metrics
from genlangsplat_ns.scene.init_from import open_geometry
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene_io.checkpoints import latest_checkpoint
from tests.end_to_end.conftest import make_config, make_trainer
from tests.end_to_end.stock_runs import trained_gaussians
from tests.scene_io.gaussian_fakes import same_bits


def compress(config_path: Path, encoding: Any, *text: str) -> Path:
    """Runs the command and returns the config.yml of the new run."""
    Compress(load_config=config_path, to=encoding, text=text)()
    return config_path.parent.with_name(f"{config_path.parent.name}-{encoding}") / "config.yml"


@pytest.fixture
def run_config(tiny_run: LanguageScene, tmp_path: Path) -> Path:
    """config.yml of a copy of the finished run."""
    return Path(shutil.copytree(tiny_run.stored.folder, tmp_path / "outputs" / "run")) / "config.yml"


def files(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("encoding", "size"), [("fp16", 2), ("int8", 1)])
def test_a_compressed_run_opens_and_gives_nearly_the_same_answers(
    tiny_run: LanguageScene, run_config: Path, capsys: pytest.CaptureFixture, encoding: str, size: int
) -> None:
    before = files(run_config.parent)
    compress(run_config, encoding, "a cat", "a rocket")
    output = " ".join(capsys.readouterr().out.split())
    assert files(run_config.parent) == before, "the run itself has changed"

    written = run_config.parent.with_name(f"run-{encoding}")
    assert sorted(path.name for path in written.parent.iterdir()) == ["run", written.name]
    assert set(files(written)) == {
        Path("config.yml"),
        Path("dataparser_transforms.json"),
        Path("nerfstudio_models") / tiny_run.stored.checkpoint.name,
    }
    checkpoint = latest_checkpoint(written / "nerfstudio_models")
    assert checkpoint is not None
    state = torch.load(checkpoint, weights_only=True)
    model = tiny_run.model
    assert state["pipeline"]["_model.gauss_params.latents"].nbytes == model.latents.numel() * size
    assert not state["optimizers"] and len(files(written)[checkpoint.relative_to(written)]) < 0.6 * sum(
        map(len, before.values())
    )

    scene, original = open_run(written / "config.yml"), open_run(run_config)
    assert same_bits(open_geometry(written / "config.yml").gaussians, trained_gaussians(tiny_run))
    seen = original.model.latents.any(dim=-1)
    assert scene.model.latents.dtype == torch.float32 and torch.equal(scene.model.latents.any(dim=-1), seen)
    assert (scene.model.latents - original.model.latents).norm(dim=-1).max() < 0.016
    view = scene.views("eval")[0]
    answers = [opened.ask("a cat", view).map for opened in (scene, original)]
    assert 0 < (answers[0] - answers[1]).abs().max() < 0.1

    for expected in ("checkpoint", "cosine of latents", "miou"):
        for word in expected.split():
            assert word in output
    assert "4 pairs of view and text (a cat; a rocket)" in output


def test_the_labels_are_read_once_for_both_scenes(
    run_config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Else a disk that fails in between leaves the metrics of one scene without a counterpart."""
    readings = iter([labels.usable_labels])
    for module in (compression, metrics):
        monkeypatch.setattr(module, "usable_labels", lambda *arguments: next(readings)(*arguments))
    compress(run_config, "fp16", "a cat")
    assert "miou" in capsys.readouterr().out


def test_a_compressed_run_is_resumed_with_new_optimizers(
    tiny_run: LanguageScene, tiny_scene: Path, run_config: Path
) -> None:
    compressed = compress(run_config, "int8", "a cat")
    config = yaml.load(compressed.read_text(), Loader=yaml.Loader)
    config.load_dir = compressed.parent / "nerfstudio_models"
    config.output_dir = run_config.parents[3] / "resumed"
    config.max_num_iterations += 5
    config.pipeline.model.language_solver, config.pipeline.model.language_steps = "adam", 6
    trainer = make_trainer(config)
    begun = trainer.pipeline.model.latents.detach().clone()
    trainer.train()
    assert not torch.equal(trainer.pipeline.model.latents, begun)


def test_nothing_is_overwritten_or_compressed_twice(run_config: Path) -> None:
    kept = run_config.parent.with_name("run-fp16")
    (kept / "nerfstudio_models").mkdir(parents=True)
    with pytest.raises(GenLangSplatError, match=r"run-fp16 exists already.*Remove it"):
        compress(run_config, "fp16")
    kept.rename(kept.with_name("other"))
    compressed = compress(run_config, "fp16", "a cat")
    with pytest.raises(GenLangSplatError, match=r"stores its latents as torch.float16 already"):
        compress(compressed, "int8", "a cat")
    assert sorted(path.name for path in run_config.parents[1].iterdir()) == ["other", "run", "run-fp16"]


def test_a_failure_leaves_no_files(run_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copy", full)
    with pytest.raises(OSError, match="No space"):
        compress(run_config, "int8", "a cat")
    assert [path.name for path in run_config.parents[1].iterdir()] == ["run"]


def test_a_run_without_a_language_phase_is_refused(tiny_scene: Path, tmp_path: Path) -> None:
    trainer = make_trainer(make_config(tiny_scene, tmp_path))
    trainer.save_checkpoint(7)
    with pytest.raises(GenLangSplatError, match="no language phase yet"):
        compress(trainer.base_dir / "config.yml", "int8")
    with pytest.raises(GenLangSplatError, match=r"There is no .*nowhere.yml"):
        compress(tmp_path / "nowhere.yml", "int8")
    assert [path.name for path in trainer.base_dir.parent.iterdir()] == ["run"]
