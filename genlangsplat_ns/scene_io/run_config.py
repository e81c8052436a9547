"""The config.yml of a run of any method, read without building anything that it names."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import yaml
from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig

from genlangsplat_ns.errors import GenLangSplatError

CLASS = "<class>"
"""Entry of a mapping that says of which class it would be an object."""

FRAME_SETTINGS = (
    "orientation_method",
    "center_method",
    "auto_scale_poses",
    "scale_factor",
    "assume_colmap_world_coordinate_convention",
)
"""Settings of a dataparser on which the frame of the scene depends."""

SPLIT_SETTINGS = ("eval_mode", "train_split_fraction", "eval_interval")
"""Settings of a dataparser on which it depends which views are held out."""


class _PlainLoader(yaml.SafeLoader):
    """Reads objects as mappings and lists: nerfstudio's own loader runs whatever a file names."""


def _plain(loader: _PlainLoader, kind: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return {CLASS: kind.partition(":")[2], **loader.construct_mapping(node, deep=True)}
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return kind.partition(":")[2]


_PlainLoader.add_multi_constructor("tag:yaml.org,2002:python/", _plain)


@dataclass(frozen=True)
class RunConfig:
    """What matters of a run to another one that begins with its Gaussians."""

    path: Path
    """The config.yml."""
    method: str
    """Name of the method, such as splatfacto."""
    data: Path | None
    """The data it was trained on."""
    checkpoints: Path
    """Folder of its checkpoints."""
    model: dict[str, Any]
    """Settings of the model; nested ones are mappings."""
    dataparser: dict[str, Any]
    """Settings of the dataparser, and under `CLASS` the class of its config."""
    seed: int | None = None
    """What training was seeded with."""

    @property
    def camera_mode(self) -> Literal["off", "SO3xR3", "SE3"]:
        """Mode of the camera optimizer."""
        mode: Literal["off", "SO3xR3", "SE3"] = (self.model.get("camera_optimizer") or {}).get("mode", "off")
        return mode

    def differs(self, dataparser: DataParserConfig, settings: tuple[str, ...]) -> bool:
        """Whether the run had another dataparser, or one with other values for some settings.

        Args:
            dataparser: The config to compare with.
            settings: Which of its settings to look at; those that either of the two lacks do not count.
        """
        return self.dataparser.get(CLASS) != _class_name(dataparser) or any(
            self.dataparser[name] != _as_stored(getattr(dataparser, name))
            for name in settings
            if name in self.dataparser and hasattr(dataparser, name)
        )

    def dataparser_words(self) -> str:
        """The dataparser and its flags for the end of an ns-train command, which put another scene into this frame."""
        # nerfstudio imports plugins while it builds this table, and this package is one.
        from nerfstudio.configs.dataparser_configs import all_dataparsers

        for name, default in all_dataparsers.items():
            if _class_name(default) == self.dataparser.get(CLASS):
                usual = {item.name: _as_stored(getattr(default, item.name)) for item in fields(default)}
                changed = [key for key, value in usual.items() if self.dataparser.get(key, value) != value]
                told = [key for key in FRAME_SETTINGS if key in self.dataparser and key in usual]
                told += [key for key in changed if key not in (*told, "_target", "data", "load_3D_points")]
                words = [f"--{key.replace('_', '-')} {_word(self.dataparser[key])}" for key in told]
                return " ".join([name, *words])
        return f"the dataparser of {self.dataparser.get(CLASS)} with the settings in {self.path}"


def read_run_config(path: Path) -> RunConfig:
    """Reads a config.yml.

    Args:
        path: The file, which need not be trusted.

    Raises:
        GenLangSplatError: The file is no config.yml that ns-train wrote.
    """
    try:
        stored = yaml.load(path.read_text(encoding="utf-8"), Loader=_PlainLoader)
        datamanager = stored["pipeline"]["datamanager"]
        data = stored.get("data") or datamanager.get("data") or datamanager["dataparser"].get("data")
        return RunConfig(
            path=path,
            method=str(stored["method_name"]),
            data=_path(data) if data else None,
            checkpoints=path.parent / _path(stored["relative_model_dir"]),
            model=dict(stored["pipeline"]["model"]),
            dataparser=dict(datamanager["dataparser"]),
            seed=(stored.get("machine") or {}).get("seed"),
        )
    except (OSError, yaml.YAMLError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise GenLangSplatError(
            f"{path} cannot be read as the config.yml of a run ({type(error).__name__}: {error}). Expected the file "
            "that ns-train writes into a run's folder."
        ) from error


def _class_name(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _path(stored: str | list[str]) -> Path:
    """A path as nerfstudio stores it, in parts, or as a person writes it."""
    return Path(stored) if isinstance(stored, str) else Path(*stored)


def _as_stored(value: Any) -> Any:
    """A setting as `_PlainLoader` reads it from a file."""
    if isinstance(value, Path):
        return list(value.parts)
    return list(value) if isinstance(value, tuple) else value


def _word(value: Any) -> str:
    """A stored setting as a word on the command line."""
    if not isinstance(value, list):
        return str(value)
    return str(Path(*value)) if all(isinstance(item, str) for item in value) else " ".join(map(str, value))
