"""Finished runs on disk: opening one, adding a checkpoint to it, and writing a new run made from it.

Files are written atomically. nerfstudio's configs name the classes they are made of, so open only runs you trust; see
`trust`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.checkpoints import load_checkpoint
from genlangsplat_ns.scene_io.stored_paths import exists, find_moved
from genlangsplat_ns.scene_io.trust import read_text, warn_of_distrust
from genlangsplat_ns.utils.files import atomic_folder, atomic_path, write_state

MODEL = "_model."
"""Prefix of the model's entries in a checkpoint."""

TRANSFORMS = "dataparser_transforms.json"
"""Where nerfstudio stores the frame of a run."""


@dataclass(frozen=True)
class StoredRun:
    """A run on disk: its config.yml and the checkpoint that is opened."""

    config_path: Path
    checkpoint: Path
    data: Path | None = None
    """Folder of its data, if it moved since the training."""
    experiment: str | None = None
    """The name of the experiment, which is that of the data unless another was given."""

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return self.config_path.resolve().parent

    def read_config(self) -> Any:
        """Builds the nerfstudio config of the run."""
        return read_config(self.config_path, self.data)

    def load_state(self, mmap: bool = False) -> dict[str, Any]:
        """Loads the checkpoint on the CPU; `mmap` maps the file into memory instead of reading it."""
        return load_checkpoint(self.checkpoint, mmap)


def read_config(config_path: Path, data: Path | None = None) -> Any:
    """Builds a nerfstudio config from the config.yml of a run, whose `data` may have moved since the training.

    Raises:
        GenLangSplatError: There is no such file, or it is no config.yml that can be read here.
    """
    if (config_path / "config.yml").is_file():
        raise GenLangSplatError(f"{config_path} is the folder of a run. Give {config_path / 'config.yml'}.")
    if not config_path.is_file():
        raise GenLangSplatError(f"There is no {config_path}. Give the config.yml that ns-train wrote.")
    text = read_text(config_path)
    warn_of_distrust(config_path)
    try:
        config: Any = yaml.load(text, Loader=yaml.Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise GenLangSplatError(
            f"{config_path} cannot be read ({reason}). Expected the config.yml that ns-train wrote; if it names a "
            "package, install that package."
        ) from error
    if data is not None:
        config.data = config.pipeline.datamanager.data = config.pipeline.datamanager.dataparser.data = data.absolute()
    return config


def add_checkpoint(run: StoredRun, model: Mapping[str, Any]) -> Path:
    """Adds a checkpoint, one step after the one that was opened, and returns its path; commands then open the new one.

    The optimizers' state is kept, so that training can go on with more steps.
    """
    state = run.load_state()
    step = int(state["step"]) + 1
    pipeline = {name: value for name, value in state["pipeline"].items() if not name.startswith(MODEL)}
    pipeline |= {MODEL + name: value for name, value in model.items()}
    path = run.checkpoint.with_name(f"step-{step:09d}.ckpt")
    # nerfstudio takes every file beside the checkpoints for one, so the temporary file lies elsewhere.
    with atomic_path(path, within=run.folder) as temporary:
        write_state(temporary, {**state, "step": step, "pipeline": pipeline})
    return path


def write_beside(run: StoredRun, folder: Path, state: Mapping[str, Any], config: Any, overwrite: bool = False) -> Path:
    """Writes a new run made from another one, which stays as it is, and returns the config.yml of the new run."""
    # The new run was not resumed; nerfstudio would look for the old run's step among the new checkpoints.
    config.load_dir = config.load_step = config.load_checkpoint = None
    with atomic_folder(folder, overwrite) as temporary:
        models = temporary / config.relative_model_dir
        models.mkdir(parents=True)
        write_state(models / run.checkpoint.name, state)
        (temporary / "config.yml").write_text(yaml.dump(config), encoding="utf-8")
        if (run.folder / TRANSFORMS).is_file():
            shutil.copy(run.folder / TRANSFORMS, temporary)
    return folder / "config.yml"


def name_data(run: StoredRun, folder: Path, config: Any) -> None:
    """Changes the config of a new run in `folder`, made from `run`, if its relative path does not lead to the data."""
    manager = config.pipeline.datamanager
    stored = Path(manager.data or manager.dataparser.data)
    data = find_moved(stored, run.folder, run.read_config().get_base_dir())
    if exists(data) and find_moved(stored, folder, folder).resolve() != data.resolve():
        config.data = manager.data = manager.dataparser.data = data.resolve()
