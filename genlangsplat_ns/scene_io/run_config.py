"""Reads the config.yml of a run of any method without instantiating the classes in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from shlex import quote
from typing import Any, Literal

import yaml
from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.stored_paths import PATH_TAGS, construct_path
from genlangsplat_ns.scene_io.trust import read_text
from genlangsplat_ns.utils.json_files import integer_of, list_of, object_of, text_of

CLASS = "<class>"
"""Key of a mapping that holds the class name of the object in the file."""

FRAME_SETTINGS = (
    "orientation_method",
    "center_method",
    "auto_scale_poses",
    "scale_factor",
    "assume_colmap_world_coordinate_convention",
)
"""Dataparser settings that determine the coordinate frame of the scene."""

SPLIT_SETTINGS = ("eval_mode", "train_split_fraction", "eval_interval")
"""Dataparser settings that determine which views are held out."""

UNSTATED = ("_target", "data", "load_3D_points")
"""Settings of a dataparser that are not given after the name of the format."""


class _PlainLoader(yaml.SafeLoader):
    """Reads objects as mappings and lists. nerfstudio's own loader runs any code that a file names."""


def _plain(loader: _PlainLoader, kind: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return {CLASS: kind.partition(":")[2], **loader.construct_mapping(node, deep=True)}
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return kind.partition(":")[2]


def _parts(loader: _PlainLoader, node: yaml.Node) -> list[str]:
    return list(construct_path(loader, node).parts)


_PlainLoader.add_multi_constructor("tag:yaml.org,2002:python/", _plain)
for _tag in PATH_TAGS:
    _PlainLoader.add_constructor(_tag, _parts)


@dataclass(frozen=True)
class RunConfig:
    """The settings of a run that are needed to start another run from its Gaussians."""

    path: Path
    method: str
    """Name of the method, such as splatfacto."""
    data: Path | None
    checkpoints: Path
    """Folder of its checkpoints."""
    model: dict[str, Any]
    """Settings of the model; nested ones are mappings."""
    dataparser: dict[str, Any]
    """Settings of the dataparser, with the class of its config under `CLASS`."""
    seed: int | None = None

    @property
    def camera_mode(self) -> Literal["off", "SO3xR3", "SE3"]:
        """Mode of the camera optimizer."""
        mode: Literal["off", "SO3xR3", "SE3"] = (self.model.get("camera_optimizer") or {}).get("mode", "off")
        return mode

    def differs(self, dataparser: DataParserConfig, settings: tuple[str, ...]) -> bool:
        """Whether the run used another dataparser, or other values of those settings that both configs have."""
        return self.dataparser.get(CLASS) != _class_name(dataparser) or any(
            self.dataparser[name] != _as_stored(getattr(dataparser, name))
            for name in settings
            if name in self.dataparser and hasattr(dataparser, name)
        )

    def dataparser_words(self) -> str:
        """Returns the dataparser arguments for the end of an ns-train command that reproduce the frame of this run."""
        unknown = f"the dataparser with the config class {self.dataparser.get(CLASS)} and the settings in {self.path}"
        return _words(self.dataparser, stated=FRAME_SETTINGS) or unknown


def read_run_config(path: Path) -> RunConfig:
    """Reads a config.yml, which may come from an untrusted source.

    Raises:
        GenLangSplatError: The file is not a config.yml written by ns-train.
    """
    try:
        stored = _settings_in(yaml.load(read_text(path), Loader=_PlainLoader), "the file")
        pipeline = _settings_in(stored.get("pipeline"), "pipeline")
        datamanager = _settings_in(pipeline.get("datamanager"), "datamanager")
        dataparser = _settings_in(datamanager.get("dataparser"), "dataparser")
        data = stored.get("data") or datamanager.get("data") or dataparser.get("data")
        seed = _settings_in(stored.get("machine") or {}, "machine").get("seed")
        model = _settings_in(pipeline.get("model"), "model")
        _settings_in(model.get("camera_optimizer") or {}, "camera_optimizer")
        return RunConfig(
            path=path,
            method=text_of(stored.get("method_name"), "method_name"),
            data=_path(data) if data else None,
            checkpoints=path.parent / _path(stored.get("relative_model_dir")),
            model=model,
            dataparser=dataparser,
            seed=None if seed is None else integer_of(seed, "seed"),
        )
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise GenLangSplatError(
            f"{path} cannot be read as the config.yml of a run ({type(error).__name__}: {error}); expected the file "
            "that ns-train writes to a run's folder. Use that file."
        ) from error


def _settings_in(value: Any, name: str) -> dict[str, Any]:
    """Returns settings, whose names must be texts; raises ValueError."""
    settings = object_of(value, name)
    for key in settings:
        text_of(key, f"a name in {name}")
    return settings


def dataparser_words(config: DataParserConfig) -> str:
    """Returns the dataparser arguments for the end of an ns-train command that reads the same data in the same way.

    They are empty for nerfstudio's format with its defaults.
    """
    words = _words(_settings(config))
    if words is None:
        raise GenLangSplatError(f"nerfstudio has no data format with the settings {type(config).__name__}. Install it.")
    return "" if words == "nerfstudio-data" else words


def _words(settings: dict[str, Any], stated: Sequence[str] = ()) -> str | None:
    """Returns the arguments for stored settings, those that differ from their defaults or are always stated."""
    # Imported here because nerfstudio imports all plugins, this package among them, to build this table.
    from nerfstudio.configs.dataparser_configs import all_dataparsers

    for name, default in all_dataparsers.items():
        usual = _settings(default)
        if usual[CLASS] == settings.get(CLASS):
            known = {key for key in usual if key in settings and key not in UNSTATED}
            keys = [key for key in stated if key in known]
            keys += [key for key in usual if key in known.difference(keys) and settings[key] != usual[key]]
            return " ".join([name, *(f"--{key.replace('_', '-')} {_argument(settings[key])}" for key in keys)])
    return None


def _settings(config: DataParserConfig) -> dict[str, Any]:
    """Returns the settings of a dataparser as they are stored."""
    return {CLASS: _class_name(config)} | {item.name: _as_stored(getattr(config, item.name)) for item in fields(config)}


def _class_name(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _path(stored: Any) -> Path:
    """Converts a path from nerfstudio's format, a list of parts, or from a string; raises ValueError."""
    parts = [stored] if isinstance(stored, str) else list_of(stored, "a path")
    return Path(*(text_of(part, "a part of a path") for part in parts))


def _as_stored(value: Any) -> Any:
    """Converts a setting to the form in which `_PlainLoader` reads it."""
    if isinstance(value, Path):
        return list(value.parts)
    return list(value) if isinstance(value, tuple) else value


def _argument(value: Any) -> str:
    """Formats a stored setting as a command-line argument."""
    if not isinstance(value, list):
        return quote(str(value))
    if all(isinstance(item, str) for item in value):
        return quote(str(Path(*value)))
    return " ".join(quote(str(item)) for item in value)
