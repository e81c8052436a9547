"""Runs are written as a whole or not at all, and stay as they are when another one is made from them."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.runs import StoredRun, add_checkpoint, read_config, write_beside


@pytest.fixture
def run(tmp_path: Path) -> StoredRun:
    """A run of a made-up method."""
    folder = tmp_path / "outputs" / "run"
    (folder / "models").mkdir(parents=True)
    config = SimpleNamespace(relative_model_dir=Path("models"), load_dir=Path("elsewhere"), timestamp="run")
    (folder / "config.yml").write_text(yaml.dump(config))
    (folder / "dataparser_transforms.json").write_text("{}")
    state = {"step": 7, "pipeline": {"_model.a": torch.ones(2), "other": torch.ones(1)}, "optimizers": {"a": {}}}
    torch.save(state, folder / "models" / "step-000000007.ckpt")
    return StoredRun(folder / "config.yml", folder / "models" / "step-000000007.ckpt")


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_checkpoint_is_added_one_step_later_with_everything_but_the_model_kept(run: StoredRun) -> None:
    before = run.checkpoint.read_bytes()
    path = add_checkpoint(run, {"a": torch.zeros(3)})
    assert path.name == "step-000000008.ckpt" and run.checkpoint.read_bytes() == before
    state = torch.load(path, weights_only=True)
    assert state["step"] == 8 and state["optimizers"] == {"a": {}}
    assert set(state["pipeline"]) == {"_model.a", "other"} and len(state["pipeline"]["_model.a"]) == 3
    assert names(run.folder / "models") == [run.checkpoint.name, path.name]


def test_a_run_is_written_beside_with_its_frame_and_is_not_a_resumed_one(run: StoredRun) -> None:
    config: Any = run.read_config()
    written = write_beside(run, run.folder.with_name("other"), {"step": 7}, config)
    assert names(written.parent) == ["config.yml", "dataparser_transforms.json", "models/step-000000007.ckpt"]
    assert read_config(written).load_dir is None and run.read_config().load_dir == Path("elsewhere")


def test_a_failure_leaves_nothing_behind(run: StoredRun, monkeypatch: pytest.MonkeyPatch) -> None:
    before = names(run.folder.parent)

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copy", full)
    with pytest.raises(OSError, match="No space"):
        write_beside(run, run.folder.with_name("other"), {"step": 7}, run.read_config())
    assert names(run.folder.parent) == before and not run.folder.with_name("other").exists()


def test_the_folder_of_a_run_is_not_its_config(run: StoredRun) -> None:
    with pytest.raises(GenLangSplatError, match=r"is the folder of a run\. Give .*run/config\.yml"):
        read_config(run.folder)


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match=r"no .*nowhere\.yml.*ns-train"):
        read_config(tmp_path / "nowhere.yml")


@pytest.mark.parametrize("text", ["a: [", "!!python/object:not_installed.Config {}", "\x00"])
def test_an_unreadable_config_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yml"
    path.write_text(text)
    with pytest.raises(GenLangSplatError, match=r"config\.yml (cannot be read|is no YAML) .*ns-train wrote"):
        read_config(path)
